"""The words of a line by its white gaps, which are of two sizes: between letters and between words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smolcli.inputs.layout.chains import Chain
from smolcli.inputs.layout.components import Components, Ints
from smolcli.inputs.layout.metrics import Zone
from smolcli.types import Box

Floats = NDArray[np.float64]

USUAL_GAP = 0.36  # x-heights: from here on a white is between words, where nothing else is known
GAP_RANGE = (0.2, 0.7)  # x-heights: tight setting has the lower, letter-spaced print the upper
OVERHANG = 0.12  # x-heights: as much of the white under an f or a T counts, not all of it under a 7
BIN = 0.02  # x-heights: of the histogram of gaps
WORDS_ABOVE = 0.06  # of all gaps that are between words, at least, if their threshold is above the usual one
MANY_GAPS = 40  # from so many gaps on their histogram is trusted
PITCHES = (0.95, 1.6)  # x-heights: the distance of letters of monospaced print
GRID_AGREEMENT = 0.78  # of the places of letters in the cells of monospaced print; 1 if all are in the middle
MONOSPACED_SHARE = 0.5  # of the long lines of a page


@dataclass(frozen=True)
class Letters:
    """The letters of a line from the left: boxes of what stands in the same columns; and gaps in x-heights.

    A gap is the white between a letter and the next in the zone of the small letters, where an f does not reach over.
    """

    left: Ints
    top: Ints
    right: Ints
    bottom: Ints
    gaps: Floats

    @property
    def steps(self) -> Floats:
        """The distances of the middles of letters."""
        return np.diff((self.left + self.right) / 2)


def letters_of(parts: Components, chains: Sequence[Chain], zones: Sequence[Zone]) -> list[Letters]:
    """Gather the components of each line to letters: what overlaps in the direction of the line belongs together."""
    low, high = _ends_in_zone(parts, chains, zones)
    letters = []
    for chain, zone in zip(chains, zones, strict=True):
        members = np.array(chain.members + chain.extra)
        members = members[np.argsort(parts.left[members], kind="stable")]
        reach = np.maximum.accumulate(parts.right[members])
        starts = np.concatenate(([0], np.flatnonzero(parts.left[members][1:] >= reach[:-1]) + 1))
        left = np.minimum.reduceat(parts.left[members], starts)
        right = np.maximum.reduceat(parts.right[members], starts)
        zone_left = np.minimum.reduceat(low[members], starts)
        zone_right = np.maximum.reduceat(high[members], starts)
        gaps = (left[1:] - right[:-1]) / max(zone.x_height, 1.0)
        overhang = (zone_left[1:] - zone_right[:-1]) / max(zone.x_height, 1.0) - gaps
        gaps += np.clip(overhang, 0, OVERHANG)
        top = np.minimum.reduceat(parts.top[members], starts)
        letters.append(Letters(left, top, right, np.maximum.reduceat(parts.bottom[members], starts), gaps))
    return letters


def _ends_in_zone(parts: Components, chains: Sequence[Chain], zones: Sequence[Zone]) -> tuple[Ints, Ints]:
    """The left and right end of each component between the top of the small letters and the baseline of its line."""
    top, bottom = np.zeros(len(parts)), np.full(len(parts), np.inf)
    for chain, zone in zip(chains, zones, strict=True):
        members = chain.members + chain.extra
        top[members] = zone.x_top - 0.05 * zone.x_height
        bottom[members] = zone.baseline
    runs, own = parts.runs, parts.of_run
    inside = (runs.rows >= top[own]) & (runs.rows < bottom[own])
    low, high = np.full(len(parts), np.iinfo(np.int64).max), np.full(len(parts), -1)
    np.minimum.at(low, own[inside], runs.starts[inside])
    np.maximum.at(high, own[inside], runs.stops[inside])
    outside = high < 0
    low[outside], high[outside] = parts.left[outside], parts.right[outside]
    return low, high


def usual_threshold(gaps: Floats) -> float:
    """The gap, in x-heights, that fewest gaps of many lines are near: the valley between letters and words."""
    if len(gaps) < MANY_GAPS:
        return USUAL_GAP
    counts, edges = np.histogram(gaps, round(1.4 / BIN), (-0.2, 1.2))
    window = np.hanning(9)
    density = np.convolve(counts, window / window.sum(), "same") / len(gaps)
    middles = (edges[:-1] + edges[1:]) / 2
    letters = (middles >= 0) & (middles <= 0.4)
    peak = float(middles[letters][np.argmax(density[letters])])
    least = max(GAP_RANGE[0], peak + 0.08)
    above = np.cumsum(counts[::-1])[::-1]  # a valley has words on its far side
    valley = (middles >= least) & ((above >= WORDS_ABOVE * len(gaps)) | (middles <= USUAL_GAP + 0.04))
    valley &= middles <= GAP_RANGE[1]
    if not valley.any():
        return USUAL_GAP
    cost = density[valley] + 0.004 * np.abs(middles[valley] - USUAL_GAP)
    return float(middles[valley][np.argmin(cost)])


def usual_pitch(letters: Sequence[Letters], zones: Sequence[Zone]) -> float:
    """The distance of letters in x-heights, if most lines of a page are monospaced; else 0."""
    pitches = []
    for line, zone in zip(letters, zones, strict=True):
        if len(line.left) >= 12:
            pitches.append(_pitch(line, zone.x_height))
    found = [pitch for pitch in pitches if pitch]
    return float(np.median(found)) if len(found) > MONOSPACED_SHARE * len(pitches) else 0.0


def _pitch(letters: Letters, x_height: float) -> float:
    """The distance of letters of a line that stand on a grid, in x-heights; 0 where they do not."""
    middles = (letters.left + letters.right) / 2 / max(x_height, 1.0)
    usual = float(np.median(np.diff(middles)))
    if not PITCHES[0] <= usual <= PITCHES[1]:
        return 0.0
    pitches = usual * np.linspace(0.93, 1.07, 141)
    # All letters have nearly the same place in their cells: the mean of the places as angles is long.
    agreement = np.abs(np.exp(2j * np.pi * middles[:, None] / pitches).mean(0))
    best = int(np.argmax(agreement))
    return float(pitches[best]) if agreement[best] >= GRID_AGREEMENT else 0.0


def split_words(letters: Letters, x_height: float, usual: float, pitch: float) -> list[Box]:
    """Cut a line into words. `usual` is the threshold of gaps, `pitch` the distance of letters, 0 if it varies."""
    if pitch:
        is_cut = letters.steps > 1.55 * pitch * x_height
        is_cut &= letters.gaps > 0.5 * pitch
    else:
        is_cut = letters.gaps > _threshold(letters.gaps, usual)
    starts = np.concatenate(([0], np.flatnonzero(is_cut) + 1))
    stops = np.concatenate((starts[1:], [len(letters.left)]))
    return [
        Box(
            int(letters.left[start]),
            int(letters.top[start:stop].min()),
            int(letters.right[stop - 1]),
            int(letters.bottom[start:stop].max()),
        )
        for start, stop in zip(starts, stops, strict=True)
    ]


def _threshold(gaps: Floats, usual: float) -> float:
    """The middle of the widest step between the line's own gaps near the usual threshold."""
    low, high = 0.75 * usual, 1.3 * usual
    near = np.unique(np.concatenate((gaps[(gaps > low) & (gaps < high)], [low, high])))
    steps = np.diff(near)
    middles = (near[1:] + near[:-1]) / 2
    # Of steps of the same width the one at the usual threshold.
    return float(middles[np.argmax(steps - 0.3 * np.abs(middles - usual))])
