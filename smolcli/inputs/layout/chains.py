"""Chains of letters that stand beside each other: the parts of which lines are made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from smolcli.inputs.layout.components import Components, Ints, Mask, connect, facing_pairs
from smolcli.inputs.layout.metrics import Zone, zone_of
from smolcli.types import Box

Floats = NDArray[np.float64]

MIN_FACING = 0.42  # of the height of the lower one: neighbours in a line face each other in so many rows
MAX_RATIO = 2.7  # of the heights of neighbours
CHAIN_GAP = 1.3  # heights of a small letter: white inside a chain; that between columns is wider
MIN_GUTTER = 1.4  # x-heights between columns of text


@dataclass
class Chain:
    """A part of a line: the numbers of its letters and of its `extra` dots and signs, its box, and its zone."""

    members: list[int]
    left: int
    top: int
    right: int
    bottom: int
    zone: Zone
    extra: list[int] = field(default_factory=list)
    ends_in_sign: bool = False

    def add(self, parts: Components, number: int) -> None:
        """Take a small component in."""
        self.extra.append(number)
        if parts.right[number] > self.right:
            self.ends_in_sign = bool(parts.bottom[number] > self.zone.baseline - 0.4 * self.zone.x_height)
        self.left, self.right = min(self.left, int(parts.left[number])), max(self.right, int(parts.right[number]))
        self.top, self.bottom = min(self.top, int(parts.top[number])), max(self.bottom, int(parts.bottom[number]))

    def join(self, other: Chain) -> None:
        """Take another chain in; the zone is left as it is."""
        self.members += other.members
        self.extra += other.extra
        self.ends_in_sign = (other if other.right > self.right else self).ends_in_sign
        self.left, self.right = min(self.left, other.left), max(self.right, other.right)
        self.top, self.bottom = min(self.top, other.top), max(self.bottom, other.bottom)


@dataclass(frozen=True)
class Edges:
    """The edges and zones of many chains as arrays, and how many letters they have."""

    left: Floats
    right: Floats
    x_top: Floats
    baseline: Floats
    ends_in_sign: Mask
    letters: Ints

    @classmethod
    def of(cls, chains: list[Chain]) -> Edges:
        """Gather those of `chains`."""
        rows = [(chain.left, chain.right, chain.zone.x_top, chain.zone.baseline) for chain in chains]
        ends = np.array([chain.ends_in_sign for chain in chains], np.bool_)
        letters = np.array([len(chain.members) for chain in chains], np.int64)
        left, right, x_top, baseline = np.array(rows, np.float64).reshape(-1, 4).T
        return cls(left, right, x_top, baseline, ends, letters)

    @property
    def size(self) -> Floats:
        """The heights of the zones."""
        return self.baseline - self.x_top

    @property
    def middle(self) -> Floats:
        """The middles of the zones."""
        return (self.baseline + self.x_top) / 2


def core_letters(parts: Components, scale: float) -> Mask:
    """Choose what has the height of a letter, of small print too; dots, dashes and dirt are left for later."""
    return (parts.height >= max(3.0, 0.55 * scale)) & (parts.area >= 0.1 * scale * scale)


def chain_letters(parts: Components, is_core: Mask, scale: float, upright: list[Box]) -> list[Chain]:
    """Chain letters with their neighbours in the line."""
    height = parts.height
    left, right, rows, gaps = facing_pairs(parts, CHAIN_GAP * 8 * scale)
    lower, higher = np.minimum(height[left], height[right]), np.maximum(height[left], height[right])
    chosen = is_core[left] & is_core[right] & (rows >= MIN_FACING * lower) & (higher <= MAX_RATIO * lower)
    chosen &= gaps <= CHAIN_GAP * np.minimum(higher, 1.45 * lower)  # a tall letter beside a small one is no large print
    left, right = left[chosen], right[chosen]
    middle = (np.maximum(parts.top[left], parts.top[right]) + np.minimum(parts.bottom[left], parts.bottom[right])) / 2
    free = ~is_parted(parts.right[left], parts.left[right], middle, upright)
    of_part = connect(len(parts), left[free], right[free])
    core = np.flatnonzero(is_core)
    core = core[np.argsort(of_part[core], kind="stable")]
    borders = np.flatnonzero(np.diff(of_part[core])) + 1
    return [make_chain(parts, members) for members in np.split(core, borders) if len(members)]


def is_parted(left: Ints | Floats, right: Ints | Floats, middle: Floats, upright: list[Box]) -> Mask:
    """Whether an upright rule stands between `left` and `right` at the height `middle`, for each of many."""
    if not upright:
        return np.zeros(len(left), np.bool_)
    rules = np.array(upright)
    x = (rules[:, 0] + rules[:, 2]) / 2
    inside = (x >= left[:, None] - 1) & (x <= right[:, None] + 1)
    inside &= (rules[:, 1] <= middle[:, None]) & (rules[:, 3] >= middle[:, None])
    return np.asarray(inside.any(1))


def make_chain(parts: Components, members: Ints) -> Chain:
    """Make a chain of components and measure its zone."""
    tops, bottoms = parts.top[members], parts.bottom[members]
    return Chain(
        members.tolist(),
        int(parts.left[members].min()),
        int(tops.min()),
        int(parts.right[members].max()),
        int(bottoms.max()),
        zone_of(tops, bottoms),
    )


def split_at_gutters(parts: Components, chains: list[Chain]) -> list[Chain]:
    """Cut chains at whites that may be between columns, which the height of two letters alone does not tell.

    The pieces keep the zone of the whole, since few letters do not show their own.
    """
    if not chains:
        return []
    of_chain = np.repeat(np.arange(len(chains)), [len(chain.members) for chain in chains])
    members = np.concatenate([chain.members for chain in chains])
    order = np.lexsort((parts.left[members], of_chain))
    members, of_chain = members[order], of_chain[order]
    shift = of_chain * (parts.runs.shape[1] + 1)  # puts the chains beside each other
    whites = (parts.left[members] + shift)[1:] - np.maximum.accumulate(parts.right[members] + shift)[:-1]
    least = MIN_GUTTER * np.array([chain.zone.x_height for chain in chains])
    is_next = of_chain[1:] != of_chain[:-1]
    starts = np.flatnonzero(is_next | (whites >= least[of_chain[1:]])) + 1
    owners = of_chain[np.concatenate(([0], starts))]
    counts = np.bincount(owners)
    return [
        chains[owner] if counts[owner] == 1 else replace(make_chain(parts, piece), zone=chains[owner].zone)
        for owner, piece in zip(owners.tolist(), np.split(members, starts), strict=True)
    ]
