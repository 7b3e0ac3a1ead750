"""Letters of two lines that touch, as a tail and a stem do, are cut apart between the lines."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from smolcli.inputs.layout.components import Components, Ints, Mask, gather

TALL = 2.4  # heights of a small letter: with stem and tail a letter has under 2.2
NORMAL = (0.6, 2.2)  # heights of a small letter: of the letters beside, which show the baselines
REACH = 8.0  # heights of a small letter: how far they may be
MIN_LETTERS = 3  # that end at a baseline


def split_touching(parts: Components, scale: float) -> Components:
    """Cut components that reach over several baselines of the letters around them."""
    tall = np.flatnonzero((parts.height >= TALL * scale) & (parts.height <= 60 * scale))
    normal = (parts.height >= NORMAL[0] * scale) & (parts.height <= NORMAL[1] * scale)
    if not len(tall) or np.sum(normal) < 2 * MIN_LETTERS:
        return parts
    of_run = parts.of_run.copy()
    count = len(parts)
    for number in tall:
        cuts = _cuts(parts, int(number), normal, scale)
        if len(cuts):
            own = np.flatnonzero(parts.of_run == number)
            piece = np.searchsorted(cuts, parts.runs.rows[own], "right")
            of_run[own] = np.where(piece > 0, count + piece - 1, number)
            count += len(cuts)
    if count == len(parts):
        return parts
    _, numbers = np.unique(of_run, return_inverse=True)
    return gather(parts.runs, numbers.ravel())


def _cuts(parts: Components, number: int, normal: Mask, scale: float) -> Ints:
    """The rows before which a component is cut."""
    left, right = parts.left[number], parts.right[number]
    near = normal & (parts.right > left - REACH * scale) & (parts.left < right + REACH * scale)
    near &= (parts.bottom > parts.top[number]) & (parts.bottom <= parts.bottom[number] + 0.3 * scale)
    if not (near & (parts.right <= left + scale)).any():  # an initial has its lines to the right alone
        return np.zeros(0, np.int64)
    bottoms = np.sort(parts.bottom[near])
    groups = np.split(bottoms, np.flatnonzero(np.diff(bottoms) > 0.25 * scale) + 1)
    baselines = [float(np.median(group)) for group in groups if len(group) >= MIN_LETTERS]
    rows, runs = parts.runs.rows, parts.of_run == number
    ink = np.bincount(rows[runs] - parts.top[number], (parts.runs.stops - parts.runs.starts)[runs])
    cuts = []
    for upper, lower in pairwise(baselines):
        if lower - upper >= 1.4 * scale:
            start = int(upper - parts.top[number])
            stop = max(start + 1, int(lower - scale - parts.top[number]) + 1)
            if 0 < start < len(ink):
                cuts.append(int(parts.top[number]) + start + int(np.argmin(ink[start:stop])))
    return np.array(cuts, np.int64)
