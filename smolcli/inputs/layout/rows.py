"""Tables without rules: rows of short lines side by side, whose columns agree, as opposed to columns of text."""

from __future__ import annotations

import numpy as np

from smolcli.inputs.layout.components import connect
from smolcli.inputs.page import Line

LEVEL = 0.2  # x-heights: baselines of one row differ less
MAX_STEP = 1.5  # ratio of the x-heights of a row
COLUMN_WHITE = 0.8  # x-heights between columns
MAX_WHITE = 9.0  # x-heights between the rows of a table
TEXT_WIDTH = 16.0  # x-heights: a column of text is wider, and its lines fill it
TEXT_FILL = 0.6

Row = list[int]
Span = tuple[int, int]


def find_rows(lines: list[Line]) -> list[Row]:
    """Gather the lines that stand side by side in one row, from the left; rows of one line are among them."""
    if not lines:
        return []
    left = np.array([line.box.left for line in lines])
    baseline = np.array([line.baseline for line in lines])
    size = np.array([line.x_height for line in lines])
    pairs = []
    for number, line in enumerate(lines):
        level = np.abs(baseline - line.baseline) <= LEVEL * np.maximum(size, line.x_height)
        level &= (left >= line.box.right) & (
            np.maximum(size, line.x_height) <= MAX_STEP * np.minimum(size, line.x_height)
        )
        if level.any():
            pairs.append((number, int(np.flatnonzero(level)[np.argmin(left[level])])))
    array = np.array(pairs, np.int64).reshape(-1, 2)
    of_line = connect(len(lines), array[:, 0], array[:, 1])
    rows: list[Row] = [[] for _ in range(int(of_line.max()) + 1)]
    for number in np.argsort(left, kind="stable"):
        rows[of_line[number]].append(int(number))
    return sorted(rows, key=lambda row: min(lines[number].baseline for number in row))


def find_tables(lines: list[Line]) -> list[list[Row]]:
    """Find the tables among lines, each as its rows from the top."""
    tables: list[list[Row]] = []
    block: list[Row] = []
    for row in find_rows(lines):
        if block and _continues(lines, block, row):
            block.append(row)
            continue
        tables.append(block)
        block = [row] if len(row) > 1 else []
    tables.append(block)
    trimmed = [block for table in tables if (block := _trim(table))]
    return [block for block in trimmed if _is_table(lines, block) and not _goes_on(lines, block)]


def _trim(block: list[Row]) -> list[Row]:
    """Leave out rows of one line at the end: text below a table."""
    while block and len(block[-1]) < 2:
        block = block[:-1]
    return block


def _continues(lines: list[Line], block: list[Row], row: Row) -> bool:
    """Whether a row has its place in the columns of the rows above it."""
    last, first = lines[block[-1][0]], lines[row[0]]
    size = max(last.x_height, first.x_height)
    if first.baseline - first.x_height - last.baseline > MAX_WHITE * size or size > MAX_STEP * min(
        last.x_height, first.x_height
    ):
        return False
    before = columns_of(lines, block, size)
    after = columns_of(lines, [*block, row], size)
    if len(row) == 1:
        box = lines[row[0]].box
        return len(after) == len(before) and any(
            left - size <= box.left and box.right <= right + size for left, right in before
        )
    return len(after) >= 2 and len(after) >= 0.6 * max(len(before), len(row))


def columns_of(lines: list[Line], block: list[Row], size: float) -> list[Span]:
    """The columns of rows: what is left of the width when no white goes through all of them."""
    spans = sorted((lines[number].box.left, lines[number].box.right) for row in block for number in row)
    columns = [spans[0]]
    for left, right in spans[1:]:
        if left - columns[-1][1] < COLUMN_WHITE * size:
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    return columns


def _goes_on(lines: list[Line], block: list[Row]) -> bool:
    """Whether a column goes on above or below for two lines, as a column of text does beside which others end."""
    inside = {number for row in block for number in row}
    middles = [lines[row[0]].baseline for row in block]
    if len(middles) < 2:
        return False
    pitch = float(np.median(np.diff(middles)))
    size = lines[block[0][0]].x_height
    for row, way in ((block[0], -1), (block[-1], 1)):
        for number in row:
            count, last = 0, lines[number]
            while other := _neighbour(lines, inside, last, way * pitch, 0.4 * size):
                count, last = count + 1, other
            if count >= 2:
                return True
    return False


def _neighbour(lines: list[Line], inside: set[int], line: Line, step: float, reach: float) -> Line | None:
    """The line outside of a table that stands one `step` below another and begins where it begins."""
    for number, other in enumerate(lines):
        off = max(abs(other.box.left - line.box.left), abs(other.baseline - line.baseline - step))
        if number not in inside and off <= reach:
            return other
    return None


def _is_table(lines: list[Line], block: list[Row]) -> bool:
    """Whether rows are those of a table, not lines of columns of text that happen to be level."""
    several = [row for row in block if len(row) > 1]
    size = float(np.median([lines[number].x_height for row in several for number in row]))
    if len(several) < 2:
        return len(several) == 1 and len(several[0]) >= 3
    if len(several) < 0.4 * len(block):
        return False
    fills: list[list[float]] = []
    for left, right in columns_of(lines, block, size):
        if right - left < TEXT_WIDTH * size:
            return True
        rows = [[b for n in row if (b := lines[n].box).left >= left and b.right <= right] for row in block]
        fills.append([sum(b.right - b.left for b in row) / (right - left) for row in rows if row])
    return len(several) >= 3 and any(float(np.median(fill)) < TEXT_FILL for fill in fills)
