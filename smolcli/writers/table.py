"""The formats csv, tsv and md: a row or a block for each record, failed ones included."""

from __future__ import annotations

import csv
import io
import os
import re
import textwrap
from collections.abc import Iterable

from smolcli.types import Record, format_time
from smolcli.writers.base import Writer
from smolcli.writers.columns import COLUMNS, Cell, cells, stretches, words

# What a name or a message must not begin inside a line of Markdown: code, emphasis, links, tags, entities, a cell, a
# closing row of #. An underscore between letters is none of it.
SPECIAL = re.compile(r"[\\`*\[\]<&|~]|(?<![^\W_])_|_(?![^\W_])|#\Z")
OUTSIDE_ADDRESS = re.compile(r"[%?#&<>\\\n\r]")  # what a path in <> must not hold to be read as this path
AT_THE_EDGE = re.compile(r"[\n\r]|\A[ \t]|[ \t]\Z")  # what would end the line, or be stripped from it


for added in ("notices", "memory.parent", "memory.engine", "memory.gpu"):  # last: a new column moves no other
    COLUMNS[added] = COLUMNS.pop(added)


class Csv(Writer):
    """Comma-separated values as RFC 4180 quotes them, lines ended by a newline alone; the header comes first."""

    def write(self, record: Record) -> None:
        self.stream.write(self._header() + self._line(cells(record).values()))
        self.stream.flush()

    def close(self) -> None:
        self.stream.write(self._header())
        self.stream.flush()

    def _header(self) -> str:
        """The names of the columns, the first time."""
        first, self.begun = not self.begun, True
        return self._line(COLUMNS) if first else ""

    def _line(self, values: Iterable[Cell]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(values)  # with "\n", older Pythons do not quote a "\r"
        return line.getvalue().removesuffix("\r\n") + "\n"


class Tsv(Csv):
    """Values between tabs, nothing quoted: tab, newline, return and backslash are written \\t \\n \\r \\\\."""

    _escapes = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})

    def _line(self, values: Iterable[Cell]) -> str:
        return "\t".join(str(value).translate(self._escapes) for value in values) + "\n"


class Markdown(Writer):
    """A GitHub table of paths and texts; where answers have lines, a heading for each path and the text under it.

    Under the heading of a video come the summary, the contact sheet if there is one, and a list of the segments if
    there are several. Texts stay the Markdown that they may be; in the table a newline is <br>.
    """

    def write(self, record: Record) -> None:
        text = record.text if record.error is None else f"*{literal(f'error: {record.error.message}'.strip())}*"
        path = literal(record.path)
        if self.blocks:
            gap = "\n" if self.begun else ""
            text = _of_video(record, self._folder()) if stretches(record) else text
            self.stream.write(f"{gap}## {path}\n\n{text}\n")
        else:
            if record.error is None:
                text = re.sub(r"\r\n|\r|\n", "<br>", text.replace("|", r"\|"))
            self.stream.write(f"{self._header()}| {path} | {text} |\n")
        self.begun = True
        self.stream.flush()

    def close(self) -> None:
        if not self.blocks:
            self.stream.write(self._header())
        self.stream.flush()

    def _header(self) -> str:
        return "" if self.begun else "| path | text |\n| --- | --- |\n"

    def _folder(self) -> str:
        return os.path.dirname(getattr(self.stream, "called", ""))


def _of_video(record: Record, folder: str) -> str:
    """`folder` is that of the file written to, from which the contact sheet is found; empty is the current one."""
    parts = [words(record.data["summary"])]
    if sheet := record.data.get("contact_sheet"):
        sheet = os.path.relpath(sheet, folder) if folder else sheet
        address = OUTSIDE_ADDRESS.sub(lambda found: f"%{ord(found[0]):02X}", sheet)
        parts.append(f"![frames](<{address}>)")
    segments = stretches(record)
    if len(segments) > 1:
        items = (f"**{format_time(start)}-{format_time(end)}** {text.strip()}".strip() for start, end, text in segments)
        parts.append("\n".join(f"- {textwrap.indent(item, '  ').lstrip()}" for item in items))
    return "\n\n".join(parts)


def literal(text: str) -> str:
    r"""`text` as one line of Markdown that shows it letter for letter; a newline in it is a character reference.

    >>> print(literal("my_scan *2*|\n.png"))
    my_scan \*2\*\|&#10;.png
    """
    line = SPECIAL.sub(lambda found: f"\\{found[0]}", text)
    return AT_THE_EDGE.sub(lambda found: f"&#{ord(found[0])};", line)
