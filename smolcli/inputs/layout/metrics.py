"""The zone of the small letters of a line: baseline and x-height, from the tops and bottoms of its letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smolcli.inputs.layout.components import Ints

Floats = NDArray[np.float64]

RATIOS = (1.2, 1.75)  # of capitals and ascenders to small letters, in the faces of print
USUAL_RATIO = 1.42  # of a capital to a small letter
SAME = 0.07  # heights that differ by so little are those of letters of one kind
FEW = 4  # letters, of which one may be a comma
SAMPLE = 300  # letters of a line that are compared with each other
NEAR = 0.13  # of a height: of another line that is taken for print of the same size


@dataclass(frozen=True)
class Zone:
    """Where the small letters of a line are. `ratio` is that of its capitals to them, 0 if it has only one kind."""

    x_top: float
    baseline: float
    ratio: float = 0.0
    letters: int = 0

    @property
    def x_height(self) -> float:
        """The height of a small letter."""
        return self.baseline - self.x_top


def zone_of(tops: Ints, bottoms: Ints) -> Zone:
    """Measure a line by the tops and bottoms of its letters, dots and signs left out.

    Where all letters are of one height, the zone has that height, be they small ones, capitals or digits.
    """
    letters = len(tops)
    if letters > SAMPLE:  # of many letters some say as much
        tops, bottoms = tops[:: letters // SAMPLE], bottoms[:: letters // SAMPLE]
    height = float(np.median(bottoms - tops))
    baseline = _baseline(bottoms, SAME * height)
    above = np.sort((baseline - tops).astype(np.float64))
    least = 0.4 * height if letters > FEW else max(0.4 * height, 0.55 * float(above[-1]))  # a comma is no letter
    above = above[above >= least]
    if not len(above):
        return Zone(float(np.median(tops)), float(np.median(bottoms)), 0.0, letters)
    lower = _lowest_kind(above)
    upper = above[(above >= RATIOS[0] * lower) & (above <= RATIOS[1] * lower)]
    ratio = float(np.median(upper)) / lower if len(upper) else 0.0
    return Zone(baseline - lower, baseline, ratio, letters)


def _lowest_kind(above: Floats) -> float:
    """The height of the lowest kind of letters that are at least one in seven."""
    reach = np.maximum(1.0, SAME * above)
    near = np.abs(above[:, None] - above[None, :]) <= reach[:, None]
    counts = near.sum(1)
    needed = max(1.0 if len(above) < 5 else 2.0, len(above) / 7)
    first = int(np.flatnonzero(counts >= min(needed, counts.max()))[0])
    # The first has the lower edge of its kind: take the fullest of those near it.
    kind = np.flatnonzero(near[first])
    best = int(kind[np.argmax(counts[kind])])
    return float(above[near[best]].mean())


def _baseline(bottoms: Ints, reach: float) -> float:
    """The most usual bottom, or one above it that is almost as usual: commas and brackets end below the baseline."""
    near = np.abs(bottoms[:, None] - bottoms[None, :]) <= max(1.0, reach)
    counts = near.sum(1)
    enough = counts >= min(max(0.5 * counts.max(), 0.25 * len(bottoms)), counts.max())
    upper = enough & (bottoms <= bottoms[enough].min() + 2 * max(1.0, reach))
    best = int(np.argmax(np.where(upper, counts, 0)))
    return float(bottoms[near[best]].mean())


def settle(zones: Sequence[Zone], places: Floats) -> list[Zone]:
    """Give each line the x-height that its neighbours say: one of capitals or digits alone does not show its own.

    `places` has the left edge and the baseline of each, shape (lines, 2).
    """
    sure = np.array([zone.ratio > 0 and zone.letters >= 4 for zone in zones])
    x_heights = np.array([zone.x_height for zone in zones])
    ratios = np.array([zone.ratio or USUAL_RATIO for zone in zones])
    usual_ratio = float(np.median(ratios[sure])) if sure.any() else USUAL_RATIO
    settled = []
    for number, zone in enumerate(zones):
        height = zone.x_height
        as_small = np.abs(x_heights / height - 1)
        as_capital = np.abs(x_heights * ratios / height - 1)
        if zone.ratio:  # it shows small letters and others, or digits and a stroke
            as_capital[np.abs(places[:, 1] - places[number, 1]) > 0.5 * height] = np.inf
        fits = sure & (np.minimum(as_small, as_capital) <= NEAR)
        fits[number] = False
        if not fits.any() or (sure[number] and zone.letters >= 12):
            settled.append(zone if zone.ratio else replace(zone, x_top=zone.baseline - height / usual_ratio))
            continue
        distance = np.abs(places - places[number]).sum(1) / height + 40 * np.minimum(as_small, as_capital)
        nearest = int(np.flatnonzero(fits)[np.argmin(distance[fits])])
        settled.append(replace(zone, x_top=zone.baseline - x_heights[nearest]))
    return settled
