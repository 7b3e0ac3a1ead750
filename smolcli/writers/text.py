"""The format text: the bare answer, `path: answer`, or blocks under headings."""

from __future__ import annotations

from typing import TextIO

from smolcli.types import Record
from smolcli.writers.base import Writer
from smolcli.writers.columns import title_of


class Text(Writer):
    """For one input the bare answer, shown while it is generated if the stream is a terminal; no failed records."""

    def __init__(self, stream: TextIO, has_many: bool = False, is_multiline: bool = False) -> None:
        super().__init__(stream, has_many, is_multiline)
        self._is_terminal = stream.isatty()
        self._shown = ""  # of the answer that is being generated
        self._is_first = True

    def write_piece(self, text: str) -> None:
        if self._is_terminal and not self.has_many:
            text = text if self._shown else text.lstrip()
            self._shown += text
            self.stream.write(text)
            self.stream.flush()

    def write(self, record: Record) -> None:
        if record.error is not None:
            if self._shown:
                self.stream.write("\n")
        elif not self.has_many:
            rest = record.text.removeprefix(self._shown.rstrip())
            self.stream.write((rest if record.text.startswith(self._shown.rstrip()) else f"\n{record.text}") + "\n")
        elif self.is_multiline:
            gap = "" if self._is_first else "\n"
            self.stream.write(f"{gap}==> {title_of(record)} <==\n{record.text}\n")
        else:
            self.stream.write(f"{title_of(record)}: {' '.join(record.text.split())}\n")
        self._shown = ""
        self._is_first = self._is_first and record.error is not None
        self.stream.flush()
