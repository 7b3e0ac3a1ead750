"""Whether a page is upside down: Latin print has more above the small letters than below the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smolcli.inputs.layout.chains import Chain
from smolcli.inputs.layout.components import Components

OUTSIDE = 0.22  # x-heights: a letter that goes so far out of the zone of the small letters is one with a stem or a tail
DOUBT = 0.75  # of what speaks for upright: with more against it the page is looked at upside down too
MIN_LEAD = 3.0  # letters and signs more for upright than against it, that a page turned upside down must have
SIGN_WEIGHT = 0.5  # of a full stop or a comma; of a letter it is 1


@dataclass(frozen=True)
class Evidence:
    """How many letters and signs speak for upright print, and how many for print that is upside down."""

    upright: float
    turned: float

    @property
    def is_doubtful(self) -> bool:
        """Whether the page should be looked at upside down too."""
        return self.turned > DOUBT * self.upright

    def is_better(self, other: Evidence) -> bool:
        """Whether these lines look upright, more than the `other` ones, which are the same upside down."""
        if self.upright - self.turned < MIN_LEAD:
            return False
        return self.upright * (other.upright + other.turned) > other.upright * (self.upright + self.turned)


def evidence(parts: Components, chains: Sequence[Chain]) -> Evidence:
    """Count what speaks for and against lines that stand upright."""
    upright = turned = 0.0
    for chain in chains:
        zone = chain.zone
        reach = OUTSIDE * zone.x_height
        members = np.array(chain.members)
        if zone.ratio and len(members) >= 3:
            is_above, is_below = parts.top[members] < zone.x_top - reach, parts.bottom[members] > zone.baseline + reach
            upright += int(np.sum(is_above & ~is_below))
            turned += int(np.sum(is_below & ~is_above))
        if chain.extra:
            extra = np.array(chain.extra)
            height = parts.height[extra]
            # Full stops and commas lie on the baseline; a hyphen lies in the middle, and dots on i above.
            dots = height >= 0.6 * parts.width[extra]
            low = np.abs(parts.bottom[extra] - height / 2 - zone.baseline) <= 0.3 * zone.x_height
            high = np.abs(parts.top[extra] + height / 2 - zone.x_top) <= 0.3 * zone.x_height
            upright += SIGN_WEIGHT * int(np.sum(dots & low))
            turned += SIGN_WEIGHT * int(np.sum(dots & high))
    return Evidence(upright, turned)
