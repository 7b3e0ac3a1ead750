"""What is no print: margins of scans, pictures, and textures that look like letters here and there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smolcli.inputs.layout.chains import Chain
from smolcli.inputs.layout.components import Components, Mask, connect, keep
from smolcli.inputs.layout.lines import MAX_CHAINS
from smolcli.types import Box

LARGE = 6.0  # heights of a small letter, both ways: larger components are pictures, if they have no row
PICTURE_FILL = 0.25  # of the box of a large component: less is a frame or a drawing, which may have print in it
REGULAR = 0.72  # of the letters of a line that stand on its baseline and have the height of small letters or stems
LONG_LINE = 12  # letters of the line of an average letter: textures have no such lines
FEW_LETTERS = 5  # on a page that are a drawing's shapes, if they are large; what they are shows on the whole picture
LARGE_PRINT = 0.06  # of the shorter side of the page: letters of this height are large
PRINT_SHARE = 0.5  # of a page's letters that stand in regular lines: with less it is a picture


def set_pictures_apart(parts: Components, scale: float) -> tuple[Components, list[Box]]:
    """Take out margins and what is too large for print; returns the rest and the boxes of pictures."""
    width, height = parts.width, parts.height
    at_edge = (parts.left <= 1) | (parts.top <= 1)
    at_edge |= (parts.right >= parts.runs.shape[1] - 1) | (parts.bottom >= parts.runs.shape[0] - 1)
    margin = at_edge & (np.maximum(width, height) >= LARGE * scale)
    large = (height > LARGE * scale) & (width > LARGE * scale) & ~margin
    large &= ~_is_headline(parts, large)
    solid = large & (parts.area >= PICTURE_FILL * width * height)
    boxes = _merged(_boxes(parts, solid), scale)
    boxes = [box for box in boxes if not _is_whole(box, parts.runs.shape) or len(boxes) == 1]
    inside = margin | large
    for box in boxes:
        inside |= (
            (parts.left >= box.left) & (parts.right <= box.right)
            & (parts.top >= box.top) & (parts.bottom <= box.bottom)
        )  # fmt: skip
    return keep(parts, ~inside), boxes


def _boxes(parts: Components, chosen: Mask) -> list[Box]:
    edges = np.stack([parts.left, parts.top, parts.right, parts.bottom], 1)[chosen]
    return [Box(*row) for row in edges.tolist()]


def _is_whole(box: Box, shape: tuple[int, int]) -> bool:
    return (box.right - box.left) * (box.bottom - box.top) > 0.9 * shape[0] * shape[1]


def _is_headline(parts: Components, large: Mask) -> Mask:
    """Whether a large component has another of its height beside it, as the letters of a headline have."""
    found = np.zeros(len(parts), np.bool_)
    for number in np.flatnonzero(large):
        height = parts.height[number]
        level = np.abs(parts.bottom - parts.bottom[number]) <= 0.12 * height
        level &= np.abs(parts.height - height) <= 0.3 * height
        gap = np.maximum(parts.left - parts.right[number], parts.left[number] - parts.right)
        level &= (gap <= 0.8 * height) & (gap >= -0.2 * height)
        level[number] = False
        found[number] = level.any() and parts.width[number] <= 1.6 * height
    return found


def _merged(boxes: list[Box], scale: float) -> list[Box]:
    """Join boxes that overlap or nearly touch."""
    while len(boxes) > 1:
        edges = np.array(boxes)
        reach = scale
        meet = (edges[:, None, 0] - reach < edges[None, :, 2]) & (edges[None, :, 0] - reach < edges[:, None, 2])
        meet &= (edges[:, None, 1] - reach < edges[None, :, 3]) & (edges[None, :, 1] - reach < edges[:, None, 3])
        first, second = np.nonzero(meet)
        of_box = connect(len(boxes), first, second)
        joined = [edges[of_box == number] for number in range(int(of_box.max()) + 1)]
        merged = [Box(*(*some[:, :2].min(0).tolist(), *some[:, 2:].max(0).tolist())) for some in joined]
        if len(merged) == len(boxes):
            break
        boxes = merged
    return boxes


def is_texture(parts: Components, chains: Sequence[Chain]) -> bool:
    """Whether what looks like lines is rather a picture: few letters stand in lines as letters do, or few are there.

    A few large shapes on a page may be letters and may be a drawing's.
    """
    if len(chains) > MAX_CHAINS:
        return True
    letters = np.array([len(chain.members) for chain in chains], np.float64)
    if 0 < letters.sum() < FEW_LETTERS:
        members = np.concatenate([chain.members for chain in chains])
        return bool(parts.height[members].max() >= LARGE_PRINT * min(parts.runs.shape))
    if letters.sum() < 12:
        return False
    regular = np.array([regularity(parts, chain) >= REGULAR for chain in chains], np.bool_)
    if letters[regular & (letters >= 3)].sum() >= PRINT_SHARE * letters.sum():
        return False
    return float(np.square(letters).sum() / letters.sum()) < LONG_LINE


def regularity(parts: Components, chain: Chain) -> float:
    """The share of the letters of a line that stand on the baseline and end where letters end."""
    zone, members = chain.zone, np.array(chain.members)
    size = max(zone.x_height, 1.0)
    above = (zone.baseline - parts.top[members]) / size
    below = (parts.bottom[members] - zone.baseline) / size
    reach = max(0.12, 1.2 / size)
    stands = (np.abs(below) <= reach) | ((below > 0) & (below <= 0.75) & (np.abs(above - 1) <= 2 * reach))
    ends = (np.abs(above - 1) <= reach) | ((above >= 1.15) & (above <= 1.8))
    return float(np.mean(stands & ends))
