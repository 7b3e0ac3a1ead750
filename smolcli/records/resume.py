"""What a results file holds already: --resume goes on where the run that wrote it ended, whatever ended it.

    results = Results(Path("out.jsonl"), identity)
    results.mend()                                      # a torn last line
    results.read()
    results.state("a.png")                              # by its path and stamp, unread
    results.answer(id)                                  # the record of the same content under another path
    results.add(record, offset)

Of a record 48 bytes are kept in memory; the record itself is read again where its answer is wanted.
"""

from __future__ import annotations

import json
import os
import re
from binascii import unhexlify
from collections.abc import Hashable, Iterator
from pathlib import Path
from threading import Lock
from typing import IO, Any, Literal

from smolcli.errors import OutputError, UsageError
from smolcli.records.offset_index import OffsetIndex
from smolcli.records.record_id import Identity
from smolcli.system.atomic_file import atomic_write
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Fault, Memory, Record, Seconds, Tokens
from smolcli.writers.destination import alone

# The beginning of a line as writers/json_lines.py makes it, and its end; any other line is read as JSON.
_BEGINNING = re.compile(
    rb'\{"path": "([^"\\]*)", "id": "([0-9a-f]{64})", "sha256": "([0-9a-f]*)", "stamp": "([^"\\]*)", '
)
_NO_ERROR = b'"error": null}\n'
_START = b'{"path": "'
FAILED = -1
LARGE = 2**25  # bytes; some 70,000 records, read in half a second
State = Literal["new", "done", "failed"]  # of an input, by the records there are
_TAIL = 2**16


class ResultsFile:
    """The records of one job in a JSON Lines file, those of other jobs in it left alone."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path, self._identity = path, identity
        self._lock = Lock()  # inputs are looked up in another thread than records are added
        self._index = OffsetIndex()  # of (path, stamp), (path, id) and id: the byte where the record begins, or FAILED
        self._failures: dict[bytes, int] = {}  # of a path: the byte where its failed record begins
        self._outdated: set[int] = set()  # failed records with a later one of the same path

    @property
    def is_large(self) -> bool:
        """Whether it takes a while to read."""
        return self._path.exists() and self._path.stat().st_size > LARGE

    def repair_torn_tail(self) -> int:
        """Ends the file with its last whole line; how many bytes of a torn one were cut off.

        Raises UsageError for a file that holds something else than records or that another run writes to, OutputError
        where it cannot be mended.
        """
        if not self._path.exists():
            return 0
        try:
            with self._path.open("r+b") as file:
                alone(file.fileno(), self._path)
                return _repair_torn_tail(file, self._path)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be resumed ({error.strerror})", "check its rights") from error

    def read(self) -> None:
        """Learns what the file holds. Raises UsageError for a file that holds something else than records."""
        with self._path.open("rb", buffering=2**20) as file:
            self._index.load(self._rows(file))

    def state(self, path: str, mark: str | None = None) -> State:
        """Of the file `path`, unread: whether it has a record and is, by its stamp, what it was then."""
        mark = stamp_of(path) if mark is None else mark
        with self._lock:
            found = _state(self._index.find((_bytes(path), mark.encode())))
        return found if mark or found == "failed" else "new"  # what is no file has to be read

    def state_of(self, path: str, id: str, mark: str = "") -> State:
        """The same once it was read: whether there is a record of this path and id, or of this file unchanged."""
        with self._lock:
            found = self._index.find((_bytes(path), bytes.fromhex(id)))
            if found is None and mark:
                found = self._index.find((_bytes(path), mark.encode()))
        return _state(found)

    def answer(self, id: str) -> Record | None:
        """The record of an answer with this id, under whatever path."""
        with self._lock:
            at = self._index.find(bytes.fromhex(id))
        if at is None or at == FAILED:
            return None
        with self._path.open("rb") as file:
            file.seek(at)
            return as_record(json.loads(file.readline()))

    def add(self, record: Record, at: int) -> None:
        """A record that was written at the byte `at` of the file."""
        mark, id = record.stamp.encode(), bytes.fromhex(record.id)
        with self._lock:
            by_stamp, by_id, answer = self._learned(_bytes(record.path), id, mark, at, record.error is not None)
            for key, number in (by_stamp if mark else by_id, answer):  # by its stamp it is known before it is read
                self._index.add(key, number)

    def compact(self) -> None:
        """Writes the file anew without failed records that have a later one of the same path, if there are any.

        The new file is whole before it takes the old one's place. Raises OutputError, the old file being as it was.
        """
        if not self._outdated:
            return
        place = Path(os.path.realpath(self._path))
        try:
            with place.open("rb") as old:
                alone(old.fileno(), self._path)
                with atomic_write(place, sync=True, keep_mode=True) as new:
                    self._copy(old, new)
        except OSError as error:
            what = f"{self._path}: failed records that were made again cannot be taken out ({error.strerror})"
            raise OutputError(what, "it is whole, with both") from error

    def _copy(self, old: IO[bytes], new: IO[bytes]) -> None:
        at = 0
        for line in old:
            if at not in self._outdated:
                new.write(line)
            at += len(line)

    def _rows(self, file: IO[bytes]) -> Iterator[tuple[Hashable, int]]:
        digest_of, at = self._identity.digest_of, 0
        for line in file:
            if line[0] or line.strip(b"\0\r\n"):  # a power cut may leave zeros
                path, id, sha256, mark, failed = _parts(line, self._path)
                if id == digest_of(sha256):
                    yield from self._learned(path, id, mark, at, failed)
            at += len(line)

    def _learned(self, path: bytes, id: bytes, mark: bytes, at: int, failed: bool) -> tuple[tuple[Hashable, int], ...]:
        """What goes into the index of a record."""
        if self._failures and (before := self._failures.get(path)) is not None and before != at:
            self._outdated.add(before)
        if failed:
            self._failures[path] = at
            at = FAILED
        return ((path, mark), at), ((path, id), at), (id, at)


def _state(at: int | None) -> State:
    if at is None:
        return "new"
    return "failed" if at == FAILED else "done"


def as_record(fields: dict[str, Any]) -> Record:
    """A record from its JSON."""
    fields = dict(fields)
    error = fields.pop("error")
    tokens, seconds = Tokens(**fields.pop("tokens")), Seconds(**fields.pop("seconds"))
    notices, memory = tuple(fields.pop("notices", ())), Memory(**fields.pop("memory", {}))
    fault = Fault(**error) if error else None
    return Record(**fields, tokens=tokens, seconds=seconds, error=fault, notices=notices, memory=memory)


def _parts(line: bytes, source: Path) -> tuple[bytes, bytes, bytes, bytes, bool]:
    """Path, id (32 bytes), SHA-256 in hex, stamp of a line's record, and whether it failed."""
    match = _BEGINNING.match(line)
    if match:
        path, id, sha256, mark = match.groups()
        return path, unhexlify(id), sha256, mark, not line.endswith(_NO_ERROR)
    try:
        fields = json.loads(line)
        id, sha256, mark = (fields.get(key, "").encode() for key in ("id", "sha256", "stamp"))
        return _bytes(fields["path"]), unhexlify(id), sha256, mark, fields["error"] is not None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _foreign(source) from None


def _repair_torn_tail(file: IO[bytes], source: Path) -> int:
    """Ends a file with its last whole line; how many bytes of a torn record, or of zeros, were cut off."""
    size = start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        start = max(0, start - _TAIL)
        file.seek(start)
        tail = file.read(size - start)
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last:
        return 0
    if not (last.startswith(_START) or _START.startswith(last) or not last.strip(b"\0")):
        raise _foreign(source)
    try:
        json.loads(last)
    except ValueError:
        file.truncate(size - len(last))
        return len(last)
    file.seek(0, os.SEEK_END)
    file.write(b"\n")  # whole but for its end
    return 0


def _foreign(source: Path) -> UsageError:
    return UsageError(f"{source}: holds something else than records", "choose another file with -o")


def _bytes(path: str) -> bytes:
    """A path as it stands in the file, whatever the locale."""
    return path.encode("utf-8", "surrogateescape")
