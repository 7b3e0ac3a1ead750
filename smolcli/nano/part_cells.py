"""Labels the cells of tiles that show charts and screens: the parts that cover them, their colours and characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smolcli.nano.dataset import CELL_CLASS, CELLS, IGNORE, Lesson
from smolcli.nano.synthetic_images import TILE, Annotation

LEGIBLE_PRINT = 11.0  # the least height of print in a tile, in pixels, that questions and labels are about
LEGIBLE_WIDTH = 4.2  # the least mean width of its characters in a tile, in pixels
ILLEGIBLE_PRINT, ILLEGIBLE_WIDTH = 8.0, 2.6  # print that is lower or narrower is too small to read
CONTRAST = 40  # of the pixels of a cell without a label; a cell with more shows something and is not trained
_SCALE = 4  # pixels that stand for a cell's side


def is_legible(text: str, width: float, height: float) -> bool | None:
    """Whether print of this width and height in pixels of a tile can be read; None where some could and some not.

    >>> is_legible("Save", 30, 12), is_legible("Save", 20, 9.5), is_legible("Save", 20, 6)
    (True, None, False)
    """
    count = max(1, len(text))
    if height >= LEGIBLE_PRINT and width >= LEGIBLE_WIDTH * count:
        return True
    return None if height >= ILLEGIBLE_PRINT and width >= ILLEGIBLE_WIDTH * count else False


def characters(
    text: str, font: ImageFont.FreeTypeFont, left: float, right: float, y: float, size: float
) -> list[Annotation]:
    """An annotation of each character of `text` printed from `left` to `right`, its middle at `y`, `size` high."""
    ends = np.cumsum([0.0, *(font.getlength(char) for char in text)])
    centres = left + (right - left) * (ends[1:] + ends[:-1]) / 2 / max(1.0, float(ends[-1]))
    return [Annotation(char, x, y, size) for char, x in zip(text, centres.tolist(), strict=True) if char != " "]


def part_cells(
    made: Lesson, outlines: Sequence[Sequence[float]], names: Sequence[tuple[str, str]], are_lines: bool = False
) -> np.ndarray[Any, Any]:
    """The cells of a lesson of one tile, int16 (1, 64, 2), with the parts that cover them.

    `outlines` are polygons (or lines, `are_lines`) as x, y, x, y, ... in shares of the tile, at most 255; later ones
    cover earlier ones. `names` has each one's part and colour, "" for a colour that is not trained. Characters keep
    their cells. Cells without a label that show something are not trained.
    """
    labels = made.cells.reshape(CELLS, CELLS, 2).copy()
    is_character = labels[..., 0] > 0
    side = TILE // CELLS
    blocks = made.tiles[0].reshape(CELLS, side, CELLS, side, 3).astype(np.int16)
    contrast = (blocks.max((1, 3)) - blocks.min((1, 3))).max(-1)
    labels[~is_character & (contrast > CONTRAST)] = IGNORE
    canvas = Image.new("L", (CELLS * _SCALE, CELLS * _SCALE))
    pen = ImageDraw.Draw(canvas)
    for index, outline in enumerate(outlines):
        points = [share * CELLS * _SCALE for share in outline]
        (pen.line if are_lines else pen.polygon)(points, fill=index + 1)
    owners = np.asarray(canvas).reshape(CELLS, _SCALE, CELLS, _SCALE).swapaxes(1, 2).reshape(CELLS, CELLS, -1)
    least = 2 if are_lines else 6  # of 16 pixels
    for index, (part, colour) in enumerate(names):
        is_covered = ((owners == index + 1).sum(-1) >= least) & ~is_character
        labels[is_covered] = CELL_CLASS[f"<{part}>"], CELL_CLASS[f"<{colour}>"] if colour else IGNORE
    cells: np.ndarray[Any, Any] = labels.reshape(made.cells.shape)
    return cells
