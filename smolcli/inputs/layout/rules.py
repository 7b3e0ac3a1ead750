"""The rules of tables, forms and underlines: found as long thin runs of ink, and taken out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smolcli.inputs.layout.components import Components, Ints, Mask, Runs, find_components, find_runs, keep
from smolcli.types import Box

MIN_LENGTH = 5.0  # heights of a small letter: no stroke of a letter is so long, but of one in a large heading
SHORT_LENGTH = 1.8  # heights of a small letter, of an upright rule between two level ones: the side of a frame
MAX_THICKNESS = 0.55  # heights of a small letter
SLOPE = 0.012  # of the length: a rule that is not quite level is so much thicker


@dataclass(frozen=True)
class Rules:
    """The level and the upright rules of a page, and the pixels that they take."""

    level: list[Box]
    upright: list[Box]
    mask: Mask


def find_rules(ink: Mask, scale: float) -> Rules:
    """Find the rules of a picture of ink, whose small letters are `scale` pixels high."""
    level, level_mask = _level_rules(ink, scale)
    sides = [Box(box.top, box.left, box.bottom, box.right) for box in level]
    upright, upright_mask = _level_rules(np.ascontiguousarray(ink.T), scale, sides)
    upright_mask = np.ascontiguousarray(upright_mask.T)
    level_mask = _spare_crossings(ink & ~upright_mask, level_mask)
    turned = [Box(box.top, box.left, box.bottom, box.right) for box in upright]
    return Rules(level, turned, level_mask | upright_mask)


def _level_rules(ink: Mask, scale: float, sides: list[Box] | None = None) -> tuple[list[Box], Mask]:
    """Find level rules; those that end at two of the upright `sides` may be short."""
    runs = find_runs(ink)
    least = SHORT_LENGTH if sides else MIN_LENGTH
    long = runs.stops - runs.starts >= least * scale
    if not long.any():
        return [], np.zeros(ink.shape, np.bool_)
    parts = find_components(Runs(runs.rows[long], runs.starts[long], runs.stops[long], runs.shape))
    limit = max(3.0, MAX_THICKNESS * scale) + SLOPE * parts.width
    # By area too: the mean thickness of a rule that slopes is its own.
    thin = (parts.height <= limit) & (parts.area <= max(3.0, MAX_THICKNESS * scale) * parts.width)
    if sides:
        thin &= (parts.width >= MIN_LENGTH * scale) | _between(parts, np.array(sides), 0.3 * scale)
    parts = keep(parts, thin)
    boxes = [
        Box(int(left), int(top), int(right), int(bottom))
        for left, top, right, bottom in zip(parts.left, parts.top, parts.right, parts.bottom, strict=True)
    ]
    return boxes, _with_edges(ink, parts)


def _between(parts: Components, sides: Ints, reach: float) -> Mask:
    """Whether each component begins and ends at one of the upright `sides` (rows of left, top, right, bottom)."""
    beside = (sides[:, 1] <= parts.top[:, None] + reach) & (sides[:, 3] >= parts.bottom[:, None] - reach)
    begins = beside & (np.abs(sides[:, 0] - parts.left[:, None]) <= reach + sides[:, 2] - sides[:, 0])
    ends = beside & (np.abs(sides[:, 2] - parts.right[:, None]) <= reach + sides[:, 2] - sides[:, 0])
    return np.asarray(begins.any(1) & ends.any(1))


def _with_edges(ink: Mask, parts: Components) -> Mask:
    """The pixels of rules with the short runs of ink at their edges, one above and one below."""
    mask = parts.runs.paint()
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    return np.asarray(grown & ink)


def _spare_crossings(ink: Mask, rule: Mask) -> Mask:
    """Leave the pixels of a level rule that a stroke of print crosses: ink goes on above and below it."""
    if not rule.any():
        return rule
    rows = np.flatnonzero(rule.any(1))
    spared = rule.copy()
    outside = ink & ~rule
    borders = np.flatnonzero(np.diff(rows) > 1) + 1
    for band in np.split(rows, borders):
        first, last = int(band[0]), int(band[-1]) + 1
        if first < 1 or last >= ink.shape[0] or last - first > 12:
            continue
        crossed = outside[first - 1] & outside[last]
        spared[first:last, crossed] = False
    return np.asarray(spared)
