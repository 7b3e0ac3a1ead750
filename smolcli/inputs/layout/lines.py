"""From components to lines of print: chains of neighbours, joined along a row where no column's white is between."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from smolcli.inputs.layout.components import Components, Ints, Mask, connect, facing_pairs
from smolcli.inputs.layout.metrics import Zone, zone_of
from smolcli.types import Box

Floats = NDArray[np.float64]

MIN_FACING = 0.42  # of the height of the lower one: neighbours in a line face each other in so many rows
MAX_RATIO = 2.7  # of the heights of neighbours
CHAIN_GAP = 1.3  # heights of a small letter: white inside a chain; that between columns is wider
COLUMN_GAPS = ((3.5, 2), (2.5, 3), (1.9, 6), (1.6, 8))  # white in x-heights, and the rows that make it a column's
MIN_GUTTER = 1.4  # x-heights between columns of text
GUTTER_ROWS = 8  # that make a white the one between two columns, however narrow
TEXT_WIDTH = 15.0  # x-heights: of a column of text; a table has narrower ones
ROW_STEP = 4.6  # x-heights between the rows of a column
SPREAD_ROWS = 5  # that make it so within a column of text whose lines are spread
LONE_GAP = 2.4  # x-heights: so much white parts a row even if no other row shows it, if the row is not spread
SENTENCE_GAP = 1.5  # x-heights more after a full stop: two spaces
WIDEST_GAP = 7.0  # x-heights: of a row that is spread
MAX_CHAINS = 3000  # more parts of lines than a newspaper page has: they are a texture, and are not joined
MIN_SIGN = 0.01  # of the square of the height of a small letter: ink of a full stop
MIN_LETTER = 3.5  # pixels: the height of a small letter that can still be read
MIN_ALONE = 6.5  # pixels: the height of a digit that stands alone
MAX_FILL = 0.72  # of its box that a letter or a digit fills; a round spot fills 0.79
MAX_STEP = 2.0  # ratio of the sizes of chains of one line


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
        """Take another chain in; the zone is that of the one with more letters."""
        if len(other.members) > len(self.members):
            self.zone = other.zone
        self.members += other.members
        self.extra += other.extra
        self.ends_in_sign = (other if other.right > self.right else self).ends_in_sign
        self.left, self.right = min(self.left, other.left), max(self.right, other.right)
        self.top, self.bottom = min(self.top, other.top), max(self.bottom, other.bottom)


@dataclass(frozen=True)
class Edges:
    """The edges and zones of many chains as arrays."""

    left: Floats
    right: Floats
    x_top: Floats
    baseline: Floats
    ends_in_sign: Mask

    @classmethod
    def of(cls, chains: list[Chain]) -> Edges:
        """Gather those of `chains`."""
        rows = [(chain.left, chain.right, chain.zone.x_top, chain.zone.baseline) for chain in chains]
        ends = np.array([chain.ends_in_sign for chain in chains], np.bool_)
        left, right, x_top, baseline = np.array(rows, np.float64).reshape(-1, 4).T
        return cls(left, right, x_top, baseline, ends)

    @property
    def size(self) -> Floats:
        """The heights of the zones."""
        return self.baseline - self.x_top

    @property
    def middle(self) -> Floats:
        """The middles of the zones."""
        return (self.baseline + self.x_top) / 2


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
    small = attach_small(parts, chains, [*np.flatnonzero(~is_core).tolist(), *signs], scale)
    chains = join_rows(chains, upright)
    small = attach_small(parts, chains, small, scale)
    chains += chain_signs(parts, np.array(small, np.int64), scale)
    return [chain for chain in chains if is_line(parts, chain, scale)]


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


def join_rows(chains: list[Chain], upright: list[Box]) -> list[Chain]:
    """Join chains of one row where no column ends between them."""
    edges = Edges.of(chains)
    pairs = []
    for number, chain in enumerate(chains):
        other = _next_in_row(chain, number, edges)
        if other is not None and max(edges.size[[number, other]]) <= MAX_STEP * min(edges.size[[number, other]]):
            pairs.append((number, other))
    array = np.array(pairs, np.int64).reshape(-1, 2)
    first, second = array[:, 0], array[:, 1]
    joins = ~is_parted(edges.right[first], edges.left[second], edges.middle[first], upright)
    # Long whites first: they tell where rows of a column end, and so which rows are spread to its width.
    whole = Rows.of(edges, connect(len(chains), first, second))
    counts = np.array([_rows_at(number, other, edges, whole) for number, other in pairs], np.int64)
    joins &= counts < GUTTER_ROWS
    rows = Rows.of(edges, connect(len(chains), first[joins], second[joins]))
    gutters = counts >= GUTTER_ROWS
    narrower = np.minimum((rows.right - rows.left)[first], (rows.right - rows.left)[second])[gutters]
    has_gutters = bool(gutters.any() and np.median(narrower / edges.size[first][gutters]) >= TEXT_WIDTH)
    for index in np.flatnonzero(joins):
        white = _white(first[index], second[index], edges)
        is_flush = _is_flush(first[index], edges, rows)
        joins[index] = not is_column(white, int(counts[index]), is_flush, has_gutters, edges.ends_in_sign[first[index]])
    of_chain = connect(len(chains), first[joins], second[joins])
    joined: dict[int, Chain] = {}
    for number in np.argsort(edges.left, kind="stable"):
        known = joined.setdefault(int(of_chain[number]), chains[number])
        if known is not chains[number]:
            known.join(chains[number])
    return list(joined.values())


@dataclass(frozen=True)
class Rows:
    """For each chain, the ends of the row of chains that it stands in."""

    left: Floats
    right: Floats

    @classmethod
    def of(cls, edges: Edges, of_chain: Ints) -> Rows:
        """Measure the rows whose numbers are `of_chain`."""
        left = np.full(len(of_chain), np.inf)
        right = np.zeros(len(of_chain))
        np.minimum.at(left, of_chain, edges.left)
        np.maximum.at(right, of_chain, edges.right)
        return cls(left[of_chain], right[of_chain])


def _next_in_row(chain: Chain, number: int, edges: Edges) -> int | None:
    """The nearest chain to the right that stands in the same row."""
    shared = np.minimum(edges.baseline, chain.zone.baseline) - np.maximum(edges.x_top, chain.zone.x_top)
    level = (shared >= 0.5 * np.minimum(edges.size, chain.zone.x_height)) & (edges.left > chain.left)
    level &= edges.left >= chain.right - 0.5 * chain.zone.x_height
    level[number] = False
    if not level.any():
        return None
    return int(np.flatnonzero(level)[np.argmin(edges.left[level])])


def is_column(white: float, count: int, is_flush: bool, has_gutters: bool, ends_in_sign: bool) -> bool:
    """Whether the white between two chains of a row, in x-heights, is one between columns, not between words.

    `count` is the number of rows that it goes through; `is_flush` says that the row may be spread to the width of its
    column, and `has_gutters` that the page has columns of text.
    """
    if white < COLUMN_GAPS[-1][0]:
        return False
    lone = LONE_GAP + (SENTENCE_GAP if ends_in_sign else 0.0)
    if white >= WIDEST_GAP or (white >= lone and not is_flush):
        return True
    needed = next(rows for least, rows in COLUMN_GAPS if white >= least)
    return count >= (max(needed, SPREAD_ROWS) if is_flush and has_gutters else needed)


def _white(first: int, second: int, edges: Edges) -> float:
    """The white between two chains in x-heights."""
    return float((edges.left[second] - edges.right[first]) / max(min(edges.size[first], edges.size[second]), 1.0))


def _rows_at(first: int, second: int, edges: Edges, whole: Rows) -> int:
    """Count the rows that the white between two chains goes through; 0 if it is too narrow to be between columns.

    Of the rows to the right those count that begin or end as this one does: `whole` has the ends of rows.
    """
    if _white(first, second, edges) < MIN_GUTTER:
        return 0
    low, high = float(edges.right[first]), float(edges.left[second])
    size = max(float(edges.size[first]), 1.0)
    width = min(high - low, 1.4 * size)
    starts = {low, (low + high - width) / 2, high - width}
    aligned = np.abs(edges.left - edges.left[second]) <= 0.8 * size
    aligned |= np.abs(whole.right - whole.right[second]) <= 0.8 * size
    return max(_rows_beside(start, start + width, first, edges, aligned) for start in starts)


def _is_flush(first: int, edges: Edges, rows: Rows) -> bool:
    """Whether a row ends where the rows above or below end: then its words may be spread to the full width."""
    size = edges.size[first]
    if rows.right[first] - rows.left[first] < TEXT_WIDTH * size:
        return False
    away = np.abs(edges.middle - edges.middle[first])
    same = np.maximum(np.abs(rows.left - rows.left[first]), np.abs(rows.right - rows.right[first])) <= 0.6 * size
    return bool((same & (away > 0.5 * size) & (away <= 4 * size)).any())


def _rows_beside(low: float, high: float, first: int, edges: Edges, aligned: Mask) -> int:
    """Count the rows on the side of the white from `low` to `high` that has fewer, as far as they follow each other.

    Of those on the right only chains that are `aligned` count.
    """
    size, middle = edges.size[first], edges.middle[first]
    inside = (edges.left < high - 0.1 * size) & (edges.right > low + 0.1 * size)
    above = edges.baseline[inside & (edges.middle < middle)]
    below = edges.x_top[inside & (edges.middle > middle)]
    top = above.max() if len(above) else -np.inf
    bottom = below.min() if len(below) else np.inf
    free = (edges.x_top >= top) & (edges.baseline <= bottom)
    reach = 25 * size
    before = edges.middle[free & (edges.right <= low + 0.1 * size) & (edges.right > low - reach)]
    after = edges.middle[free & aligned & (edges.left >= high - 0.1 * size) & (edges.left < high + reach)]
    places = np.sort(np.concatenate((before, after, [middle])))
    groups = np.split(places, np.flatnonzero(np.diff(places) > ROW_STEP * size) + 1)
    start, stop = next((group[0], group[-1]) for group in groups if group[0] <= middle <= group[-1])
    return min(_count_rows(side[(side >= start) & (side <= stop)], 0.8 * size) for side in (before, after))


def _count_rows(middles: Floats, step: float) -> int:
    """Count the rows among the middles of chains; those within a `step` of each other are of one row."""
    return int(np.sum(np.diff(np.sort(middles)) > step)) + 1 if len(middles) else 0


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
