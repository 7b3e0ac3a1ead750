"""Where the print of an upright page is on its original, for forms that are laid over the picture that was given.

pixels of the upright page -> undo skew -> undo turn -> pixels of the original
"""

from __future__ import annotations

import math
from typing import NamedTuple

from smolcli.inputs.page import Page
from smolcli.types import Box
from smolcli.writers.columns import NOT_XML


class Matrix(NamedTuple):
    """An affine map of the plane, as PDF writes it: (x, y) goes to (a x + c y + e, b x + d y + f)."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0
    e: float = 0.0
    f: float = 0.0

    def then(self, other: Matrix) -> Matrix:
        """Return the map that applies this one first and then `other`."""
        e, f = other.point(self.e, self.f)
        return Matrix(
            other.a * self.a + other.c * self.b,
            other.b * self.a + other.d * self.b,
            other.a * self.c + other.c * self.d,
            other.b * self.c + other.d * self.d,
            e,
            f,
        )

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point goes."""
        return self.a * x + self.c * y + self.e, self.b * x + self.d * y + self.f


class Original:
    """The original of an upright page: its `width` and `height` in pixels, and where boxes and points are on it.

    `matrix` takes a point of the upright page to one of the original, both in pixels from the top left corner. Skew of
    less than `min_skew` degrees counts as none.
    """

    def __init__(self, page: Page, min_skew: float = 0.0) -> None:
        is_sideways = page.turn % 180 == 90
        self.width, self.height = (page.height, page.width) if is_sideways else (page.width, page.height)
        skew = page.skew if abs(page.skew) >= min_skew else 0.0
        self.matrix = _without_skew(page.width, page.height, skew).then(
            _turned_back(page.width, page.height, page.turn)
        )

    def box(self, box: Box) -> Box:
        """Return the smallest box of the original around a box of the upright page."""
        corners = [self.point(x, y) for x in (box.left, box.right) for y in (box.top, box.bottom)]
        xs = [min(max(x, 0.0), self.width) for x, _ in corners]
        ys = [min(max(y, 0.0), self.height) for _, y in corners]
        return Box(round(min(xs)), round(min(ys)), round(max(xs)), round(max(ys)))

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the upright page is."""
        return self.matrix.point(x, y)


def _without_skew(width: int, height: int, skew: float) -> Matrix:
    """Return the map that turns a page of this size counterclockwise by `skew` degrees about its centre."""
    angle = math.radians(skew)
    sin, cos, x, y = math.sin(angle), math.cos(angle), width / 2, height / 2
    return Matrix(cos, -sin, sin, cos, x - x * cos - y * sin, y + x * sin - y * cos)


def _turned_back(width: int, height: int, turn: int) -> Matrix:
    """Return the map that turns a page of this size counterclockwise by `turn` degrees, its corner at (0, 0)."""
    return {
        0: Matrix(),
        90: Matrix(0, -1, 1, 0, 0, width),
        180: Matrix(-1, 0, 0, -1, width, height),
        270: Matrix(0, 1, -1, 0, height, 0),
    }[turn]


def xml_text(text: str) -> str:
    """Return text with U+FFFD for each character that XML 1.0 does not allow."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
