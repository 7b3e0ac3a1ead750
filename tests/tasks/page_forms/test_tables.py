"""tasks/page_forms/tables.py: cells of ruled tables, and columns by the white between them."""

from dataclasses import replace

import pytest

from smolcli.inputs.page import Cell, Line, Region
from smolcli.tasks.page_forms.tables import Table, TableCell, grid, table_of, tables_of, tables_to_data
from smolcli.types import Box
from tests.tasks.page_forms.pages import around, line, page, region, table


def aligned(texts: list[str]) -> list[list[str]]:
    """The rows of a table without rules that was set on a typewriter."""
    return grid(table_of(region(texts, kind="table")))


def test_merged_cells_have_their_text_in_the_first_square() -> None:
    rows: list[list[str | None]] = [["Wide", None, "c"], ["tall", "x", "y"], [None, "v", ""]]
    made = table_of(table(rows))
    assert grid(made) == [["Wide", "", "c"], ["tall", "x", "y"], ["", "v", ""]]
    assert made.cells[0] == TableCell(0, 0, "Wide", 1, 2)
    assert made.cells[2] == TableCell(1, 0, "tall", 2, 1)


def test_a_cell_of_several_lines() -> None:
    whole = table([["one", "x"]])
    second = line("two", 110, 140, cell=0)
    lines = (whole.lines[0], second, whole.lines[1])
    assert grid(table_of(replace(whole, lines=lines))) == [["one\ntwo", "x"]]
    hyphen = (replace(whole.lines[0], text="exam-"), replace(second, text="ple"), whole.lines[1])
    assert grid(table_of(replace(whole, lines=hyphen), known=frozenset())) == [["example", "x"]]


def test_a_line_without_a_cell_goes_to_the_nearest() -> None:
    whole = table([["a", "b"], ["c", "d"]])
    astray = replace(whole.lines[3], cell=None)
    outside = line("e", 5000, 100)
    assert grid(table_of(replace(whole, lines=(*whole.lines[:3], astray, outside)))) == [["a", "b\ne"], ["c", "d"]]
    assert grid(table_of(replace(whole, lines=(replace(astray, cell=77),)))) == [["", ""], ["", "d"]]


def test_columns_without_rules() -> None:
    assert aligned(
        [
            "Fruit            kg      Price",
            "Apples            3       1.20",
            "Pears and plums  12      13.05",
            "Figs                      0.50",
        ]
    ) == [["Fruit", "kg", "Price"], ["Apples", "3", "1.20"], ["Pears and plums", "12", "13.05"], ["Figs", "", "0.50"]]


def test_a_heading_over_columns_spans_them() -> None:
    made = table_of(
        region(
            [
                "     Sales of the whole year 2025",
                "Month       Units      Euro",
                "January        12       140",
                "February        3        25",
                "March           9       101",
                "April           8        99",
            ],
            kind="table",
        )
    )
    assert (made.rows, made.columns) == (6, 3)
    assert made.cells[0] == TableCell(0, 0, "Sales of the whole year 2025", 1, 3)
    assert grid(made)[2] == ["January", "12", "140"]


def test_lines_of_single_cells_are_rows() -> None:
    lines = [line("Apples", 100, 100), line("3", 700, 104), line("Pears", 100, 150), line("12", 690, 148)]
    assert grid(table_of(Region("table", around(lines), tuple(lines)))) == [["Apples", "3"], ["Pears", "12"]]


def test_columns_of_a_line_whose_reply_has_another_number_of_words() -> None:
    whole = region(["Apples      3     1.20", "Pears      12    13.05"], kind="table")
    first = replace(whole.lines[0], text="Red apples 3 1.20")  # four words, and three boxes
    made = table_of(replace(whole, lines=(first, whole.lines[1])))
    assert grid(made) == [["Red apples", "3", "1.20"], ["Pears", "12", "13.05"]]


def test_no_text_is_lost_and_rows_are_padded() -> None:
    ragged = ["a", "b   c", "", "d   e   f   g", "   h"]
    rows = aligned(ragged)
    assert len({len(row) for row in rows}) == 1
    assert [word for row in rows for word in " ".join(row).split()] == " ".join(ragged).split()


def test_tables_of_pages_have_their_numbers() -> None:
    document = [page(table([["a", "b"]])), page(Region("table", Box(0, 0, 9, 9)), table([["c", "d"]]), number=2)]
    assert [(made.page, grid(made)) for made in tables_of(document)] == [(1, [["a", "b"]]), (2, [["c", "d"]])]


@pytest.mark.parametrize("cells", [(), (Cell(0, 0, Box(0, 0, 1, 1)),)])
def test_an_empty_table(cells: tuple[Cell, ...]) -> None:
    assert "".join(map("".join, grid(table_of(Region("table", Box(0, 0, 9, 9), (), cells))))) == ""
    nothing: tuple[Line, ...] = ()
    assert tables_of([page(Region("table", Box(0, 0, 9, 9), nothing, cells))]) == []


def test_damaged_cells_take_no_memory() -> None:
    far = (Cell(0, 0, Box(0, 0, 9, 9)), Cell(10**7, 10**7, Box(0, 0, 9, 9)))
    lines = (line("a", cell=0), line("b", cell=1))
    made = table_of(Region("table", Box(0, 0, 9, 9), lines, far))
    assert grid(made) == [["a"], ["b"]]


def test_two_cells_of_one_square_keep_both_texts() -> None:
    assert grid(Table(1, 1, (TableCell(0, 0, "a"), TableCell(0, 0, "b")))) == [["a\nb"]]


def test_tables_as_data() -> None:
    document = [page(table([["exam-", "b"], ["ple", None]], top=100))]
    assert tables_to_data(document) == [
        {"page": 1, "box": [100, 100, 900, 220], "rows": [["exam-", "b"], ["ple", ""]]},
    ]
