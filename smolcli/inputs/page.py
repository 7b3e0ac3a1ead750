"""A page as ocr sees it: its regions, lines and words with their boxes, before and after it is read.

    picture or PDF page -> layout or text layer -> Page (boxes) -> the model's replies -> Page (boxes and texts)

Boxes are in pixels of the upright page: turned by `turn` degrees, then by `skew`. The forms of an answer (text,
Markdown, hOCR, ALTO...) are made from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from smolcli.types import Box, FrameRef

RegionKind = Literal["text", "heading", "list", "table", "picture", "header", "footer", "note", "code", "formula"]
PageKind = Literal["print", "picture", "blank"]


@dataclass(frozen=True)
class Word:
    """A word of a line: `text` is "" before the page is read, or where the reply has another number of words."""

    box: Box
    text: str = ""


@dataclass(frozen=True)
class Line:
    """A line of print. `x_height` is the height of a small letter in pixels, `baseline` the y of its bottom.

    `confidence` is the geometric mean of the probabilities of the tokens of its text; a row of a reply counts in it by
    its letters; None before the page is read, and for the text layer of a PDF. `cell` is the number of its cell in
    `Region.cells`, in a table.
    """

    box: Box
    words: tuple[Word, ...]
    x_height: float
    baseline: int
    text: str = ""
    confidence: float | None = None
    cell: int | None = None


@dataclass(frozen=True)
class Cell:
    """A cell of a table. Rows and columns count from 0; a merged cell spans several."""

    row: int
    column: int
    box: Box
    row_span: int = 1
    column_span: int = 1


@dataclass(frozen=True)
class Region:
    """A part of a page, with its lines in reading order. `cells` are those of a table, `level` is a heading's, from 1.

    A `picture` has no lines.
    """

    kind: RegionKind
    box: Box
    lines: tuple[Line, ...] = ()
    cells: tuple[Cell, ...] = ()
    level: int = 0


@dataclass(frozen=True)
class Page:
    """A page with its regions in reading order.

    `number` is its number in the document, from 1. `width` and `height` are pixels of the upright page. `turn` is how
    many degrees the page was turned clockwise to be upright (0, 90, 180 or 270); then it was turned clockwise by `skew`
    degrees, between -15 and 15, about its centre, without a change of its size. `dpi` is its resolution, 0 if that is
    not known. A `blank` page and a `picture` without print have no lines. `has_text_layer` says that the texts are
    those of a PDF's text layer.
    """

    number: int
    width: int
    height: int
    regions: tuple[Region, ...] = ()
    kind: PageKind = "print"
    turn: int = 0
    skew: float = 0.0
    dpi: float = 0.0
    has_text_layer: bool = False

    @property
    def lines(self) -> list[Line]:
        """All lines in reading order."""
        return [line for region in self.regions for line in region.lines]


@dataclass(frozen=True)
class PageRequest:
    """Asks what is on a page of an open item. The reply's `data` is a Page; no model is run for it.

    `page` is its number, from 1. Without `layout` the pixels are not looked at: a page that has no text layer is a
    picture. With `half_turn` the page is taken to be upside down if it seems to be upright, and the other way round.
    """

    frame: FrameRef
    page: int
    layout: bool = True
    half_turn: bool = False


def confidence_of(lines: Iterable[Line]) -> float | None:
    """Return the geometric mean of the confidences of lines, weighted by their letters; None if no line has one."""
    known = [(len(line.text), line.confidence) for line in lines if line.text and line.confidence is not None]
    total = sum(length for length, _ in known)
    if not total:
        return None
    return math.exp(sum(length * math.log(max(value, 1e-6)) for length, value in known) / total)
