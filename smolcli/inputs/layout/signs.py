"""What is drawn from many small parts and is no print: leaders of dots, dashed rules, and boxes to tick."""

from __future__ import annotations

import numpy as np

from smolcli.inputs.layout.components import Components, Mask, connect, facing_pairs

MIN_DOTS = 5  # of a leader; an ellipsis has three
DOT_GAPS = (0.45, 2.6)  # heights of a small letter: white between the dots of a leader
SAME = 0.35  # of the size by which two dots differ
BOX_SIZES = (0.8, 3.0)  # heights of a small letter: of a box to tick
BOX_FILL = 0.62  # of its area: a square that is fuller is a bullet


def find_leaders(parts: Components, scale: float) -> Mask:
    """Choose the dots and dashes that stand in rows of like ones, with white between them."""
    width, height = parts.width, parts.height
    small = (height <= max(3.0, 0.4 * scale)) & (width <= 1.2 * scale)
    left, right, _, gaps = facing_pairs(parts, DOT_GAPS[1] * scale)
    size = np.maximum(width, height)
    alike = np.abs(size[left] - size[right]) <= np.maximum(1, SAME * np.maximum(size[left], size[right]))
    alike &= small[left] & small[right] & (gaps >= np.maximum(DOT_GAPS[0] * scale, 0.5 * width[left]))
    alike |= small[left] & small[right] & (width[left] >= 2 * height[left]) & (width[right] >= 2 * height[right])
    of_part = connect(len(parts), left[alike], right[alike])
    counts = np.bincount(of_part, minlength=1) if len(parts) else np.zeros(1, np.int64)
    return np.asarray(small & (counts[of_part] >= MIN_DOTS))


def find_tick_boxes(parts: Components, scale: float) -> Mask:
    """Choose squares whose four sides are straight strokes, ticked or not."""
    width, height = parts.width, parts.height
    longest, shortest = np.maximum(width, height), np.minimum(width, height)
    chosen = (shortest >= BOX_SIZES[0] * scale) & (longest <= BOX_SIZES[1] * scale) & (longest <= 1.2 * shortest)
    chosen &= (parts.area <= BOX_FILL * width * height) & _has_full_row(parts, 0) & _has_full_row(parts, 1)
    for number in np.flatnonzero(chosen):
        chosen[number] = _has_sides(parts, int(number))
    return np.asarray(chosen)


def _has_full_row(parts: Components, side: int) -> Mask:
    """Whether a run in the first (0) or the last (1) two rows of a component is as long as it is wide."""
    runs = parts.runs
    own = parts.of_run
    off = parts.bottom[own] - 1 - runs.rows if side else runs.rows - parts.top[own]
    full = (off <= 1) & (runs.stops - runs.starts >= 0.92 * parts.width[own])
    result = np.zeros(len(parts), np.bool_)
    result[own[full]] = True
    return result


def _has_sides(parts: Components, number: int) -> bool:
    """Whether almost every row of a component has ink at its left and right edge."""
    runs, own = parts.runs, parts.of_run == number
    reach = max(1, parts.width[number] // 10)
    at_left = np.unique(runs.rows[own & (runs.starts <= parts.left[number] + reach)])
    at_right = np.unique(runs.rows[own & (runs.stops >= parts.right[number] - reach)])
    return bool(min(len(at_left), len(at_right)) >= 0.9 * parts.height[number])
