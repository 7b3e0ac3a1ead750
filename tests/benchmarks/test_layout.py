"""benchmarks/layout.py: detections with one known fault each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from benchmarks.layout import Boxes, Verdict, as_boxes, judged, upright, upside_down

# Three lines of a paragraph, then two cells of one row; an x is 10 pixels high.
LINES = as_boxes([(0, 0, 200, 20), (0, 40, 200, 60), (0, 80, 200, 100), (0, 120, 80, 140), (120, 120, 200, 140)])
ROWS = [(0, -1), (0, -2), (0, -3), (1, 0), (1, 0)]
NO_LEADERS = as_boxes([])


def verdict(found: object, leaders: Boxes = NO_LEADERS) -> Verdict:
    return judged(LINES, ROWS, as_boxes(found), np.full(len(LINES), 10.0), leaders)  # type: ignore[arg-type]


def test_the_true_lines_are_found_in_order() -> None:
    assert verdict(LINES) == Verdict(("found",) * 5, 0, 0, 10, 10)


def test_nothing_is_lost_only_by_finding_it() -> None:
    assert verdict([]).outcomes == ("lost",) * 5
    assert verdict(LINES[1:]).outcomes == ("lost", "found", "found", "found", "found")
    assert verdict([(0, 0, 90, 20), *LINES[1:]]).outcomes[0] == "lost"  # less than half of it


def test_two_lines_in_one_box_are_merged() -> None:
    assert verdict([(0, 0, 200, 60), *LINES[2:]]).outcomes == ("merged", "merged", "found", "found", "found")


def test_cells_of_a_row_in_one_box_are_joined() -> None:
    result = verdict([*LINES[:3], (0, 120, 200, 140)])
    assert result.outcomes == ("found", "found", "found", "joined", "joined")
    assert (result.pairs, result.pairs_in_order) == (10, 10)


def test_a_line_in_pieces_is_cut() -> None:
    assert verdict([(0, 0, 70, 20), (75, 0, 200, 20), *LINES[1:]]).outcomes[0] == "found"  # one piece is over half
    assert verdict([(0, 0, 70, 20), (75, 0, 130, 20), (135, 0, 200, 20), *LINES[1:]]).outcomes[0] == "cut"


def test_a_line_found_twice_is_doubled_and_dirt_is_extra() -> None:
    result = verdict([*LINES, (1, 1, 201, 21), (300, 300, 310, 310)])
    assert (result.doubled, result.extra, result.outcomes) == (1, 1, ("found",) * 5)
    assert verdict([*LINES, (300, 300, 310, 302)], as_boxes([(290, 300, 400, 302)])).extra == 0


def test_a_box_much_higher_than_the_print_is_not_the_line() -> None:
    assert verdict([(0, -10, 200, 32), *LINES[1:]]).outcomes[0] == "found"  # a margin, of which half an x counts
    assert verdict([(0, -60, 200, 32), *LINES[1:]]).outcomes[0] == "merged"


def test_columns_read_across_are_out_of_order() -> None:
    left = [(0, 30 * k, 90, 30 * k + 20) for k in range(4)]
    right = [(110, 30 * k, 200, 30 * k + 20) for k in range(4)]
    truth = as_boxes([*left, *right])
    across = as_boxes([box for pair in zip(left, right, strict=True) for box in pair])
    rows = [(0, -k - 1) for k in range(8)]
    result = judged(truth, rows, across, np.full(8, 10.0), NO_LEADERS)
    assert result.outcomes == ("found",) * 8
    assert (result.pairs, result.pairs_in_order) == (28, 28 - 6)  # the right's first lines before the left's last ones


@pytest.mark.parametrize(
    ("turn", "transpose"),
    [
        (0, None),
        (90, Image.Transpose.ROTATE_90),
        (180, Image.Transpose.ROTATE_180),
        (270, Image.Transpose.ROTATE_270),
    ],
)
def test_boxes_of_a_turned_picture_are_those_of_the_upright_page(turn: int, transpose: Image.Transpose | None) -> None:
    page = Image.new("L", (60, 40))
    page.paste(255, (5, 10, 25, 16))
    picture = page if transpose is None else page.transpose(transpose)
    box = picture.getbbox()
    assert box is not None
    about = {"size": page.size, "turn": turn, "skew": 0.0}
    assert upright(as_boxes([box]), about).tolist() == [[5, 10, 25, 16]]


def test_boxes_of_a_skewed_picture_are_those_of_the_straight_page() -> None:
    page = Image.new("L", (600, 400))
    page.paste(255, (430, 60, 470, 80))
    box = page.rotate(5, Image.Resampling.BICUBIC).point(lambda value: 255 * (value > 127)).getbbox()
    assert box is not None
    about = {"size": page.size, "turn": 0, "skew": 5.0}
    assert np.abs(upright(as_boxes([box]), about) - [[430, 60, 470, 80]]).max() < 2
    assert math.hypot(box[0] - 430, box[1] - 60) > 10


def test_a_page_found_upside_down_is_judged_the_other_way_up() -> None:
    found = as_boxes([(0, 380, 100, 400), (0, 300, 100, 320)])
    assert upside_down(found, (300, 400)).tolist() == [[200, 80, 300, 100], [200, 0, 300, 20]]
