"""From components to lines of print: chains of neighbours, joined along a row where no column's white is between."""

from __future__ import annotations

import numpy as np

from smolcli.inputs.layout.chains import Chain, Edges, chain_letters, core_letters, make_chain, split_at_gutters
from smolcli.inputs.layout.columns import join_rows
from smolcli.inputs.layout.components import Components, Ints, connect, facing_pairs
from smolcli.inputs.layout.metrics import Zone
from smolcli.types import Box

MAX_CHAINS = 3000  # more parts of lines than a newspaper page has: they are a texture, and are not joined
MIN_SIGN = 0.01  # of the square of the height of a small letter: ink of a full stop
MIN_LETTER = 3.5  # pixels: the height of a small letter that can still be read
MIN_ALONE = 6.5  # pixels: the height of a digit that stands alone
MAX_FILL = 0.72  # of its box that a letter or a digit fills; a round spot fills 0.79


def find_lines(parts: Components, scale: float, upright: list[Box]) -> list[Chain]:
    """Find the lines among letters and signs. `scale` is the height of a small letter, `upright` are rules.

    Of more than MAX_CHAINS parts of lines they are returned as they are: that is no print.
    """
    if not len(parts):
        return []
    is_core = core_letters(parts, scale)
    chains = chain_letters(parts, is_core, scale, upright)
    if len(chains) > MAX_CHAINS:
        return chains
    chains, signs = set_signs_apart(chains)
    chains = split_at_gutters(parts, chains)
    small = attach_small(parts, chains, [*np.flatnonzero(~is_core).tolist(), *signs], scale)
    chains = join_rows(parts, chains, upright)
    small = attach_small(parts, chains, small, scale)
    chains += chain_signs(parts, np.array(small, np.int64), scale)
    return [chain for chain in chains if is_line(parts, chain, scale)]


def set_signs_apart(chains: list[Chain]) -> tuple[list[Chain], list[int]]:
    """Take out chains that are but an apostrophe or a dash beside larger print; returns the rest and their letters."""
    edges = Edges.of(chains)
    rest, signs = [], []
    for number, chain in enumerate(chains):
        height = chain.bottom - chain.top
        if len(chain.members) <= 2 and chain.right - chain.left <= 2.5 * height:
            off = np.maximum(edges.left - chain.right, chain.left - edges.right)
            middle = (chain.top + chain.bottom) / 2
            limit = np.where(off < 0, 1.0, np.where(off <= 1.2 * edges.size, 0.8, 0.7))  # a loop of a g; a sign
            near = (off <= 2.2 * edges.size) & (height <= limit * edges.size)
            near &= middle >= edges.x_top - 0.8 * edges.size
            near &= middle <= edges.baseline + np.where(off < 0, 0.8, 0.45) * edges.size
            near[number] = False
            if near.any():
                signs += chain.members
                continue
        rest.append(chain)
    return rest, signs


def attach_small(parts: Components, chains: list[Chain], small: list[int], scale: float) -> list[int]:
    """Give dots, accents, dashes and other signs to the line they stand in, nearest first; returns the rest."""
    least = max(2.0, MIN_SIGN * scale * scale)
    waiting = [number for number in small if parts.area[number] >= least]
    for _ in range(3):  # a row of dots grows from the line
        edges = Edges.of(chains)
        size = edges.size
        rest = []
        for number in sorted(waiting, key=lambda number: int(parts.left[number])):
            middle = (parts.top[number] + parts.bottom[number]) / 2
            off = np.maximum(edges.left - parts.right[number], parts.left[number] - edges.right).clip(0)
            above, below = (edges.x_top - middle) / size, (middle - edges.baseline) / size
            reach = np.where(parts.width[number] >= 0.4 * size, 2.3, 1.6) * size  # a sign or a dash; a dot
            fits = (off <= np.where(above <= 0.6, reach, 0.2 * size)) & (above <= 0.8)
            fits &= below <= np.where(off <= 0, 0.8, 0.45)
            if not fits.any():
                rest.append(number)
                continue
            distance = np.where(fits, off / size + np.maximum(np.maximum(above, below * 1.5), 0), np.inf)
            best = int(np.argmin(distance))
            chains[best].add(parts, number)
            edges.left[best], edges.right[best] = chains[best].left, chains[best].right
        if len(rest) == len(waiting):
            break
        waiting = rest
    return waiting


def chain_signs(parts: Components, small: Ints, scale: float) -> list[Chain]:
    """Make lines of three signs or more that stand alone in a row, such as dashes or quotes."""
    left, right, _, gaps = facing_pairs(parts, 1.3 * scale)
    alone = np.zeros(len(parts), np.bool_)
    alone[small] = True
    sizes = np.maximum(parts.height, parts.width)
    alone &= sizes >= 0.25 * scale
    alike = np.maximum(sizes[left], sizes[right]) <= 2 * np.minimum(sizes[left], sizes[right])
    chosen = alone[left] & alone[right] & alike & (gaps >= 0)
    of_part = connect(len(parts), left[chosen], right[chosen])
    counts = np.bincount(of_part, minlength=1)
    chains = []
    for number in np.unique(of_part[alone & (counts[of_part] >= 3)]):
        members = np.flatnonzero((of_part == number) & alone)
        chain = make_chain(parts, members)
        chain.zone = Zone(chain.bottom - max(scale, chain.bottom - chain.top), chain.bottom)
        chains.append(chain)
    return chains


def is_line(parts: Components, chain: Chain, scale: float) -> bool:
    """Refuse dirt: what is too small for print, and single spots."""
    height = chain.bottom - chain.top
    if len(chain.members) >= 3:
        return chain.zone.x_height >= MIN_LETTER
    if chain.zone.x_height < max(MIN_LETTER, 0.45 * scale):
        return False
    if len(chain.members) == 1 and not chain.extra:
        number = chain.members[0]
        fill = parts.area[number] / (parts.width[number] * height)
        is_upright = parts.width[number] <= 0.5 * height  # a 1 fills its box
        if parts.width[number] < 0.1 * height:  # what is left of a rule
            return False
        return bool(height >= max(MIN_ALONE, 0.8 * scale) and (is_upright or fill <= MAX_FILL))
    return True
