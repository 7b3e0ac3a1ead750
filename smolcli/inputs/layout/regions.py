"""From lines to regions: tables, and blocks of lines that become paragraphs, in reading order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from smolcli.inputs.layout.components import connect
from smolcli.inputs.layout.grids import Grid, find_grids
from smolcli.inputs.layout.kinds import paragraphs, with_kinds
from smolcli.inputs.layout.order import reading_order
from smolcli.inputs.layout.rows import Row, columns_of, find_tables
from smolcli.inputs.page import Cell, Line, Region
from smolcli.types import Box

Size = tuple[int, int]

REACH = 6.0  # x-heights from a table to its first and its last rule
MIN_BANDS = 3  # level rules that part the rows of a table
MAX_SIZE_STEP = 1.25  # ratio of the x-heights of neighbouring lines of a block
MAX_WHITE = 2.6  # x-heights between a baseline and the small letters of the next line of a block


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around some."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return Box(min(lefts), min(tops), max(rights), max(bottoms))


def make_regions(
    lines: list[Line], pictures: list[Box], rules: tuple[list[Box], list[Box]], size: Size
) -> list[Region]:
    """Gather lines to regions in reading order. `rules` are level and upright, `size` is width and height."""
    grids = find_grids(*rules, float(np.median([line.x_height for line in lines] or [1.0])))
    regions = [Region("picture", box) for box in pictures]
    for grid in sorted(grids, key=lambda grid: grid.box.right - grid.box.left):
        ruled, lines = _ruled_table(grid, lines)
        regions += ruled
    tables = find_tables(lines)
    taken = {number for table in tables for row in table for number in row}
    numbers: list[list[int]] = []
    for table in tables:  # a line is in one of them, though several may stand between the same rules
        numbers.append(_with_banded(lines, table, rules[0], taken))
        taken.update(numbers[-1])
    regions += [_plain_table(lines, table, chosen, rules[0]) for table, chosen in zip(tables, numbers, strict=True)]
    inside = {number for chosen in numbers for number in chosen}
    rest = [line for number, line in enumerate(lines) if number not in inside]
    for block in with_initials(find_blocks(rest)):
        regions.append(Region("text", union([line.box for line in block]), tuple(block)))
    scale = float(np.median([line.x_height for region in regions for line in region.lines] or [1.0]))
    order = reading_order([region.box for region in regions], 0.8 * scale)
    split = [part for number in order for part in paragraphs(regions[number])]
    return with_kinds(split, size)


def _ruled_table(grid: Grid, lines: list[Line]) -> tuple[list[Region], list[Line]]:
    """Take the lines that stand in the cells of a grid; none where only one cell has some."""
    cells = [grid.cell_of(line.box) for line in lines]
    if len(set(cells) - {None}) < 2:
        return [], lines
    inside = [replace(line, cell=cell) for line, cell in zip(lines, cells, strict=True) if cell is not None]
    rest = [line for line, cell in zip(lines, cells, strict=True) if cell is None]
    inside.sort(key=lambda line: (line.cell or 0, line.baseline, line.box.left))
    ordered = []
    for cell in range(len(grid.cells)):
        ordered += by_rows([line for line in inside if line.cell == cell])
    return [Region("table", grid.box, tuple(ordered), grid.cells)], rest


def _bands(box: Box, level: list[Box], size: float) -> list[int]:
    """The heights of the rules that go through the width of a table without upright rules."""
    through = [
        rule
        for rule in level
        if min(rule.right, box.right) - max(rule.left, box.left) >= 0.8 * (box.right - box.left)
        and box.top - REACH * size <= rule.top <= box.bottom + REACH * size
    ]
    return sorted(rule.top for rule in through)


def _with_banded(lines: list[Line], table: list[Row], level: list[Box], taken: Collection[int]) -> list[int]:
    """The numbers of the lines of a table, with those between its rules that no other table has `taken`."""
    chosen = [number for row in table for number in row]
    box = union([lines[number].box for number in chosen])
    bands = _bands(box, level, lines[chosen[0]].x_height)
    if len(bands) >= MIN_BANDS:
        for number, line in enumerate(lines):
            inside = line.box.left >= box.left - 1 and line.box.right <= box.right + 1
            if number not in taken and inside and bands[0] <= line.box.top and line.box.bottom <= bands[-1]:
                chosen.append(number)
    return chosen


def _plain_table(lines: list[Line], table: list[Row], chosen: list[int], level: list[Box]) -> Region:
    """Make a region of the lines that are `chosen`: rows of a table, or those between two of its level rules."""
    size = float(np.median([lines[number].x_height for number in chosen]))
    columns = columns_of(lines, table, size)
    bands = _bands(union([lines[number].box for number in chosen]), level, size)
    rows = [lines[row[0]].baseline for row in table]
    cells: dict[tuple[int, int], Cell] = {}
    placed = []
    for number in chosen:
        line, box = lines[number], lines[number].box
        over = [n for n, (left, right) in enumerate(columns) if left < box.right and box.left < right] or [0]
        if len(bands) >= MIN_BANDS:
            row = int(np.searchsorted(bands, (box.top + box.bottom) / 2))
        else:
            row = int(np.argmin([abs(line.baseline - baseline) for baseline in rows]))
        key = (row, over[0])
        known = cells.get(key)
        cells[key] = Cell(row, over[0], union([box, known.box]) if known else box, 1, over[-1] - over[0] + 1)
        placed.append((key, line.baseline, box.left, line))
    first = min(row for row, _ in cells)
    numbers = {key: number for number, key in enumerate(sorted(cells))}
    ordered = tuple(replace(line, cell=numbers[key]) for key, _, _, line in sorted(placed, key=lambda one: one[:3]))
    box = union([line.box for line in ordered])
    if len(table) == 1:
        return Region("text", box, tuple(replace(line, cell=None) for line in ordered))
    return Region(
        "table", box, ordered, tuple(replace(cells[key], row=cells[key].row - first) for key in sorted(cells))
    )


def find_blocks(lines: list[Line]) -> list[list[Line]]:
    """Gather lines that stand below each other closely, in the same size, to blocks."""
    if not lines:
        return []
    left, right = np.array([(line.box.left, line.box.right) for line in lines]).T
    baseline = np.array([line.baseline for line in lines])
    size = np.array([line.x_height for line in lines])
    x_top = baseline - size
    pairs = []
    for number, line in enumerate(lines):
        shared = np.minimum(right, line.box.right) - np.maximum(left, line.box.left)
        white = x_top - line.baseline
        below = (shared > 0) & (x_top > line.baseline - 0.5 * line.x_height)
        if not below.any():
            continue
        other = int(np.flatnonzero(below)[np.argmin(white[below])])
        sizes = sorted((line.x_height, lines[other].x_height))
        if white[other] <= MAX_WHITE * sizes[0] and sizes[1] <= MAX_SIZE_STEP * sizes[0]:
            pairs.append((number, other))
    array = np.array(pairs, np.int64).reshape(-1, 2)
    of_line = connect(len(lines), array[:, 0], array[:, 1])
    blocks: list[list[Line]] = [[] for _ in range(int(of_line.max()) + 1)]
    for line, block in zip(lines, of_line, strict=True):
        blocks[block].append(line)
    return blocks


def with_initials(blocks: list[list[Line]]) -> list[list[Line]]:
    """Sort the lines of blocks; a capital of several lines' height comes before the lines beside it."""
    ordered = [by_rows(block) for block in blocks]
    for number, block in enumerate(blocks):
        if len(block) == 1 and len(block[0].words) == 1:
            box = block[0].box
            for other in ordered:
                beside = [line.box for line in other if box.top < line.baseline - line.x_height / 2 < box.bottom]
                begins = len(beside) >= 2 and all(
                    box.right <= one.left <= box.right + box.bottom - box.top for one in beside
                )
                first = other[0]
                if begins and other[0].box == beside[0] and abs(box.top - beside[0].top) <= 1.5 * first.x_height:
                    other.insert(0, block[0])
                    ordered[number] = []
                    break
    return [block for block in ordered if block]


def by_rows(block: list[Line]) -> list[Line]:
    """Sort the lines of a block by rows, and those of a row from the left."""
    rows: list[list[Line]] = []
    for line in sorted(block, key=lambda line: line.baseline):
        if rows and line.baseline - rows[-1][0].baseline <= 0.6 * line.x_height:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.box.left)]
