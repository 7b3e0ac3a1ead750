r"""The form text: one line of print a line, or with dehyphenate one paragraph a line.

An empty line is between two paragraphs, `PAGE_BREAK` between two pages. Items of a list have no empty line between
them. The cells of a row of a table stand on one line, with tabs between them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from smolcli.inputs.page import Page
from smolcli.tasks.page_forms.code import code_text
from smolcli.tasks.page_forms.join import compounds, flow
from smolcli.tasks.page_forms.paragraphs import BETWEEN, Paragraph, join_continued, paragraphs
from smolcli.tasks.page_forms.tables import grid, table_of

PAGE_BREAK = "\n\f"  # between the texts of two pages, as tesseract and OCRmyPDF's --sidecar write it


def text(pages: Sequence[Page], dehyphenate: bool = False) -> str:
    """Return the text of all pages with page breaks."""
    return PAGE_BREAK.join(page_texts(pages, dehyphenate))


def page_texts(pages: Sequence[Page], dehyphenate: bool = False) -> list[str]:
    """Return the text of each page; hyphens are kept as all pages have them."""
    known = compounds(pages) if dehyphenate else None
    return [_page_text(page, known) for page in pages]


def _page_text(page: Page, known: Collection[str] | None) -> str:
    parts = join_continued(paragraphs(page), () if known is None else BETWEEN)
    result, before = "", None
    for part in parts:
        if before is not None:
            result += "\n" if _is_same_list(before, part) else "\n\n"
        result += _part_text(part, known)
        before = part
    return result


def _is_same_list(before: Paragraph, after: Paragraph) -> bool:
    return before.kind == after.kind == "list" and before.region is after.region


def _part_text(part: Paragraph, known: Collection[str] | None) -> str:
    if part.kind == "table":
        rows = grid(table_of(part.region, known))
        return "\n".join("\t".join(cell.replace("\n", " ") for cell in row).rstrip("\t") for row in rows)
    return code_text(part.lines) if part.kind == "code" else flow(part.lines, known)
