"""The base class of every output format."""

from __future__ import annotations

from typing import TextIO

from smolcli.types import Record


class Writer:
    """Writes records to one stream in one format: `write` once a record, `close` once at the end.

    `has_many` says whether more than one record may come, which may turn out before the first one is written;
    `is_multiline` whether answers have several lines. As a context manager it closes itself, unless the run failed
    before its first record: then nothing is written.
    """

    has_written = False  # whether there was a record, for a format that must end what it began

    def __init__(self, stream: TextIO, has_many: bool = False, is_multiline: bool = False) -> None:
        self.stream = stream
        self.has_many = has_many
        self.is_multiline = is_multiline

    def write_piece(self, text: str) -> None:
        """Show a piece of the answer while it is generated; only the format text does."""

    @property
    def position(self) -> int:
        """The byte offset in the file at which the next record will begin."""
        return self.stream.tell()

    def write(self, record: Record) -> None:
        """Write one whole record and flush the stream. Raises OutputError, or BrokenPipeError if nobody reads it."""
        raise NotImplementedError

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or self.has_written:
            self.close()

    def close(self) -> None:
        """Write what the format needs after the last record; the stream stays open."""


class NullWriter(Writer):
    """Writes nothing, for a run that only makes sidecars."""

    def write(self, record: Record) -> None: ...
