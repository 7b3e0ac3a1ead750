"""Plans the pictures that a model reads of a page: some rows of words each, at the size of print that it reads best.

    rows = split_lines(page.lines, side, x_height)
    crop = make_crop(rows[:4], side, x_height)
    frame = cut(grey, crop)                        # in the engine: layout/crops.py

A row is a line of print, or a part of one that fits into the picture. Rows are cut between words only, unless a word
alone is too wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from smolcli.inputs.page import Line
from smolcli.types import Box, Crop

MIN_SCALE = 0.6  # of the wanted size of print: a word that is too wide is drawn smaller, and then cut
GAP = 0.5  # x-heights between the rows of a picture, and around them


@dataclass(frozen=True)
class Row:
    """A part of line number `line` of a page. `is_cut` says that it begins within a word."""

    line: int
    box: Box
    scale: float
    is_cut: bool = False

    @property
    def height(self) -> int:
        """Its height in the picture, in pixels."""
        return max(1, round((self.box.bottom - self.box.top) * self.scale))


def split_lines(lines: Sequence[Line], side: int, x_height: float) -> list[Row]:
    """Cut lines into rows that fit into a picture of `side` pixels with letters of `x_height` pixels."""
    width = side - 2 * _gap(x_height)
    return [row for number, line in enumerate(lines) for row in _split_line(number, line, width, x_height)]


def group_rows(rows: Sequence[Row], side: int, x_height: float, max_rows: int | None = None) -> list[list[int]]:
    """Distribute rows, by their numbers, over pictures in order: as many as fit into each, at most `max_rows`."""
    gap = _gap(x_height)
    groups: list[list[int]] = []
    bottom = side
    for number, row in enumerate(rows):
        bottom += row.height + gap
        if bottom > side or (max_rows is not None and len(groups[-1]) == max_rows):
            groups.append([])
            bottom = gap + row.height + gap
        groups[-1].append(number)
    return groups


def make_crop(rows: Sequence[Row], side: int, x_height: float, half_turn: bool = False) -> Crop:
    """The crop of some rows; `half_turn` as in the PageRequest that has found them."""
    return Crop(tuple((row.box, row.scale) for row in rows), side, _gap(x_height), half_turn)


def _gap(x_height: float) -> int:
    return max(1, round(GAP * x_height))


def _split_line(number: int, line: Line, width: int, x_height: float) -> list[Row]:
    """Cut a line between its words into rows of about the same width, as few as there have to be."""
    scale = x_height / max(1.0, line.x_height)
    scale = min(scale, width / max(1, line.box.bottom - line.box.top))
    boxes = [word.box for word in line.words] or [line.box]
    rows: list[Row] = []
    first = 0
    for stop in range(1, len(boxes) + 1):
        if stop == len(boxes) or (boxes[stop].right - boxes[first].left) * scale > width:
            box = Box(boxes[first].left, line.box.top, boxes[stop - 1].right, line.box.bottom)
            rows += _fit(Row(number, box, scale), width)
            first = stop
    return rows


def _fit(row: Row, width: int) -> list[Row]:
    """Draw a row that is too wide smaller, or cut it into equal parts."""
    length = row.box.right - row.box.left
    scale = min(row.scale, width / max(1, length))
    if scale >= MIN_SCALE * row.scale:
        return [Row(row.line, row.box, scale)]
    scale = MIN_SCALE * row.scale
    parts = -int(-length * scale // width)
    edges = [row.box.left + length * part // parts for part in range(parts + 1)]
    return [
        Row(row.line, row.box._replace(left=left, right=right), scale, is_cut=left > row.box.left)
        for left, right in pairwise(edges)
    ]
