"""The formats csv, tsv and md: a row or a block for each record, including failed ones."""

from __future__ import annotations

import csv
import io
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

from smolcli.types import Record, format_time
from smolcli.writers.base import Writer
from smolcli.writers.columns import (
    FIXED,
    PATH_FIELDS,
    Cell,
    Column,
    cell_at,
    clean_text,
    fields_of,
    path_fields,
    title_of,
    video_segments,
    with_parts,
)

BYTE_ORDER_MARK = "\ufeff"
# What begins a formula: the characters of OWASP's page on CSV injection, with their full-width forms
# (https://owasp.org/www-community/attacks/CSV_Injection), and NUL of its ASVS 5.0, requirement 1.2.10.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")

# Characters that begin something in a line of Markdown: code, emphasis, a link, a tag, an entity, a table cell, a
# closing row of #. An underscore between letters does not.
SPECIAL = re.compile(r"[\\`*\[\]<&|~]|(?<![^\W_])_|_(?![^\W_])|#\Z")
OUTSIDE_ADDRESS = re.compile(r"[%?#&<>\\\n\r]")  # characters of a path that must be %-encoded inside <>
AT_THE_EDGE = re.compile(r"[\n\r]|\A[ \t]|[ \t]\Z")  # characters that would end the line or be stripped from it


class Csv(Writer):
    """Comma-separated values quoted as in RFC 4180, with lines that end in a newline alone; the header comes first.

    With `bom` a byte order mark comes before it, by which spreadsheets know UTF-8. With `safe_csv` an apostrophe comes
    before text that a spreadsheet would take for a formula.
    """

    def __init__(
        self,
        stream: TextIO,
        has_many: bool = False,
        is_multiline: bool = False,
        *,
        columns: Sequence[Column] = FIXED,
        bom: bool = False,
        safe_csv: bool = False,
    ) -> None:
        super().__init__(stream, has_many, is_multiline)
        self._columns = with_parts(columns)
        self._has_path_parts = any(column.name in PATH_FIELDS for column in self._columns)
        self._mark = BYTE_ORDER_MARK if bom else ""
        self._is_safe = safe_csv

    def write(self, record: Record) -> None:
        fields = fields_of(record)
        if self._has_path_parts:
            fields = {**fields, **path_fields(record.path)}
        row = [cell_at(fields, column.keys) for column in self._columns]
        self.stream.write(self._header() + self._line(self._safe(row)))
        self.stream.flush()

    def close(self) -> None:
        self.stream.write(self._header())
        self.stream.flush()

    def _header(self) -> str:
        """Return the names of the columns at the first call, later nothing."""
        is_first, self.has_written = not self.has_written, True
        return self._mark + self._line(self._safe(column.name for column in self._columns)) if is_first else ""

    def _safe(self, values: Iterable[Cell]) -> Iterable[Cell]:
        """Return the values of a row, with --safe-csv without any that a spreadsheet would compute."""
        return map(without_formula, values) if self._is_safe else values

    def _line(self, values: Iterable[Cell]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(values)  # with "\n", older Pythons do not quote a "\r"
        return line.getvalue().removesuffix("\r\n") + "\n"


def without_formula(value: Cell) -> Cell:
    """Return a cell with an apostrophe before text that a spreadsheet would take for a formula; a number stays.

    >>> without_formula("=1+1"), without_formula(-1)
    ("'=1+1", -1)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


class Tsv(Csv):
    r"""Values between tabs without quotes; tab, newline, return and backslash are written \t \n \r \\."""

    _escapes = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})

    def _line(self, values: Iterable[Cell]) -> str:
        return "\t".join(str(value).translate(self._escapes) for value in values) + "\n"


class Markdown(Writer):
    """A GitHub table of paths and texts; for answers of several lines a heading for each path and the text under it.

    Under the heading of a video come the summary, the contact sheet if there is one, and a list of the segments if
    there are several. Markdown in an answer is kept; in the table a newline is <br>.
    """

    def write(self, record: Record) -> None:
        text = record.text if record.error is None else f"*{escape_markdown(f'error: {record.error.message}'.strip())}*"
        path = escape_markdown(title_of(record))
        if self.is_multiline:
            gap = "\n" if self.has_written else ""
            text = _video_text(record, self._folder()) if video_segments(record) else text
            self.stream.write(f"{gap}## {path}\n\n{text}\n")
        else:
            if record.error is None:
                text = re.sub(r"\r\n|\r|\n", "<br>", text.replace("|", r"\|"))
            self.stream.write(f"{self._header()}| {path} | {text} |\n")
        self.has_written = True
        self.stream.flush()

    def close(self) -> None:
        if not self.is_multiline:
            self.stream.write(self._header())
        self.stream.flush()

    def _header(self) -> str:
        return "" if self.has_written else "| path | text |\n| --- | --- |\n"

    def _folder(self) -> str:
        return os.path.dirname(getattr(self.stream, "display_name", ""))


def _video_text(record: Record, folder: str) -> str:
    """Return summary, contact sheet and segments; the sheet's path is made relative to `folder`, unless that is ""."""
    parts = [clean_text(record.data["summary"])]
    if sheet := record.data.get("contact_sheet"):
        sheet = os.path.relpath(sheet, folder) if folder else sheet
        address = OUTSIDE_ADDRESS.sub(lambda match: f"%{ord(match[0]):02X}", sheet)
        parts.append(f"![frames](<{address}>)")
    segments = video_segments(record)
    if len(segments) > 1:
        items = (f"**{format_time(start)}-{format_time(end)}** {text.strip()}".strip() for start, end, text in segments)
        parts.append("\n".join(f"- {textwrap.indent(item, '  ').lstrip()}" for item in items))
    return "\n\n".join(parts)


def escape_markdown(text: str) -> str:
    r"""Return one line of Markdown that shows `text` letter for letter; a newline becomes a character reference.

    >>> print(escape_markdown("my_scan *2*|\n.png"))
    my_scan \*2\*\|&#10;.png
    """
    line = SPECIAL.sub(lambda match: f"\\{match[0]}", text)
    return AT_THE_EDGE.sub(lambda match: f"&#{ord(match[0])};", line)
