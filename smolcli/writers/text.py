"""The format text: the bare answer, `path: answer`, or blocks under headings."""

from __future__ import annotations

from typing import TextIO

from smolcli.types import Record
from smolcli.writers.base import Writer


class Text(Writer):
    """Of one input the bare answer, streamed on a terminal; errors are not written here."""

    def __init__(self, stream: TextIO, many: bool = False, blocks: bool = False) -> None:
        super().__init__(stream, many, blocks)
        self._streams = not many and stream.isatty()
        self._shown = ""
        self._first = True

    def piece(self, text: str) -> None:
        if self._streams:
            text = text if self._shown else text.lstrip()
            self._shown += text
            self.stream.write(text)
            self.stream.flush()

    def write(self, record: Record) -> None:
        if record.error is not None:
            if self._shown:
                self.stream.write("\n")
        elif not self.many:
            rest = record.text.removeprefix(self._shown.rstrip())
            self.stream.write((rest if record.text.startswith(self._shown.rstrip()) else f"\n{record.text}") + "\n")
        elif self.blocks:
            gap = "" if self._first else "\n"
            self.stream.write(f"{gap}==> {record.path} <==\n{record.text}\n")
        else:
            self.stream.write(f"{record.path}: {' '.join(record.text.split())}\n")
        self._shown = ""
        self._first = self._first and record.error is not None
        self.stream.flush()
