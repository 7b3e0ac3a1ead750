"""Tables with and without rules, forms, lists, and the order of reading."""

from __future__ import annotations

import pytest

from smolcli.inputs.layout import regions as regions_module
from smolcli.inputs.layout.order import reading_order
from smolcli.inputs.layout.regions import make_regions
from smolcli.inputs.page import Line, Word
from smolcli.types import Box
from tests.inputs.layout.sheets import Sheet, assert_read, laid_out

ROWS = (
    ("Article", "Number", "Price"),
    ("Lamp oil", "12", "4.50"),
    ("Pine shelf", "3", "19.00"),
    ("Glue", "140", "2.25"),
)


def table(x: tuple[int, ...] = (80, 260, 420), step: int = 40) -> Sheet:
    sheet = Sheet()
    for row, cells in enumerate(ROWS):
        for left, text in zip(x, cells, strict=True):
            sheet.line(left, 120 + step * row, text)
    return sheet


def test_every_cell_of_a_ruled_table_is_found_row_by_row() -> None:
    sheet = table()
    for y in range(95, 96 + 40 * 4, 40):
        sheet.draw.line((60, y, 540, y), "black", 2)
    for x in (60, 240, 400, 540):
        sheet.draw.line((x, 95, x, 255), "black", 2)
    page = laid_out(sheet.image).page
    assert_read(page, sheet.lines)
    [region] = page.regions
    assert region.kind == "table"
    assert [(cell.row, cell.column) for cell in region.cells] == [
        (row, column) for row in range(4) for column in range(3)
    ]
    assert [line.cell for line in region.lines] == list(range(12))


def test_a_cell_without_a_rule_between_spans_two_columns() -> None:
    sheet = Sheet()
    sheet.line(200, 120, "Both years")
    sheet.line(80, 160, "1901")
    sheet.line(330, 160, "1902")
    for y in (95, 135, 175):
        sheet.draw.line((60, y, 540, y), "black", 2)
    for x, top in ((60, 95), (300, 135), (540, 95)):
        sheet.draw.line((x, top, x, 175), "black", 2)
    page = laid_out(sheet.image).page
    assert_read(page, sheet.lines)
    spans = [(cell.row, cell.column, cell.row_span, cell.column_span) for cell in page.regions[0].cells]
    assert spans == [(0, 0, 1, 2), (1, 0, 1, 1), (1, 1, 1, 1)]


def test_a_table_without_rules_is_read_row_by_row() -> None:
    page = laid_out(table().image).page
    assert_read(page, table().lines)
    [region] = page.regions
    assert region.kind == "table"
    assert [(region.cells[line.cell or 0].row, region.cells[line.cell or 0].column) for line in region.lines] == [
        (row, column) for row in range(4) for column in range(3)
    ]


def test_two_lines_between_level_rules_are_one_row() -> None:
    sheet = Sheet()
    for row, name in enumerate(("screw", "latch", "gloves", "shelf")):
        y = 120 + 60 * row
        sheet.draw.line((60, y - 22, 460, y - 22), "black", 2)
        sheet.line(80, y, "Garden")
        sheet.line(80, y + 24, name)
        sheet.line(380, y, "14.20")
    sheet.draw.line((60, 120 + 60 * 4 - 22, 460, 120 + 60 * 4 - 22), "black", 2)
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_a_form_is_read_label_by_label() -> None:
    sheet = Sheet()
    for row, (label, value) in enumerate((("Name", "Felix Vance"), ("Town", "Grantham"), ("Telephone", "453 503"))):
        y = 120 + 45 * row
        sheet.line(60, y, label)
        sheet.draw.rectangle((200, y - 22, 420, y + 10), outline="black")
        sheet.line(212, y, value)
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_a_letter_is_read_from_the_top_though_its_blocks_stand_left_and_right() -> None:
    sheet = Sheet()
    for number, text in enumerate(("Clara Rasmussen", "84 Orchard Street", "Penrith 16980")):
        sheet.line(420, 80 + 24 * number, text)
    for number, text in enumerate(("Nils Whitlock", "19 Mill Lane", "Fallowfield 44418")):
        sheet.line(60, 200 + 24 * number, text)
    sheet.line(400, 330, "Penrith, 9 April 1961")
    sheet.paragraph(60, 400, 5)
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_items_of_a_list_are_regions_of_their_own() -> None:
    sheet = Sheet()
    for item in range(3):
        y = 100 + 60 * item
        sheet.draw.ellipse((60, y - 9, 65, y - 4), "black")
        sheet.line(76, y, "Every box holds a great many things of")
        sheet.line(76, y + 24, "many kinds, as the label says.")
    page = laid_out(sheet.image).page
    assert [(region.kind, len(region.lines)) for region in page.regions] == [("list", 2)] * 3


def test_columns_come_before_rows_but_not_through_a_title() -> None:
    title, left, right, foot = Box(0, 0, 100, 10), Box(0, 20, 45, 90), Box(55, 20, 100, 80), Box(0, 100, 100, 110)
    assert reading_order([foot, right, title, left], 5) == [2, 3, 1, 0]


def test_paragraphs_with_white_at_the_same_height_do_not_make_rows_of_columns() -> None:
    boxes = [Box(0, 0, 45, 40), Box(0, 50, 45, 90), Box(55, 0, 100, 40), Box(55, 50, 100, 90)]
    assert reading_order(boxes, 5) == [0, 1, 2, 3]


def test_a_line_between_the_rules_of_two_tables_is_in_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where figures with ascenders and descenders break the rows of a table apart."""
    first, second = [[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[9, 10, 11, 12], [13, 14, 15, 16]]  # not the last four lines
    monkeypatch.setattr(regions_module, "find_tables", lambda lines: [first, second])
    lines = []
    for top, columns in ((100, (80, 260, 420)), (162, (80, 200, 330, 460))):
        for row in range(3):
            for left in columns:
                box = Box(left, top + 15 * row, left + 60, top + 15 * row + 10)
                lines.append(Line(box, (Word(box),), 10.0, box.bottom))
    level = [Box(60, top, 660, top + 2) for top in (95, 157, 200)]
    regions = make_regions(lines, [], (level, []), (720, 420))
    boxes = [line.box for region in regions for line in region.lines]
    assert sorted(boxes) == sorted(line.box for line in lines)
