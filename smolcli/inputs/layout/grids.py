"""The cells of ruled tables: squares between rules, merged where no rule stands between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smolcli.inputs.layout.components import connect
from smolcli.inputs.page import Cell
from smolcli.types import Box

JOINT = 0.6  # heights of a small letter: rules that come so near to each other meet
COVERED = 0.6  # of an edge of a square: from here on a rule stands there


@dataclass(frozen=True)
class Grid:
    """A ruled table: its box, and its cells row by row."""

    box: Box
    cells: tuple[Cell, ...]

    def cell_of(self, box: Box) -> int | None:
        """The number of the cell that holds the middle of a box."""
        x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
        for number, cell in enumerate(self.cells):
            if cell.box.left <= x < cell.box.right and cell.box.top <= y < cell.box.bottom:
                return number
        return None


def find_grids(level: list[Box], upright: list[Box], scale: float) -> list[Grid]:
    """Find the sets of rules that meet and make at least two cells."""
    if len(level) < 2 or len(upright) < 2:
        return []
    tolerance = max(2.0, JOINT * scale)
    across, up = np.array(level, np.float64), np.array(upright, np.float64)
    meet = (across[:, None, 0] - tolerance <= up[None, :, 2]) & (up[None, :, 0] <= across[:, None, 2] + tolerance)
    meet &= (up[None, :, 1] - tolerance <= across[:, None, 3]) & (across[:, None, 1] <= up[None, :, 3] + tolerance)
    first, second = np.nonzero(meet)
    of_rule = connect(len(level) + len(upright), first, second + len(level))
    grids = []
    for number in range(int(of_rule.max()) + 1):
        chosen = of_rule == number
        grid = _grid(across[chosen[: len(level)]], up[chosen[len(level) :]], tolerance)
        if grid is not None:
            grids.append(grid)
    return grids


def _grid(level: np.ndarray, upright: np.ndarray, tolerance: float) -> Grid | None:
    if len(level) < 2 or len(upright) < 2:
        return None
    ys = _places((level[:, 1] + level[:, 3]) / 2, tolerance)
    xs = _places((upright[:, 0] + upright[:, 2]) / 2, tolerance)
    rows, columns = len(ys) - 1, len(xs) - 1
    if rows < 1 or columns < 1 or rows * columns < 2 or rows * columns > 5000:
        return None
    pairs = []
    for row in range(rows):
        for column in range(columns):
            square = row * columns + column
            if column + 1 < columns and not _stands(upright, xs[column + 1], ys[row], ys[row + 1], tolerance):
                pairs.append((square, square + 1))
            if row + 1 < rows and not _stands(
                level[:, [1, 0, 3, 2]], ys[row + 1], xs[column], xs[column + 1], tolerance
            ):
                pairs.append((square, square + columns))
    array = np.array(pairs, np.int64).reshape(-1, 2)
    of_square = connect(rows * columns, array[:, 0], array[:, 1]).reshape(rows, columns)
    cells = []
    for number in range(int(of_square.max()) + 1):
        in_row, in_column = np.nonzero(of_square == number)
        top, left, bottom, right = in_row.min(), in_column.min(), in_row.max() + 1, in_column.max() + 1
        box = Box(*(round(float(edge)) for edge in (xs[left], ys[top], xs[right], ys[bottom])))
        cells.append(Cell(int(top), int(left), box, int(bottom - top), int(right - left)))
    if len(cells) < 2:
        return None
    return Grid(Box(*(round(float(edge)) for edge in (xs[0], ys[0], xs[-1], ys[-1]))), tuple(cells))


def _places(values: np.ndarray, tolerance: float) -> np.ndarray:
    """The different places among some that nearly agree, in order."""
    values = np.sort(values)
    borders = np.flatnonzero(np.diff(values) > 1.5 * tolerance) + 1
    return np.array([group.mean() for group in np.split(values, borders)])


def _stands(rules: np.ndarray, place: float, start: float, stop: float, tolerance: float) -> bool:
    """Whether rules at `place` cover most of the way from `start` to `stop`."""
    near = rules[np.abs((rules[:, 0] + rules[:, 2]) / 2 - place) <= 1.5 * tolerance]
    covered = np.minimum(near[:, 3], stop) - np.maximum(near[:, 1], start)
    return float(covered.clip(0).sum()) >= COVERED * (stop - start)
