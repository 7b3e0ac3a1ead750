"""Reading order of boxes: columns before lines, with elements over several columns between them (recursive cuts)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smolcli.types import Box

SHARED = 0.3  # of the height of the shorter of two columns, beside which the other must have something


def reading_order(boxes: Sequence[Box], white: float) -> list[int]:
    """Return the numbers of `boxes` in reading order. Columns have at least `white` pixels between them."""
    return _order(list(boxes), list(range(len(boxes))), white)


def _order(boxes: list[Box], chosen: list[int], white: float) -> list[int]:
    if len(chosen) < 2:
        return chosen
    columns = _columns(boxes, chosen, white)
    if len(columns) > 1:
        return [number for column in columns for number in _order(boxes, column, white)]
    bands = _split(boxes, chosen, upright=False, white=0)
    if len(bands) == 1:
        return _tangled(boxes, chosen)
    groups = [bands[0]]
    for band in bands[1:]:
        if len(_columns(boxes, groups[-1] + band, white)) > 1:
            groups[-1] = groups[-1] + band
        else:
            groups.append(band)
    return [number for group in groups for number in _order(boxes, group, white)]


def _columns(boxes: list[Box], chosen: list[int], white: float) -> list[list[int]]:
    """Split boxes into columns that stand beside each other; one if there are none."""
    columns = _split(boxes, chosen, upright=True, white=white)
    merged = columns[:1]
    for column in columns[1:]:
        if _beside(boxes, merged[-1], column):
            merged.append(column)
        else:
            merged[-1] = merged[-1] + column
    return merged


def _beside(boxes: list[Box], left: list[int], right: list[int]) -> bool:
    """Whether two columns share rows, rather than take turns as the addresses and the date of a letter do."""
    shared = sum(
        max(0, min(boxes[one].bottom, boxes[other].bottom) - max(boxes[one].top, boxes[other].top))
        for one in left
        for other in right
    )
    shorter = min(sum(boxes[number].bottom - boxes[number].top for number in side) for side in (left, right))
    return shared > SHARED * shorter


def _split(boxes: list[Box], chosen: list[int], *, upright: bool, white: float) -> list[list[int]]:
    """Split boxes where a line through all of them touches none; `upright` says how it runs."""
    low = [boxes[number].left if upright else boxes[number].top for number in chosen]
    high = [boxes[number].right if upright else boxes[number].bottom for number in chosen]
    groups: list[list[int]] = []
    reach = -np.inf
    for index in np.argsort(low, kind="stable"):
        if low[index] >= reach + white or not groups:
            groups.append([])
        groups[-1].append(chosen[index])
        reach = max(reach, high[index])
    return groups


def _tangled(boxes: list[Box], chosen: list[int]) -> list[int]:
    """Order boxes that no straight cut parts: from the top; a box that is beside and left of another before it."""
    rest = sorted(chosen, key=lambda number: (boxes[number].top, boxes[number].left))
    ordered = []
    while rest:
        for number in rest:
            box = boxes[number]
            if not any(_before(boxes[other], box) for other in rest if other != number):
                break
        else:
            number = rest[0]
        rest.remove(number)
        ordered.append(number)
    return ordered


def _before(one: Box, other: Box) -> bool:
    """Whether one box is read before the other: above it in the same column, or left of it in the same rows."""
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    if across > 0 and down <= 0:
        return one.top < other.top
    return across <= 0 and down > 0 and one.left < other.left
