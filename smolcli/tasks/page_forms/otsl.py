"""OTSL, the language of tables in DocTags: a token for each square of a table, and one at the end of each row.

    fcel, ched, rhed, srow: a cell with text (plain, head of a column, of a row, a row over the whole table); ecel: an
    empty one; lcel, ucel, xcel: a square of the cell to the left, above, or both; nl: the end of a row

(https://arxiv.org/abs/2305.03393, with the heads that docling has added.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from smolcli.inputs.page import Cell
from smolcli.types import Box

LEFT, UP, BOTH, END_OF_ROW, EMPTY = "lcel", "ucel", "xcel", "nl", "ecel"
TOKENS = ("fcel", EMPTY, "ched", "rhed", "srow", LEFT, UP, BOTH, END_OF_ROW)


@dataclass(frozen=True)
class OtslCell:
    """A cell of a table with its text. Rows and columns count from 0; a merged cell spans several."""

    row: int
    column: int
    text: str
    row_span: int = 1
    column_span: int = 1

    def cell(self, box: Box) -> Cell:
        """Return the cell without its text, at this place."""
        return Cell(self.row, self.column, box, self.row_span, self.column_span)


@dataclass(frozen=True)
class OtslTable:
    """A table of `rows` x `columns` squares."""

    rows: int
    columns: int
    cells: tuple[OtslCell, ...]


def parse_otsl(tokens: Iterable[tuple[str, str]]) -> OtslTable:
    """Return the table of tokens, each with the text after it.

    Rows that are too short, as in a reply that was cut, get empty cells. A square that belongs to no cell is one of its
    own, so that no text is lost.
    """
    rows: list[list[tuple[str, str]]] = [[]]
    for token, text in tokens:
        if token == END_OF_ROW:
            rows.append([])
        else:
            rows[-1].append((token, text.strip()))
    rows = [row for row in rows if row]
    columns = max(map(len, rows), default=0)
    squares = [row + [(EMPTY, "")] * (columns - len(row)) for row in rows]
    taken: set[tuple[int, int]] = set()
    cells = []
    for row in range(len(squares)):
        for column in range(columns):
            if (row, column) not in taken:
                cells.append(_cell(squares, row, column, taken))
    return OtslTable(len(squares), columns, tuple(cells))


def _cell(squares: Sequence[Sequence[tuple[str, str]]], row: int, column: int, taken: set[tuple[int, int]]) -> OtslCell:
    """Return the cell that begins at a square, and note its squares in `taken`."""
    right = column + 1
    while right < len(squares[row]) and squares[row][right][0] == LEFT:
        right += 1
    down = row + 1
    while down < len(squares) and _belongs(squares[down][column:right]):
        down += 1
    inside = [(y, x) for y in range(row, down) for x in range(column, right)]
    taken.update(inside)
    text = "\n".join(filter(None, (squares[y][x][1] for y, x in inside)))
    return OtslCell(row, column, text, down - row, right - column)


def _belongs(squares: Sequence[tuple[str, str]]) -> bool:
    """Whether squares of the next row belong to the cell above: the first looks up, the others both ways or up."""
    return squares[0][0] in (UP, BOTH) and all(token in (UP, BOTH, LEFT) for token, _ in squares[1:])
