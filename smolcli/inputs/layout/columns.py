"""Which whites along a row are between words and which between columns; the pieces of a line are joined by that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smolcli.inputs.layout.chains import MIN_GUTTER, Chain, Edges, Floats, is_parted
from smolcli.inputs.layout.components import Components, Ints, Mask, connect
from smolcli.inputs.layout.metrics import zone_of
from smolcli.types import Box

COLUMN_GAPS = ((3.5, 2), (2.5, 3), (1.9, 6))  # white in x-heights, and the rows that make it a column's
GUTTER_ROWS = 8  # that make a white the one between two columns, however narrow
BULGE = 0.25  # x-heights by which a letter may reach into a white that goes through its row
TEXT_WIDTH = 15.0  # x-heights: of a column of text; a table has narrower ones
ROW_STEP = 4.6  # x-heights between the rows of a column
LONE_GAP = 2.4  # x-heights: so much white parts a row even if no other row shows it, if the row is not spread
SENTENCE_GAP = 1.5  # x-heights more after a full stop: two spaces
WIDEST_GAP = 7.0  # x-heights: of a row that is spread
UNEVEN = 0.9  # x-heights by which the whites of a row that is spread differ: letters stand off as much in their cells
SPREAD_ROWS = 4  # that all whites of a row go through if it is one of a table, not spread
SMALL_SHARE = 0.25  # of the letters of a row that stand in chains of its x-height or less
FLUSH_ROWS = 2  # that begin and end where a row does that is spread to the width of a column
FLUSH_REACH = 12.0  # x-heights up and down to such rows
INDENT = 4.0  # x-heights by which their left ends may differ
MAX_STEP = 2.0  # ratio of the sizes of chains of one line


def join_rows(parts: Components, chains: list[Chain], upright: list[Box]) -> list[Chain]:
    """Join chains of one row where no column ends between them. `upright` are rules."""
    edges = Edges.of(chains)
    first, second = _neighbours(chains, edges)
    if not len(first):
        return chains
    joins = ~is_parted(edges.right[first], edges.left[second], edges.middle[first], upright)
    whole = Rows.of(edges, connect(len(chains), first, second))
    counts = np.array([_rows_at(*pair, edges, whole) for pair in zip(first, second, strict=True)], np.int64)
    # Gutters first: they tell where rows of a column end, and so which rows are spread to its width.
    joins &= ~find_gutters(edges, first, second, joins, counts)
    rows = Rows.of(edges, connect(len(chains), first[joins], second[joins]))
    whites = (edges.left[second] - edges.right[first]) / rows.size[first]
    needed = rows_needed(whites)
    is_column = (counts >= needed) | (whites >= LONE_GAP + SENTENCE_GAP * edges.ends_in_sign[first])
    wide = joins & (whites >= MIN_GUTTER)
    goes_on = counts >= np.maximum(needed, SPREAD_ROWS)
    spread = spread_rows(edges, rows, rows.number[first[wide]], whites[wide], goes_on[wide])
    joins &= np.where(spread[rows.number[first]], whites < WIDEST_GAP, ~is_column)
    of_chain = connect(len(chains), first[joins], second[joins])
    joined: dict[int, list[Chain]] = {}
    for number in np.argsort(edges.left, kind="stable"):
        joined.setdefault(int(of_chain[number]), []).append(chains[number])
    return [merge(parts, pieces) for pieces in joined.values()]


def merge(parts: Components, pieces: list[Chain]) -> Chain:
    """Make one chain of the pieces of a line, from the left; its zone is measured anew if there are several."""
    whole = pieces[0]
    for piece in pieces[1:]:
        whole.join(piece)
    if len(pieces) > 1:
        whole.zone = zone_of(parts.top[whole.members], parts.bottom[whole.members])
    return whole


def _neighbours(chains: list[Chain], edges: Edges) -> tuple[Ints, Ints]:
    """The chains that have another of about their size to the right in their row, and those others."""
    pairs = []
    for number, chain in enumerate(chains):
        other = _next_in_row(chain, number, edges)
        if other is not None and max(edges.size[[number, other]]) <= MAX_STEP * min(edges.size[[number, other]]):
            pairs.append((number, other))
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


@dataclass(frozen=True)
class Rows:
    """For each chain, the number of the row of chains that it stands in, the ends of that row, and its x-height."""

    number: Ints
    left: Floats
    right: Floats
    size: Floats

    @classmethod
    def of(cls, edges: Edges, number: Ints) -> Rows:
        """Measure the rows that have the numbers `number`."""
        left = np.full(len(number), np.inf)
        right = np.zeros(len(number))
        np.minimum.at(left, number, edges.left)
        np.maximum.at(right, number, edges.right)
        return cls(number, left[number], right[number], _row_sizes(edges, number)[number].clip(1))


def _row_sizes(edges: Edges, number: Ints) -> Floats:
    """The x-height of each row: a chain of digits or capitals is higher, one of quotes or dirt is lower."""
    order = np.lexsort((edges.size, number))
    row, letters = number[order], edges.letters[order]
    total = np.bincount(row, letters)
    below = np.cumsum(letters) - (np.cumsum(total) - total)[row]
    enough = below >= SMALL_SHARE * total[row]
    _, firsts = np.unique(row[enough], return_index=True)
    return np.asarray(edges.size[order][enough][firsts])


def find_gutters(edges: Edges, first: Ints, second: Ints, joins: Mask, counts: Ints) -> Mask:
    """Choose the whites between `first` and `second` that are gutters, by the rows that they go through: `counts`.

    Narrow whites are so only where most gutters have a column of text at both sides, not in tables. `joins` are the
    whites without a rule in them.
    """
    gutters = counts >= GUTTER_ROWS
    if not gutters.any():
        return gutters
    inside = joins & ~gutters
    rows = Rows.of(edges, connect(len(edges.left), first[inside], second[inside]))
    width = rows.right - rows.left
    narrower = np.minimum(width[first], width[second])[gutters] / edges.size[first[gutters]]
    if np.median(narrower) < TEXT_WIDTH:
        size = np.minimum(edges.size[first], edges.size[second])
        gutters &= edges.left[second] - edges.right[first] >= COLUMN_GAPS[-1][0] * size
    return gutters | _hold_gutter(edges, first, second, gutters)


def _hold_gutter(edges: Edges, first: Ints, second: Ints, gutters: Mask) -> Mask:
    """Whether the white between `first` and `second` holds that of a gutter in one of the next rows.

    So the gutter goes on beside lines that end early or are indented.
    """
    low, high, middle = edges.right[first], edges.left[second], edges.middle[first]
    near = np.abs(middle[:, None] - middle[gutters]) <= ROW_STEP * edges.size[first][:, None]
    return np.asarray((near & (low[:, None] <= low[gutters]) & (high[:, None] >= high[gutters])).any(1))


def spread_rows(edges: Edges, rows: Rows, of_white: Ints, whites: Floats, goes_on: Mask) -> Mask:
    """Whether the words of each row are spread to the width of a column of text.

    Such a row begins and ends where others nearby do. It has two whites or more, which are even, and not all of which
    go on above or below as those of a table do. `whites`, in x-heights, stand in the rows `of_white`.
    """
    count = int(rows.number.max()) + 1
    most, least = np.zeros(count), np.full(count, np.inf)
    np.maximum.at(most, of_white, whites)
    np.minimum.at(least, of_white, whites)
    number = np.bincount(of_white, minlength=count)
    spread = (number >= 2) & (most - least <= UNEVEN)
    spread &= np.bincount(of_white, goes_on, minlength=count) < number
    _, firsts = np.unique(rows.number, return_index=True)
    left, right, middle, size = (values[firsts] for values in (rows.left, rows.right, edges.middle, rows.size))
    spread &= right - left >= TEXT_WIDTH * size
    for row in np.flatnonzero(spread):
        away = np.abs(middle - middle[row])
        beside = (away > 0.5 * size[row]) & (away <= FLUSH_REACH * size[row])
        beside &= (np.abs(right - right[row]) <= 0.6 * size[row]) & (np.abs(left - left[row]) <= INDENT * size[row])
        spread[row] = np.sum(beside) >= FLUSH_ROWS
    return np.asarray(spread)


def _next_in_row(chain: Chain, number: int, edges: Edges) -> int | None:
    """The nearest chain to the right that stands in the same row."""
    shared = np.minimum(edges.baseline, chain.zone.baseline) - np.maximum(edges.x_top, chain.zone.x_top)
    level = (shared >= 0.5 * np.minimum(edges.size, chain.zone.x_height)) & (edges.left > chain.left)
    level &= edges.left >= chain.right - 0.5 * chain.zone.x_height
    level[number] = False
    if not level.any():
        return None
    return int(np.flatnonzero(level)[np.argmin(edges.left[level])])


def rows_needed(whites: Floats) -> Floats:
    """The number of rows that a white, in x-heights, must go through to be one between columns; infinite if narrow."""
    needed = np.full(len(whites), np.inf)
    for least, rows in reversed(COLUMN_GAPS):
        needed[whites >= least] = rows
    return needed


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
    width = min(high - low, MIN_GUTTER * size)
    starts = {low, (low + high - width) / 2, high - width}
    aligned = np.abs(edges.left - edges.left[second]) <= 0.8 * size
    aligned |= np.abs(whole.right - whole.right[second]) <= 0.8 * size
    return max(_rows_beside(start, start + width, first, edges, aligned) for start in starts)


def _rows_beside(low: float, high: float, first: int, edges: Edges, aligned: Mask) -> int:
    """Count the rows on the side of the white from `low` to `high` that has fewer, as far as they follow each other.

    Of those on the right only chains that are `aligned` count.
    """
    size, middle = edges.size[first], edges.middle[first]
    inside = (edges.left < high - BULGE * size) & (edges.right > low + BULGE * size)
    above = edges.baseline[inside & (edges.middle < middle)]
    below = edges.x_top[inside & (edges.middle > middle)]
    top = above.max() if len(above) else -np.inf
    bottom = below.min() if len(below) else np.inf
    free = (edges.x_top >= top) & (edges.baseline <= bottom)
    reach = 25 * size
    before = edges.middle[free & (edges.right <= low + BULGE * size) & (edges.right > low - reach)]
    after = edges.middle[free & aligned & (edges.left >= high - BULGE * size) & (edges.left < high + reach)]
    places = np.sort(np.concatenate((before, after, [middle])))
    groups = np.split(places, np.flatnonzero(np.diff(places) > ROW_STEP * size) + 1)
    start, stop = next((group[0], group[-1]) for group in groups if group[0] <= middle <= group[-1])
    return min(_count_rows(side[(side >= start) & (side <= stop)], 0.8 * size) for side in (before, after))


def _count_rows(middles: Floats, step: float) -> int:
    """Count the rows among the middles of chains; those within a `step` of each other are of one row."""
    return int(np.sum(np.diff(np.sort(middles)) > step)) + 1 if len(middles) else 0
