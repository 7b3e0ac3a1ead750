"""The answers of one run by the content of their inputs, so that the same picture is answered once.

    answers = RunAnswers()
    answers.add(record)
    answers.answer(record.id)           # the record again, or None

Like ResultsFile, it keeps 16 bytes an answer in memory; the records themselves are in a temporary file once they are
over MAX_BYTES_IN_MEMORY, some 600 bytes each.
"""

from __future__ import annotations

import pickle
import tempfile

from smolcli.records.offset_index import OffsetIndex
from smolcli.types import Record

MAX_BYTES_IN_MEMORY = 2**24


class RunAnswers:
    """Keeps records that have an answer. Where the temporary file cannot be written, it keeps no more of them."""

    def __init__(self) -> None:
        self._index = OffsetIndex()  # id -> offset of the pickled record
        self._file = tempfile.SpooledTemporaryFile(MAX_BYTES_IN_MEMORY, prefix="smolcli-")
        self._is_writable = True

    def add(self, record: Record) -> None:
        """Keep a record, unless it failed."""
        if record.error is not None or not self._is_writable:
            return
        try:
            offset = self._file.seek(0, 2)
            pickle.dump(record, self._file, pickle.HIGHEST_PROTOCOL)
        except OSError:  # a full disk, or no temporary folder: later copies of a picture are answered anew
            self._is_writable = False
        else:
            self._index.add(bytes.fromhex(record.id), offset)

    def answer(self, id: str) -> Record | None:
        """Return the record of an input with this id, of any path, or None."""
        offset = self._index.find(bytes.fromhex(id))
        if offset is None:
            return None
        try:
            self._file.seek(offset)
            record: Record = pickle.load(self._file)
        except (OSError, EOFError, pickle.UnpicklingError):  # a full disk has cut it short
            return None
        return record if record.id == id else None  # the index knows an id by 64 bits of it

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()
