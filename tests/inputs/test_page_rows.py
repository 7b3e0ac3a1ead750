"""inputs/page_rows.py: every word is in one row, and rows fit into the picture."""

from itertools import pairwise

import pytest

from smolcli.inputs.page import Line, Word
from smolcli.inputs.page_rows import group_rows, split_lines
from smolcli.types import Box

SIDE, X_HEIGHT = 128, 10.0


def line(*widths: int, top: int = 0, height: int = 20, x_height: float = 10.0, gap: int = 6) -> Line:
    """A line of words of these widths in pixels."""
    words, left = [], 0
    for width in widths:
        words.append(Word(Box(left, top, left + width, top + height)))
        left += width + gap
    return Line(Box(0, top, left - gap, top + height), tuple(words), x_height, top + height - 5)


def test_rows_are_cut_between_words_and_hold_each_of_them_once() -> None:
    lines = [line(40, 50, 30, 60, 20), line(10, top=30), line(90, 90, top=60)]
    rows = split_lines(lines, SIDE, X_HEIGHT)
    for number, one in enumerate(lines):
        boxes = [row.box for row in rows if row.line == number]
        for word in one.words:
            assert sum(box.left <= word.box.left and word.box.right <= box.right for box in boxes) == 1
        assert all(left.right <= right.left for left, right in pairwise(boxes))
        assert {(box.top, box.bottom) for box in boxes} == {(one.box.top, one.box.bottom)}
    assert not any(row.is_cut for row in rows)
    assert [row.line for row in rows] == sorted(row.line for row in rows)


@pytest.mark.parametrize("x_height", [4.0, 10.0, 35.0])
def test_rows_fit_into_the_picture_at_the_wanted_size_of_print(x_height: float) -> None:
    rows = split_lines([line(30, 40, 50, 60, 70, x_height=x_height, height=int(2 * x_height))], SIDE, X_HEIGHT)
    for row in rows:
        assert (row.box.right - row.box.left) * row.scale <= SIDE - 2 * 5 + 1e-6  # a gap of 5 pixels on both sides
    assert rows[0].scale == pytest.approx(X_HEIGHT / x_height)


def test_a_word_that_is_too_wide_is_drawn_smaller_and_then_cut() -> None:
    (smaller,) = split_lines([line(160)], SIDE, X_HEIGHT)
    assert 0.6 <= smaller.scale < 1 and not smaller.is_cut
    parts = split_lines([line(500)], SIDE, X_HEIGHT)
    assert [part.is_cut for part in parts] == [False] + [True] * (len(parts) - 1)
    assert [part.box.left for part in parts[1:]] == [part.box.right for part in parts[:-1]]
    assert (parts[0].box.left, parts[-1].box.right) == (0, 500)


def test_groups_hold_all_rows_in_order_and_fit() -> None:
    rows = split_lines([line(50, top=30 * number) for number in range(23)], SIDE, X_HEIGHT)
    groups = group_rows(rows, SIDE, X_HEIGHT)
    assert [number for group in groups for number in group] == list(range(23))
    for group in groups:
        assert 5 + sum(rows[number].height + 5 for number in group) <= SIDE
    assert {len(group) for group in groups[:-1]} == {4}  # 5 + 4 * 25 = 105 of 128 pixels
    assert [len(group) for group in group_rows(rows, SIDE, X_HEIGHT, max_rows=1)] == [1] * 23


def test_a_line_that_is_higher_than_the_picture_is_drawn_smaller() -> None:
    [row] = split_lines([line(60, height=400)], SIDE, X_HEIGHT)
    assert row.height <= SIDE - 10
    assert group_rows([row], SIDE, X_HEIGHT) == [[0]]
