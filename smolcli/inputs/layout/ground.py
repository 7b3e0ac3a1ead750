"""What is ground and what is ink: dark print on white of whatever the page is, in uneven light, white on dark too.

The grounds of a page are its large even areas: the paper, and panels, which are rectangles of another colour with print
on them. Ink differs from its ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smolcli.inputs.layout.components import Components, Mask, find_components

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]

BLOCK = 16  # pixels of a block of the map of the paper's level
MIN_LEVEL = 40  # grey levels of a ground, below which its ink is not stretched further
MIN_RANGE = 20  # grey levels: even areas differ less from pixel to pixel
EDGE = 6  # pixels on each side of the edge of a panel that are compared
PANEL_AREA, PANEL_EDGE = 500, 9  # pixels: the least of a panel
PANEL_FRAME = 0.8  # of the outline of its box that a panel covers: round corners are few, a letter covers half
PANEL_PRINT = 0.01  # of its area that is no even ground: less is a solid shape
INK_SHARE = 0.4  # of the contrast of the strongest ink nearby, from which on a pixel is ink
MIN_CONTRAST = 0.11  # of the whole range from ground to black


@dataclass(frozen=True)
class Panel:
    """A rectangle of the page with a ground of its own, in pixels of the reduced picture."""

    left: int
    top: int
    right: int
    bottom: int
    level: float


@dataclass(frozen=True)
class Ground:
    """The ground of a picture: `level` by pixel, and where print is lighter than it (`is_dark`); and the noise."""

    level: Floats
    is_dark: Mask
    noise: float


def find_ground(grey: Grey) -> Ground:
    """Find the ground of a picture of shape (height, width), which should not have much over two megapixels."""
    spread = local_range(grey)
    noise = float(np.median(spread[:: max(1, spread.shape[0] // 500), :: max(1, spread.shape[1] // 500)]))
    even = spread <= max(MIN_RANGE, 1.8 * noise)
    parts = find_components(even)
    if not len(parts):
        return Ground(np.full(grey.shape, float(np.median(grey)), np.float32), np.zeros(grey.shape, np.bool_), noise)
    panels, paper = _split_grounds(grey, even, parts)
    level = _paper_level(grey, paper)
    is_dark = np.full(grey.shape, _prints_lighter(grey, level))
    for panel in panels:
        area = np.s_[panel.top : panel.bottom, panel.left : panel.right]
        level[area] = panel.level
        is_dark[area] = _prints_lighter(grey[area], level[area])
    return Ground(level, is_dark, noise)


def local_range(grey: Grey) -> Grey:
    """The highest less the lowest value in 3 x 3 pixels."""
    padded = np.pad(grey, 1, mode="edge")
    rows = (padded[:-2], padded[1:-1], padded[2:])
    high = np.maximum(np.maximum(rows[0], rows[1]), rows[2])
    low = np.minimum(np.minimum(rows[0], rows[1]), rows[2])
    high = np.maximum(np.maximum(high[:, :-2], high[:, 1:-1]), high[:, 2:])
    low = np.minimum(np.minimum(low[:, :-2], low[:, 1:-1]), low[:, 2:])
    return np.asarray(high - low)


def _split_grounds(grey: Grey, even: Mask, parts: Components) -> tuple[list[Panel], Mask]:
    """Find the panels, from large to small, and the pixels of the paper."""
    largest = int(np.argmax(parts.area))
    is_paper = np.zeros(len(parts), np.bool_)
    is_paper[largest] = True
    paper_level = float(np.median(grey[parts.paint(is_paper)]))
    panels = []
    runs, by_part = parts.runs, np.argsort(parts.of_run, kind="stable")
    firsts = np.concatenate(([0], np.cumsum(np.bincount(parts.of_run, minlength=len(parts)))))
    large = (parts.area >= PANEL_AREA) & (np.minimum(parts.width, parts.height) >= PANEL_EDGE)
    for number in sorted(np.flatnonzero(large), key=lambda number: -parts.area[number]):
        if number == largest:
            continue
        left, top = int(parts.left[number]), int(parts.top[number])
        right, bottom = int(parts.right[number]), int(parts.bottom[number])
        mask = np.zeros((bottom - top, right - left), np.bool_)
        for run in by_part[firsts[number] : firsts[number + 1]]:
            mask[runs.rows[run] - top, runs.starts[run] - left : runs.stops[run] - left] = True
        level = float(np.median(grey[top:bottom, left:right][mask]))
        if abs(level - paper_level) < MIN_RANGE or _goes_on_outside(grey, (left, top, right, bottom)):
            is_paper[number] = True
            continue
        share = parts.area[number] / even.size
        if _covers_frame(mask) and _has_print(even[top:bottom, left:right]):
            panels.append(Panel(max(left - 1, 0), max(top - 1, 0), right + 1, bottom + 1, level))
        elif share > 0.15 and parts.area[number] > 0.5 * mask.size:
            is_paper[number] = True  # a shadow with a sharp edge
    return panels, parts.paint(is_paper)


def _goes_on_outside(grey: Grey, box: tuple[int, int, int, int]) -> bool:
    """Whether the ground is as light outside of most sides of a box as inside: then it is a cell, in uneven light."""
    left, top, right, bottom = box
    inner, outer = slice(2, 2 + EDGE), slice(-2 - EDGE, -2)
    middle_x, middle_y = slice(left + 2, right - 2), slice(top + 2, bottom - 2)
    pairs = (
        (grey[top:bottom, middle_x][inner], grey[:top, middle_x][outer]),
        (grey[top:bottom, middle_x][outer], grey[bottom:, middle_x][inner]),
        (grey[middle_y, left:right][:, inner], grey[middle_y, :left][:, outer]),
        (grey[middle_y, left:right][:, outer], grey[middle_y, right:][:, inner]),
    )
    differences = [abs(float(np.median(one)) - float(np.median(two))) for one, two in pairs if one.size and two.size]
    return len(differences) > 1 and sum(value < MIN_RANGE for value in differences) > 0.6 * len(differences)


def _covers_frame(mask: Mask) -> bool:
    sides = (mask[:2].any(0), mask[-2:].any(0), mask[:, :2].any(1), mask[:, -2:].any(1))
    return all(side.mean() >= PANEL_FRAME for side in sides)


def _has_print(even: Mask) -> bool:
    return float(1 - even[2:-2, 2:-2].mean()) >= PANEL_PRINT


def _paper_level(grey: Grey, paper: Mask) -> Floats:
    """The level of the paper by pixel: means of blocks, filled in where print or pictures hide it."""
    height, width = grey.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    padding = ((0, rows * BLOCK - height), (0, columns * BLOCK - width))
    weights = np.pad(paper, padding).reshape(rows, BLOCK, columns, BLOCK).sum((1, 3), dtype=np.float32)
    sums = np.pad(np.where(paper, grey, 0), padding).reshape(rows, BLOCK, columns, BLOCK).sum((1, 3), dtype=np.float32)
    level = _fill(np.where(weights >= 8, sums, 0), np.where(weights >= 8, weights, 0))
    image = Image.fromarray(level).resize((columns * BLOCK, rows * BLOCK), Image.Resampling.BILINEAR)
    return np.array(image, np.float32)[:height, :width]


def _fill(sums: Floats, weights: Floats) -> Floats:
    """Means where there are weights; elsewhere those of a coarser grid, again and again."""
    level = (sums / np.maximum(weights, 1)).astype(np.float32)
    if (weights > 0).all() or level.size == 1:
        return level
    rows, columns = level.shape
    padding = ((0, rows % 2), (0, columns % 2))
    shape = (-(-rows // 2), 2, -(-columns // 2), 2)
    coarse_sums = np.pad(level * (weights > 0), padding).reshape(shape).sum((1, 3))
    coarse_weights = np.pad((weights > 0).astype(np.float32), padding).reshape(shape).sum((1, 3))
    coarse = _fill(coarse_sums, coarse_weights)
    finer = np.asarray(Image.fromarray(coarse).resize((shape[2] * 2, shape[0] * 2), Image.Resampling.BILINEAR))
    return np.where(weights > 0, level, finer[:rows, :columns]).astype(np.float32)


def _prints_lighter(grey: Grey, level: Floats) -> bool:
    """Whether what differs from the ground is rather lighter than it."""
    difference = grey[::2, ::2] - level[::2, ::2]
    lighter = float(np.maximum(difference - 2 * MIN_RANGE, 0).sum())
    darker = float(np.maximum(-difference - 2 * MIN_RANGE, 0).sum())
    return lighter > darker and float(level.mean()) < 200


def contrast_of(grey: Grey, ground: Ground) -> Grey:
    """How far each pixel is from its ground towards full ink: 0 is ground, 255 black on white or white on black."""
    flip = np.where(ground.is_dark, np.uint8(255), np.uint8(0))
    level = np.clip(np.round(ground.level), 0, 255).astype(np.uint8) ^ flip
    # In sevenths of a bit above 8: a difference is at most the level, so that the product fits 16 bits.
    gain = (255 * 128 / np.maximum(level, MIN_LEVEL)).astype(np.uint16)
    level, gain, flip = (_fit(values, grey.shape) for values in (level, gain, flip))
    dark = grey ^ flip if ground.is_dark.any() else grey
    difference = np.maximum(level, dark) - dark
    return np.asarray((difference * gain >> 7).astype(np.uint8))


def _fit(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Enlarge a map to a picture of `shape`, without blurring the edges of panels."""
    if values.shape == shape:
        return values
    rows = np.minimum(np.arange(shape[0]) * values.shape[0] // shape[0], values.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) * values.shape[1] // shape[1], values.shape[1] - 1)
    return np.asarray(values[:, columns][rows])


def find_ink(contrast: Grey, noise: float, scale: float) -> Mask:
    """Say which pixels are ink: those with a share of the contrast of the strongest ink nearby.

    `scale` is the height of a small letter in pixels, `noise` the usual range of 3 x 3 pixels of the ground.
    """
    height, width = contrast.shape
    edge = max(8, round(1.5 * scale))
    rows, columns = -(-height // edge), -(-width // edge)
    padded = np.pad(contrast, ((0, rows * edge - height), (0, columns * edge - width)))
    strongest = padded.reshape(rows, edge, columns, edge).max(3).max(1)
    strongest = _grow(strongest)
    floor = max(255 * MIN_CONTRAST, 1.2 * noise)
    threshold = np.maximum(strongest * INK_SHARE, floor).astype(np.uint8)
    by_row = np.repeat(threshold, edge, axis=1)[:, :width]
    by_row = np.repeat(by_row, edge, axis=0)[:height]
    return contrast > by_row


def _grow(values: Grey) -> Grey:
    padded = np.pad(values, 1)
    wide = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return np.asarray(np.maximum(np.maximum(wide[:-2], wide[1:-1]), wide[2:]))
