"""The form Markdown, as GitHub has it: headings, lists, tables and listings of programs; text is escaped.

Paragraphs go on over columns and pages, so nothing marks a page break. Lines stay lines, as Markdown shows them as one
paragraph all the same; with dehyphenate each paragraph is one line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import groupby

from smolcli.inputs.page import Page
from smolcli.tasks.page_forms.code import code_text
from smolcli.tasks.page_forms.join import compounds, flow
from smolcli.tasks.page_forms.paragraphs import BETWEEN, BULLETS, MARKER, Paragraph, join_continued, paragraphs
from smolcli.tasks.page_forms.tables import Table, grid, table_of, tables_of
from smolcli.writers.table import escape_markdown

MAX_LEVEL = 6
# What begins something else than a paragraph at the start of a line, where `escape_markdown` does not escape it: a
# heading, a list, a quotation; a line of dashes, equals signs or colons may make a heading or a table of the one above.
BLOCK_START = re.compile(r"#{1,6}(?=\s|\Z)|[-+](?=\s|\Z)|>|(?=[-=:]+[-=: ]*\Z)[-=:]|(?<=\d)[.)](?=\s|\Z)")
NUMBER = re.compile(r"\d{1,9}(?=[.)](?:\s|\Z))")
ORDERED = re.compile(r"\d{1,3}[.)]\Z")
BACKTICKS = re.compile("`+")


def markdown(pages: Sequence[Page], dehyphenate: bool = False) -> str:
    """Return all pages as one Markdown document."""
    known = compounds(pages) if dehyphenate else None
    parts = join_continued([part for page in pages for part in paragraphs(page)], BETWEEN if dehyphenate else ())
    blocks: list[str] = []
    for _, group in groupby(parts, key=lambda part: (part.kind, id(part.region))):
        same = list(group)
        blocks += [_list(same, known)] if same[0].kind == "list" else [_block(part, known) for part in same]
    return "\n\n".join(blocks)


def markdown_tables(pages: Sequence[Page], dehyphenate: bool = False) -> str:
    """Return the tables of all pages as GitHub tables, with an empty line between two."""
    known = compounds(pages) if dehyphenate else None
    return "\n\n".join(github_table(table) for table in tables_of(pages, known))


def _block(part: Paragraph, known: Collection[str] | None) -> str:
    if part.kind == "table":
        return github_table(table_of(part.region, known))
    if part.kind == "code":
        return _fenced(code_text(part.lines))
    text = flow(part.lines, known)
    if part.kind == "formula" and "$$" not in text:
        return f"$$\n{text}\n$$"
    if part.kind == "heading":
        return "#" * min(max(1, part.level), MAX_LEVEL) + " " + escape_markdown(" ".join(text.split()))
    return "\n".join(map(escaped_line, text.split("\n")))


def escaped_line(text: str) -> str:
    r"""Return one line of a paragraph that shows `text` letter for letter.

    >>> print(escaped_line("1. *not* a list"))
    1\. \*not\* a list
    """
    escaped = escape_markdown(text)
    number = NUMBER.match(escaped)
    at = number.end() if number else 0
    return f"{escaped[:at]}\\{escaped[at:]}" if BLOCK_START.match(escaped, at) else escaped


def _list(items: Sequence[Paragraph], known: Collection[str] | None) -> str:
    """Return the items of one list; what is nested stands under the text of the item around it."""
    widths: list[int] = []  # of the markers of the items around one
    lines = []
    for item in items:
        widths = widths[: item.level]
        marker, text = _marker(flow(item.lines, known))
        first, *others = map(escaped_line, text.split("\n"))
        indent = " " * sum(widths)
        lines.append(f"{indent}{marker} {first}".rstrip())
        lines += [f"{indent}{' ' * (len(marker) + 1)}{line}" for line in others]
        widths.append(len(marker) + 1)
    return "\n".join(lines)


def _marker(text: str) -> tuple[str, str]:
    """Return the marker of an item in Markdown and its text: a number stays, a letter or Roman number is text."""
    if marker := MARKER.match(text):
        if marker[0] in BULLETS:
            return "-", text[marker.end() :].strip()
        if ORDERED.match(marker[0]):
            return marker[0], text[marker.end() :].strip()
    return "-", text


def _fenced(code: str) -> str:
    fence = "`" * max([2, *map(len, BACKTICKS.findall(code))]) + "`"
    return f"{fence}\n{code}\n{fence}"


def github_table(table: Table) -> str:
    """Return a GitHub table whose header is the first row; the text of a merged cell is in its first square."""
    rows = [" | ".join(escape_markdown(" ".join(cell.split())) for cell in row) for row in grid(table)]
    rows.insert(1, " | ".join(["---"] * table.columns))
    return "\n".join(f"| {row} |" for row in rows)
