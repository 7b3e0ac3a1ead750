"""The form DocTags: pages as docling's models write them, for programs that read it, such as docling-core."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

from smolcli.inputs.page import Page, Region
from smolcli.tasks.page_forms.code import code_text
from smolcli.tasks.page_forms.doctags import GRID, TAG
from smolcli.tasks.page_forms.join import compounds, flow
from smolcli.tasks.page_forms.otsl import BOTH, EMPTY, LEFT, UP
from smolcli.tasks.page_forms.paragraphs import BULLETS, MARKER, Paragraph, region_paragraphs
from smolcli.tasks.page_forms.tables import Table, table_of
from smolcli.types import Box

NAMES = {
    "text": "text",
    "header": "page_header",
    "footer": "page_footer",
    "note": "footnote",
    "code": "code",
    "formula": "formula",
}
MAX_LEVEL = 5  # of a section header


def doctags(pages: Sequence[Page], dehyphenate: bool = False) -> str:
    """Return the pages as DocTags; a paragraph is one line, and its hyphens stay unless `dehyphenate` is given."""
    known = compounds(pages) if dehyphenate else None
    return "<doctag>" + "\n<page_break>\n".join(_page(page, known) for page in pages) + "\n</doctag>"


def _page(page: Page, known: Collection[str] | None) -> str:
    elements: list[str] = []
    for region in page.regions:
        own = region_paragraphs(page, region)
        if region.kind == "picture":
            elements.append(f"<picture>{_places(region.box, page)}</picture>")
        elif own and region.kind == "list":
            elements += _lists(own, page, known)
        elif own and region.kind == "table":
            elements.append(_table(region, page, known))
        else:
            elements += [_text(part, page, known) for part in own]
    return "\n".join(elements)


def _places(box: Box, page: Page) -> str:
    sizes = (page.width, page.height, page.width, page.height)
    places = (min(max(0, round(GRID * edge / max(1, size))), GRID) for edge, size in zip(box, sizes, strict=True))
    return "".join(f"<loc_{place}>" for place in places)


def _plain(text: str) -> str:
    """Return text on one line without what would be read as a tag."""
    return _without_tags(" ".join(text.split()))


def _without_tags(text: str) -> str:
    return TAG.sub(lambda tag: f"< {tag[0][1:]}", text)


def _text(part: Paragraph, page: Page, known: Collection[str] | None) -> str:
    place = _places(_around(part), page)
    if part.kind == "code":
        return f"<code>{place}<_unknown_>{_without_tags(code_text(part.lines))}</code>"
    if part.kind == "heading":
        level = min(max(part.level - 1, 0), MAX_LEVEL)
        name = f"section_header_level_{level}" if level else "title"
    else:
        name = NAMES[part.kind]
    return f"<{name}>{place}{_plain(flow(part.lines, known))}</{name}>"


def _around(part: Paragraph) -> Box:
    lefts, tops, rights, bottoms = zip(*(line.box for line in part.lines), strict=True)
    return Box(min(lefts), min(tops), max(rights), max(bottoms))


def _lists(items: Iterable[Paragraph], page: Page, known: Collection[str] | None) -> Iterator[str]:
    """Yield lists of items whose markers are of one kind.

    Bullets go, and so do numbers that count from 1, as readers make them; any other marker stays in the text.
    """
    texts = [(_places(_around(item), page), _plain(flow(item.lines, known))) for item in items]
    for is_ordered, group in groupby(texts, key=lambda item: _marker(item[1])[:1].isalnum()):
        name = "ordered_list" if is_ordered else "unordered_list"
        body = "\n".join(
            f"<list_item>{place}{_without_marker(text, number)}</list_item>"
            for number, (place, text) in enumerate(group, 1)
        )
        yield f"<{name}>{body}\n</{name}>"


def _marker(text: str) -> str:
    found = MARKER.match(text)
    return found[0] if found else ""


def _without_marker(text: str, number: int) -> str:
    marker = _marker(text)
    is_made_anew = marker and (marker in BULLETS or marker == f"{number}.")
    return text[len(marker) :].strip() if is_made_anew else text


def _table(region: Region, page: Page, known: Collection[str] | None) -> str:
    rows = _squares(table_of(region, known))
    body = "".join("".join(row) + "<nl>" for row in rows)
    return f"<otsl>{_places(region.box, page)}{body}</otsl>"


def _squares(table: Table) -> list[list[str]]:
    """Return the OTSL of each square of a table; cells of the first row are heads of columns, as in Markdown."""
    squares = [[f"<{EMPTY}>"] * table.columns for _ in range(table.rows)]
    for cell in table.cells:
        for row in range(cell.row, min(cell.row + cell.row_span, table.rows)):
            for column in range(cell.column, min(cell.column + cell.column_span, table.columns)):
                is_first = row == cell.row, column == cell.column
                token = {(True, False): LEFT, (False, True): UP, (False, False): BOTH}.get(is_first, "")
                squares[row][column] = f"<{token}>" if token else squares[row][column]
        if cell.text:
            name = "ched" if cell.row == 0 else "fcel"
            squares[cell.row][cell.column] = f"<{name}>{_plain(cell.text)}"
    return squares
