"""Whites along a row: between words, however wide they are spread, or between columns, however narrow."""

from __future__ import annotations

import pytest

from tests.inputs.layout.sheets import Sheet, assert_read, laid_out


@pytest.mark.parametrize("white", [14, 16, 20])
def test_columns_with_a_narrow_gutter_are_two(white: int) -> None:
    sheet = Sheet()
    sheet.column(40, 100, 16, 240, seed=1, indent=16)
    sheet.column(280 + white, 100, 16, 240, seed=2, indent=16)
    assert_read(laid_out(sheet.image).page, sheet.lines)


@pytest.mark.parametrize("fill", [0.74, 0.77, 0.8, 0.84])
@pytest.mark.parametrize("indent", [0, 20])
def test_spread_lines_are_not_cut_at_their_words(fill: float, indent: int) -> None:
    sheet = Sheet(width=800)
    for x in (40, 410):
        for number in range(4):
            sheet.column(x, 100 + 144 * number, 6, 340, seed=number + x, indent=indent, fill=fill)
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_a_gutter_goes_on_between_a_line_that_ends_early_and_one_that_is_indented() -> None:
    sheet = Sheet()
    for x, last in ((40, 9), (300, 8)):
        for first, count in ((0, last), (last, 18 - last)):
            sheet.column(x, 100 + 24 * first, count, 240, seed=x + first, indent=20, fill=0.85)
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_the_words_of_a_menu_are_apart_though_it_is_as_wide_as_the_title_above() -> None:
    sheet = Sheet()
    title = sheet.line(40, 60, "Notes on the boiler of the mill")
    menu = "File Edit View Help"
    words = sheet.line(40, 90, menu, width=title.right - 40)
    sheet.lines[1:] = [
        type(sheet.lines[1])(text, box, [box], 90) for text, box in zip(menu.split(), sheet.lines[1].words, strict=True)
    ]
    assert words.right - 40 > 15 * 9
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_numbers_of_a_table_are_apart_though_digits_are_higher_than_small_letters() -> None:
    sheet = Sheet()
    rows = (
        ("garden hose", "43.62", "2311.86"),
        ("long rope", "20.43", "1001.07"),
        ("small axe", "40.37", "2058.87"),
        ("steel nail", "3.15", "61.35"),
    )
    for number, row in enumerate(rows):
        for text, x in zip(row, (60, 300, 362), strict=True):
            sheet.line(x, 100 + 40 * number, text)
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_columns_whose_lines_are_not_level_do_not_turn_the_page() -> None:
    sheet = Sheet()
    sheet.column(40, 100, 24, 255, seed=3)
    sheet.column(320, 109, 24, 255, seed=4)
    page = laid_out(sheet.image).page
    assert page.skew == 0
    assert_read(page, sheet.lines)


def test_three_columns_below_a_line_over_two_of_them_are_no_table() -> None:
    sheet = Sheet(width=900)
    sheet.column(40, 100, 25, 250, seed=5)
    sheet.line(320, 340, "A caption that goes over the second and the third column of it", width=530)
    sheet.column(320, 424, 12, 250, seed=6)
    sheet.column(600, 424, 12, 250, seed=7)
    assert_read(laid_out(sheet.image).page, sheet.lines)
