"""A writer turns records into one format, on one stream."""

from __future__ import annotations

from typing import TextIO

from smolcli.types import Record


class Writer:
    """The base of every format: `write` is called once a record; `close` once, at the end.

    `many` says whether more than one record may come, `blocks` whether answers have lines. As a context manager it
    closes itself, but not if the run failed before its first record: then nothing at all is written.
    """

    begun = False  # whether a record was written; for a format that has to end what it began

    def __init__(self, stream: TextIO, many: bool = False, blocks: bool = False) -> None:
        self.stream = stream
        self.many = many
        self.blocks = blocks

    def piece(self, text: str) -> None:
        """A bit of the one answer, as it is made; only the format text shows it."""

    @property
    def position(self) -> int:
        """The byte of a file where the next record will begin."""
        return self.stream.tell()

    def write(self, record: Record) -> None:
        """One whole record, flushed."""
        raise NotImplementedError

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or self.begun:
            self.close()

    def close(self) -> None:
        """What the format needs after the last record."""


class NullWriter(Writer):
    """Writes nothing, where sidecars are all that is wanted."""

    def write(self, record: Record) -> None: ...
