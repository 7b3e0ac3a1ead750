"""DocTags, the markup in which docling's models write a page: read to a Page, and written as a form.

    <doctag><section_header_level_1><loc_57><loc_40><loc_443><loc_62>Title</section_header_level_1>...</doctag>

Places are left, top, right and bottom in 500ths of the page. A reply that was cut has elements that are not closed, and
tables with rows of different lengths; both are read as far as they go. The names of elements, and OTSL, the language of
tables (https://arxiv.org/abs/2305.03393), are those of docling-core's types/doc/tokens.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from smolcli.inputs.page import Line, Page, Region, RegionKind
from smolcli.tasks.page_forms.otsl import TOKENS, OtslCell, parse_otsl
from smolcli.tasks.page_forms.paragraphs import MARKER
from smolcli.types import Box

GRID = 500  # places of a page, in each direction
X_HEIGHT = 0.006  # of a page's height: small letters of 12 points on A4
STEP = 0.02  # of a page's width, to an item of a list in a list
LINE_HEIGHT = 0.014  # of a page's height, where an element has no place
MAX_DEPTH = 40  # of elements in elements; what is deeper is taken to be beside its parent
TEXTS: dict[str, RegionKind] = {
    "text": "text",
    "paragraph": "text",
    "caption": "text",
    "reference": "text",
    "handwritten_text": "text",
    "checkbox_selected": "text",
    "checkbox_unselected": "text",
    "smiles": "text",
    "footnote": "note",
    "page_header": "header",
    "page_footer": "footer",
    "formula": "formula",
    "code": "code",
    "title": "heading",
    **dict.fromkeys((f"section_header_level_{level}" for level in range(7)), "heading"),
    "list_item": "list",
}
CHECKBOXES = {"checkbox_selected": "\u2612 ", "checkbox_unselected": "\u2610 "}
LISTS = ("unordered_list", "ordered_list")
TABLES = ("otsl", "table", "document_index", "chart")
CONTAINERS = ("doctag", *LISTS, *TABLES, "picture", "inline", "group", "form", "key_value_region")
NAMES = "|".join((*TEXTS, *CONTAINERS, *TOKENS, "page_break"))
# The language of code is a tag too, as <_Python_>; so is the kind of a picture, whose text is none of the page.
TAG = re.compile(rf"<(/?)({NAMES}|loc_\d+|_[\w+#.-]+_)>")
DOCTAGS = re.compile(r"<doctag>|<loc_\d+><loc_\d+>")  # tell DocTags from other text
END = re.compile(r"<end_of_utterance>|<\|end_of_text\|>|</?[\w|]*\Z")  # of a reply, and a tag that was cut


@dataclass
class _Element:
    name: str
    places: list[int] = field(default_factory=list)
    text: str = ""
    children: list[_Element] = field(default_factory=list)
    cells: list[tuple[str, str]] = field(default_factory=list)  # tokens of OTSL with the text after each


def pages_from_doctags(text: str, width: int = 0, height: int = 0, number: int = 1) -> list[Page]:
    """Return the pages of a reply; `width` and `height` are pixels of the upright page, 0 if they are not known.

    >>> [page] = pages_from_doctags("<doctag><text><loc_0><loc_0><loc_500><loc_50>Hello", 1000, 2000)
    >>> page.lines[0].text, page.lines[0].box
    ('Hello', Box(left=0, top=0, right=1000, bottom=200))
    """
    size = (width or GRID, height or GRID)
    parts = END.sub("", text).split("<page_break>")
    return [
        Page(index, *size, tuple(_Reader(*size).regions(_parsed(part)))) for index, part in enumerate(parts, number)
    ]


def _parsed(text: str) -> _Element:
    """Return the elements of a page; what is not closed ends where its parent or the text ends."""
    root = _Element("doctag")
    stack, at = [root], 0
    for tag in TAG.finditer(text):
        _add_text(stack[-1], text[at : tag.start()])
        at = tag.end()
        name = tag[2]
        if tag[1]:
            _close(stack, name)
        elif name in TEXTS or name in CONTAINERS:
            _open(stack, name)
        elif name in TOKENS:
            stack[-1].cells.append((name, ""))
        elif name.startswith("loc_") and len(stack[-1].places) < 4:
            stack[-1].places.append(min(int(name[4:10]), GRID))
    _add_text(stack[-1], text[at:])
    return root


def _add_text(element: _Element, text: str) -> None:
    if element.cells:
        token, before = element.cells[-1]
        element.cells[-1] = token, before + text
    elif element.name == "code" or text.strip():
        element.text += text


def _open(stack: list[_Element], name: str) -> None:
    """Open an element, after one of text that was not closed; only an item of a list has others in it."""
    if len(stack) > 1 and name == "doctag":
        return
    while stack[-1].name in TEXTS and not (stack[-1].name == "list_item" and name != "list_item"):
        stack.pop()
    element = _Element(name)
    stack[-1].children.append(element)
    if len(stack) < MAX_DEPTH:
        stack.append(element)


def _close(stack: list[_Element], name: str) -> None:
    """Close the innermost element of this name and those in it; an end without a beginning is nothing."""
    index = next((index for index in range(len(stack) - 1, 0, -1) if stack[index].name == name), None)
    if index is not None:
        del stack[index:]


class _Reader:
    """Makes regions of elements, on a page of this size in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._bottom = 0  # of the last element that had a place

    def regions(self, element: _Element) -> Iterator[Region]:
        """Yield the regions of an element in their order."""
        if element.name in TABLES:
            yield from self._inner(element)  # its caption
            yield self._table(element)
        elif element.name == "picture":
            yield Region("picture", self._box(element.places))
            yield from self._inner(element)
        elif element.name in LISTS:
            yield from self._list(element)
        elif element.name in TEXTS and element.text.strip():
            yield self._text(element)
            yield from self._inner(element)
        else:
            if element.text.strip():  # text outside of any element
                yield self._text(_Element("text", element.places, element.text))
            yield from self._inner(element)

    def _inner(self, element: _Element) -> Iterator[Region]:
        for child in element.children:
            yield from self.regions(child)

    def _box(self, places: Sequence[int]) -> Box:
        """Return a place in pixels, below the element before where there is none."""
        if len(places) < 4:
            top = min(self._bottom, self._height)
            box = Box(0, top, self._width, min(self._height, top + round(LINE_HEIGHT * self._height)))
        else:
            xs = sorted(round(place * self._width / GRID) for place in places[0::2])
            ys = sorted(round(place * self._height / GRID) for place in places[1::2])
            box = Box(xs[0], ys[0], xs[1], ys[1])
        self._bottom = box.bottom
        return box

    def _text(self, element: _Element) -> Region:
        kind = TEXTS[element.name]
        box = self._box(element.places)
        text = CHECKBOXES.get(element.name, "") + (element.text if kind == "code" else element.text.strip())
        return Region(kind, box, tuple(self._lines(text, box)), level=_level(element.name))

    def _lines(self, text: str, box: Box, cell: int | None = None) -> Iterator[Line]:
        """Yield the lines of a text, one under the other in its box, with the indents that they have."""
        texts = [line.rstrip() for line in text.strip("\n").split("\n")]
        longest = max(map(len, texts))
        for number, line in enumerate(texts):
            if line.strip():
                top, bottom = (
                    box.top + round((box.bottom - box.top) * part / len(texts)) for part in (number, number + 1)
                )
                spaces = len(line) - len(line.lstrip())
                left = box.left + round((box.right - box.left) * spaces / longest)
                right = max(left, box.left + round((box.right - box.left) * len(line) / longest))
                words = line.strip()
                yield Line(Box(left, top, right, bottom), (), self._height * X_HEIGHT, bottom, words, cell=cell)

    def _list(self, element: _Element) -> Iterator[Region]:
        """Yield a region with the items of a list and of those in it, whose depth shows by their left edges."""
        items = list(self._items(element, 0))
        if items:
            box = _around([place for _, _, place in items])
            step = round(self._width * STEP)  # the places of replies are not exact enough to show the depth
            lines = [
                line
                for depth, text, place in items
                for line in self._lines(text, place._replace(left=min(box.left + depth * step, place.right)))
            ]
            yield Region("list", box, tuple(lines))

    def _items(self, element: _Element, depth: int) -> Iterator[tuple[int, str, Box]]:
        """Yield the depth, the text with its marker, and the place of each item."""
        number = 0
        for child in element.children:
            if child.name in LISTS:
                yield from self._items(child, depth + 1)
                continue
            number += 1
            if text := " ".join((child.text or _all_text(child)).split()):
                mark = "" if MARKER.match(text) else f"{number}. " if element.name == "ordered_list" else "\u2022 "
                yield depth, mark + text, self._box(child.places)
            for inner in child.children:
                if inner.name in LISTS:
                    yield from self._items(inner, depth + 1)

    def _table(self, element: _Element) -> Region:
        box = self._box(element.places)
        parsed = parse_otsl(element.cells)
        rows, columns = max(1, parsed.rows), max(1, parsed.columns)

        def square(cell: OtslCell) -> Box:
            xs = [cell.column, cell.column + cell.column_span]
            ys = [cell.row, cell.row + cell.row_span]
            left, right = (box.left + (box.right - box.left) * x // columns for x in xs)
            top, bottom = (box.top + (box.bottom - box.top) * y // rows for y in ys)
            return Box(left, top, right, bottom)

        cells = tuple(cell.cell(square(cell)) for cell in parsed.cells)
        lines = [
            line
            for index, cell in enumerate(parsed.cells)
            if cell.text
            for line in self._lines(cell.text, cells[index].box, index)
        ]
        if not cells and element.text.strip():
            lines = list(self._lines(element.text.strip(), box))
        return Region("table", box, tuple(lines), cells)


def _all_text(element: _Element) -> str:
    """Return the text of the elements in an item of a list that has none of its own, but not of lists in it."""
    return " ".join(child.text for child in element.children if child.name in TEXTS)


def _level(name: str) -> int:
    """Return the level of a heading: 1 for the title, 2 for headings of level 1, as docling's Markdown has them."""
    if name == "title":
        return 1
    return int(name[-1]) + 1 if name.startswith("section_header") else 0


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return Box(min(lefts), min(tops), max(rights), max(bottoms))
