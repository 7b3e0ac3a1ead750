"""Tables of a page: their cells with texts, as rows, and as GitHub tables.

    Region (lines, cells) -> Table -> grid of texts -> rows of CSV, Markdown

Where a region has no cells, its columns are the white gaps that go through its rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from smolcli.inputs.page import Cell, Line, Page, Region, Word
from smolcli.tasks.page_forms.join import compounds, flow
from smolcli.tasks.page_forms.words import WIDE_GAP, words_of
from smolcli.types import Box

MAX_SPANNING = 0.2  # of the rows may have print in the gap between two columns, as headings do
MAX_SQUARES = 1_000_000  # rows times columns of a table; more are no table but damage


@dataclass(frozen=True)
class TableCell:
    """A cell of a table with its text. Rows and columns count from 0; a merged cell spans several."""

    row: int
    column: int
    text: str
    row_span: int = 1
    column_span: int = 1


@dataclass(frozen=True)
class Table:
    """A table of `rows` x `columns` squares; `page` is the number of its page."""

    rows: int
    columns: int
    cells: tuple[TableCell, ...]
    page: int = 0
    box: Box = Box(0, 0, 0, 0)


def tables_of(pages: Sequence[Page], known: Collection[str] | None = None) -> list[Table]:
    """Return all tables of the pages that have text, in reading order; `known` is that of join.flow."""
    regions = [(page, region) for page in pages for region in page.regions if region.kind == "table"]
    return [
        table_of(region, known, page.number)
        for page, region in regions
        if any(line.text.strip() for line in region.lines)
    ]


def table_of(region: Region, known: Collection[str] | None = None, page: int = 0) -> Table:
    """Return the table of a region: by its cells, or without any by its aligned columns."""
    if not region.cells:
        return _aligned(region, page)
    lines: dict[int, list[Line]] = defaultdict(list)
    for line in region.lines:
        if line.text.strip():
            lines[_cell_of(line, region.cells)].append(line)
    cells = [
        TableCell(cell.row, cell.column, flow(lines[index], known), max(1, cell.row_span), max(1, cell.column_span))
        for index, cell in enumerate(region.cells)
    ]
    return _table(cells, page, region.box)


def _table(cells: Sequence[TableCell], page: int, box: Box) -> Table:
    """Return the table of these cells; one without any has no rows."""
    rows = max((cell.row + cell.row_span for cell in cells), default=0)
    columns = max((cell.column + cell.column_span for cell in cells), default=0)
    if rows * columns > MAX_SQUARES:
        texts = [cell for cell in cells if cell.text]
        return Table(
            len(texts), 1, tuple(TableCell(index, 0, cell.text) for index, cell in enumerate(texts)), page, box
        )
    return Table(rows, columns, tuple(sorted(cells, key=lambda cell: (cell.row, cell.column))), page, box)


def _cell_of(line: Line, cells: Sequence[Cell]) -> int:
    """Return the number of the cell of a line: its own, or that nearest to the centre of the line."""
    if line.cell is not None and 0 <= line.cell < len(cells):
        return line.cell
    x, y = (line.box.left + line.box.right) / 2, (line.box.top + line.box.bottom) / 2

    def distance(box: Box) -> float:
        return max(box.left - x, 0, x - box.right) + max(box.top - y, 0, y - box.bottom)

    return min(range(len(cells)), key=lambda index: distance(cells[index].box))


def grid(table: Table) -> list[list[str]]:
    """Return the rows of a table, all of one length; the text of a merged cell is in its first square.

    >>> grid(Table(2, 2, (TableCell(0, 0, "wide", column_span=2), TableCell(1, 1, "x"))))
    [['wide', ''], ['', 'x']]
    """
    rows = [[""] * table.columns for _ in range(table.rows)]
    for cell in table.cells:
        before = rows[cell.row][cell.column]
        rows[cell.row][cell.column] = f"{before}\n{cell.text}" if before and cell.text else before or cell.text
    return rows


def tables_to_data(pages: Sequence[Page], dehyphenate: bool = False) -> list[dict[str, Any]]:
    """Return the tables of all pages for a record's data: `{"page", "box", "rows": [["text of a cell", ...], ...]}`.

    All rows of a table have one length; the text of a merged cell is in its first square.
    """
    known = compounds(pages) if dehyphenate else None
    return [{"page": table.page, "box": list(table.box), "rows": grid(table)} for table in tables_of(pages, known)]


# ---- tables without cells ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """Words of a row without a wide gap between them."""

    left: int
    right: int
    text: str


def _aligned(region: Region, page: int) -> Table:
    """Return a table by the white gaps between its columns."""
    rows = [_pieces(row) for row in _rows([line for line in region.lines if line.text.strip()])]
    columns = _columns(rows)
    cells = [
        TableCell(number, column, text, column_span=span)
        for number, row in enumerate(rows)
        for column, span, text in _placed(row, columns)
    ]
    return _table(cells, page, region.box)


def _rows(lines: Sequence[Line]) -> list[list[Line]]:
    """Return the lines by rows: lines are in one row if the middle of one is within the height of the other."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.box.top + line.box.bottom, line.box.left)):
        middle = (line.box.top + line.box.bottom) / 2
        if rows and rows[-1][0].box.top <= middle < rows[-1][0].box.bottom:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda line: line.box.left) for row in rows]


def _pieces(row: Sequence[Line]) -> list[_Piece]:
    """Return the parts of a row between its wide gaps."""
    x_height = median(line.x_height or (line.box.bottom - line.box.top) / 2 for line in row)
    groups: list[list[Word]] = []
    for word in (word for line in row for word in words_of(line)):
        if groups and word.box.left - groups[-1][-1].box.right < WIDE_GAP * x_height:
            groups[-1].append(word)
        else:
            groups.append([word])
    return [_Piece(group[0].box.left, group[-1].box.right, " ".join(word.text for word in group)) for group in groups]


def _columns(rows: Sequence[Sequence[_Piece]]) -> list[tuple[int, int]]:
    """Return the left and right edges of the columns: what print covers in more than MAX_SPANNING of the rows."""
    steps: dict[int, int] = defaultdict(int)  # where print begins and ends, over all rows
    for piece in (piece for row in rows for piece in row):
        steps[piece.left] += 1
        steps[piece.right] -= 1
    edges = sorted(steps)
    columns: list[tuple[int, int]] = []
    covered = 0
    for left, right in pairwise(edges):
        covered += steps[left]
        if covered <= MAX_SPANNING * len(rows):
            continue
        if columns and columns[-1][1] == left:
            columns[-1] = columns[-1][0], right
        else:
            columns.append((left, right))
    return columns or [(0, 1)]


def _placed(row: Sequence[_Piece], columns: Sequence[tuple[int, int]]) -> list[tuple[int, int, str]]:
    """Return the column, the number of columns and the text of each cell of a row, from left to right."""
    placed: list[tuple[int, int, str]] = []
    for piece in row:
        touched = [index for index, column in enumerate(columns) if _is_over(piece, *column)] or [
            min(range(len(columns)), key=lambda index: abs(sum(columns[index]) - piece.left - piece.right))
        ]
        if placed and touched[0] < placed[-1][0] + placed[-1][1]:
            column, _, text = placed.pop()
            placed.append((column, max(touched[-1], column) - column + 1, f"{text} {piece.text}"))
        else:
            placed.append((touched[0], touched[-1] - touched[0] + 1, piece.text))
    return placed


def _is_over(piece: _Piece, left: int, right: int) -> bool:
    """Whether a piece covers a quarter of a column, or the column a quarter of the piece."""
    return 4 * (min(piece.right, right) - max(piece.left, left)) > min(piece.right - piece.left, right - left)
