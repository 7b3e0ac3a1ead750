"""How far a page is turned: by quarters, and by a few degrees, from the components of its print."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from smolcli.inputs.layout.components import Components, Ints, Mask

Floats = NDArray[np.float64]

MIN_LETTERS = 10  # that show an angle
MAX_LETTERS = 6000  # that are asked about the angle
MAX_SKEW = 15.0  # degrees
MIN_SKEW = 0.1  # degrees: less is left alone, as leptonica does
MIN_GAIN = 1.1  # of the best angle's score over that of a straight page, below which the page stays straight
STRIP = 8  # columns that are taken together
BANDS = 2  # halves of the width, each judged alone: the lines of two columns need not be level
SMOOTHING = np.array([1, 4, 6, 4, 1]) / 16
SAMPLE = 300  # components whose neighbours are measured


def letter_like(parts: Components) -> Mask:
    """Choose the components that may be letters, by size alone: no dirt, no rules, no pictures."""
    longest = np.maximum(parts.width, parts.height)
    shortest = np.minimum(parts.width, parts.height)
    some = (longest >= 4) & (shortest >= 2) & (longest <= 300)
    if not some.any():
        return some
    scale = float(np.median(longest[some]))
    chosen = some & (longest >= 0.4 * scale) & (shortest <= 4 * scale)
    return chosen & (longest <= 20 * shortest)


def scale_of(parts: Components) -> float:
    """The height of a small letter in pixels by the median of the components; 0 where nothing is like a letter."""
    chosen = letter_like(parts)
    if not chosen.any():
        return 0.0
    height = np.sort(np.minimum(parts.height, parts.width * 2)[chosen])
    # Dots of leaders and dirt may be more than the letters, but have little height together.
    middle = float(height[np.searchsorted(np.cumsum(height), height.sum() / 2)])
    return float(np.median(height[height >= 0.5 * middle]))


def is_sideways(parts: Components, chosen: Mask) -> bool:
    """Whether the lines run up and down: letters are nearer to their neighbours in a line than to other lines."""
    across = _nearest(parts.left[chosen], parts.right[chosen], parts.top[chosen], parts.bottom[chosen])
    along = _nearest(parts.top[chosen], parts.bottom[chosen], parts.left[chosen], parts.right[chosen])
    return bool(np.sum(along < across) > 1.3 * np.sum(across < along) and np.sum(along < across) >= 2)


def _nearest(low: Ints, high: Ints, side_low: Ints, side_high: Ints) -> Ints:
    """The white between each of a sample and its nearest neighbour further on, of those that lie level with it."""
    step = max(1, len(low) // SAMPLE)
    mine = slice(None, None, step)
    shared = np.minimum(side_high[mine, None], side_high) - np.maximum(side_low[mine, None], side_low)
    smaller = np.minimum((side_high - side_low)[mine, None], side_high - side_low)
    white = low[None, :] - high[mine, None]
    white = np.where((shared * 2 >= smaller) & (low[None, :] > low[mine, None]), np.maximum(white, 0), 10**6)
    return np.asarray(white.min(1)) if white.size else np.zeros(0, np.int64)


def find_skew(print_: Mask, x: Floats, bottoms: Floats) -> float:
    """Return by how many degrees the page must be turned clockwise so that its lines are level; 0.0 where unsure.

    `print_` has the letters alone, of which `x` and `bottoms` are the middles and the lower edges. The score of an
    angle is the sum of squared differences of neighbouring row sums (Postl) of rows sheared by that angle, in each
    half of the page; then the angle is refined so that most letters end at the same heights.
    """
    score = _row_score(print_)
    if score is None or len(x) < MIN_LETTERS:
        return 0.0
    angles = np.arange(-MAX_SKEW - 0.5, MAX_SKEW + 0.6, 0.5)
    coarse = float(angles[int(np.argmax([score(angle) for angle in angles]))])
    coarse = max((coarse - 0.25, coarse, coarse + 0.25), key=score)
    if coarse and score(coarse) < MIN_GAIN * score(0.0):
        coarse = 0.0
    best = _refined(coarse, x - print_.shape[1] / 2, bottoms)
    return round(best, 2) if MIN_SKEW <= abs(best) <= MAX_SKEW else 0.0


def _row_score(print_: Mask) -> Callable[[float], float] | None:
    """The function that says how sharply rows of print stand out, by angle; None where there is nothing."""
    height, width = print_.shape
    strips = -(-width // STRIP)
    sums = np.pad(print_, ((0, 0), (0, strips * STRIP - width))).reshape(height, strips, STRIP).sum(2, dtype=np.int32)
    rows, columns = np.nonzero(sums)
    if not len(rows):
        return None
    weights = sums[rows, columns].astype(np.float64)
    x = (columns + 0.5 - strips / 2) * STRIP
    reach = int(np.abs(x).max() * np.tan(np.radians(MAX_SKEW + 1))) + 2
    size = height + 2 * reach + 2
    shift = columns * BANDS // strips * size  # the bands one below the other

    def score(angle: float) -> float:
        place = np.round(rows + x * np.tan(np.radians(angle))).astype(np.int64) + reach + shift
        profile = np.convolve(np.bincount(place, weights, BANDS * size), SMOOTHING, "same")
        return float(np.square(np.diff(profile)).sum())

    return score


def _refined(coarse: float, x: Floats, bottoms: Floats) -> float:
    """The angle near `coarse` at which most letters end at the same heights, in bins of half a pixel."""
    x, bottoms = x[:MAX_LETTERS], bottoms[:MAX_LETTERS]

    def agreement(angle: float) -> float:
        place = bottoms + x * np.tan(np.radians(angle))
        bins = np.round(2 * (place - place.min())).astype(np.int64)
        return float(np.square(np.convolve(np.bincount(bins), SMOOTHING, "same")).sum())

    best = coarse
    for step, count in ((0.05, 7), (0.01, 5)):
        best = max((best + step * k for k in range(-count, count + 1)), key=agreement)
    gain = MIN_GAIN if not coarse else 1.01
    return best if agreement(best) > gain * agreement(coarse) else coarse
