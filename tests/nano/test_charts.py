"""What nano's lessons say of charts is what the charts show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolcli.nano import chart_drawing, chart_pool, charts, fonts
from smolcli.nano.chart_drawing import BAR, LINE, PIE, Chart
from smolcli.nano.colours import colour_shares
from smolcli.nano.dataset import CELL_CLASS, IGNORE, NO_TEXT
from smolcli.nano.kinds import CANNOT_TELL, CHART
from smolcli.nano.synthetic_images import TILE

RED, BLUE, GREEN, MUDDY = (214, 39, 40), (35, 80, 215), (40, 160, 50), (110, 110, 160)

pytestmark = pytest.mark.usefixtures("made_up_print")


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("chart", "caption"),
    [
        (Chart(BAR, [[1, 5, 9, 3, 2]], [RED] * 5), "a bar chart with five bars, the third the highest"),
        (Chart(BAR, [[9, 1]], [RED] * 2, is_horizontal=True), "a bar chart with two bars, the first the longest"),
        (Chart(BAR, [[9, 1, 8.9]], [RED] * 3), "a bar chart with three bars"),
        (Chart(BAR, [[*range(1, 12), 20]], [RED] * 12), "a bar chart with many bars"),
        (Chart(LINE, [[1, 2, 3, 4]], [RED]), "a line chart with one line, rising"),
        (Chart(LINE, [[4, 3, 2, 1]], [RED]), "a line chart with one line, falling"),
        (Chart(LINE, [[1, 5, 1, 5]], [RED]), "a line chart with one line"),
        (Chart(LINE, [[1, 2, 3], [3, 2, 1]], [RED, BLUE]), "a line chart with two lines"),
        (Chart(PIE, [[0.2, 0.5, 0.3]], [RED, BLUE, GREEN]), "a pie chart with three slices, the blue one the largest"),
        (Chart(PIE, [[0.2, 0.8]], [MUDDY, RED]), "a pie chart with two slices, the red one the largest"),
        (Chart(PIE, [[0.2, 0.8]], [MUDDY, BLUE]), "a pie chart with two slices"),
        (Chart(PIE, [[0.2, 0.8]], [RED, MUDDY]), "a pie chart with two slices"),
        (Chart(PIE, [[0.2, 0.8]], [BLUE, BLUE]), "a pie chart with two slices"),
    ],
)
def test_caption(chart: Chart, caption: str) -> None:
    assert charts.caption(chart) == caption


def drawn(kind: str, count: int = 40) -> list[tuple[Image.Image, Chart]]:
    """Charts of one kind that Pillow drew."""
    made: list[tuple[Image.Image, Chart]] = []
    for seed in range(count * 5):
        chart = chart_drawing.invent(rng(seed), False)
        if chart.kind == kind and len(made) < count:
            made.append((chart_drawing.draw(rng(seed, 1), chart, False), chart))
    return made


def check_bars(image: Image.Image, chart: Chart) -> None:
    """The outlines of the bars are as long as their values, in their order, and have their colours."""
    outlines = np.array(chart.marks).reshape(-1, 4, 2)
    spans = outlines.max(1) - outlines.min(1)
    lengths = spans[:, 0 if chart.is_horizontal else 1]
    values = np.array(chart.values[0])
    assert np.allclose(lengths / lengths.max(), values / values.max(), atol=0.03)
    centres = outlines.mean(1)[:, 1 if chart.is_horizontal else 0]
    assert (np.diff(centres) > 0).all()
    pixels = np.asarray(image).astype(int)
    for outline, colour in zip(outlines, chart.colours, strict=True):
        x, y = outline.mean(0) * image.size
        assert np.abs(pixels[int(y), int(x)] - colour).max() < 25


def check_slices(image: Image.Image, chart: Chart) -> None:
    """A point in the outer half of each slice has the slice's colour."""
    pixels = np.asarray(image).astype(int)
    hits = 0
    for mark, colour in zip(chart.marks, chart.colours, strict=True):
        points = np.reshape(mark, (-1, 2))
        x, y = (points[0] * 0.3 + points[1:][7] * 0.7) * image.size
        hits += np.abs(pixels[int(y), int(x)] - colour).max() < 25
    assert hits >= chart.count - 1  # print may lie over one


def test_pillow_draws_bars_of_their_lengths_and_colours() -> None:
    for image, chart in drawn(BAR):
        check_bars(image, chart)


def test_pillow_draws_slices_of_their_colours() -> None:
    for image, chart in drawn(PIE):
        check_slices(image, chart)


def test_no_chart_has_an_extreme_that_is_hard_to_see() -> None:
    for seed in range(200):
        chart = chart_drawing.invent(rng(seed), False)
        if chart.kind == BAR:
            ordered = np.sort(chart.values[0]) / max(chart.values[0])
            assert not 0.041 < ordered[-1] - ordered[-2] < 0.099


def test_held_out_words_are_in_held_out_titles_alone() -> None:
    for held_out in (False, True):
        for seed in range(60):
            words = [word for word in chart_drawing.title(rng(seed), held_out).split() if word.isalpha()]
            assert all(fonts.is_held_out(word.lower()) == held_out for word in words)


def test_a_title_is_told_only_where_it_is_legible() -> None:
    chart = Chart(BAR, [[1, 2]], [RED] * 2, title="Sales", title_box=(0.2, 0, 0.8, 0.1))
    for size, answer in ((0.12, "Sales"), (0.05, CANNOT_TELL)):
        chart.title_size = size
        assert charts._title(rng(1), chart)[1] == answer
    chart.title = ""
    assert charts._title(rng(1), chart)[1] == "there is no title"


def test_a_lesson_follows_from_its_seed(tmp_path: Path) -> None:
    first, second = (charts.lesson(rng(3), False, tmp_path) for _ in range(2))
    assert (first.tiles == second.tiles).all() and (first.cells == second.cells).all()
    assert (first.answer, first.follow_ups) == (second.answer, second.follow_ups)
    assert first.tiles.shape == (1, TILE, TILE, 3) and len({question for question, _ in first.follow_ups}) == 4


def test_cells_of_bars_show_the_colour_they_are_labelled_with(tmp_path: Path) -> None:
    """Of cells that are labelled a bar with a colour, almost all have many pixels of that colour."""
    shown = labelled = 0
    for seed in range(60):
        made = charts.lesson(rng(seed), False, tmp_path)
        for (part, colour), index in zip(made.cells[0], range(64), strict=True):
            if part == CELL_CLASS["<bar>"] and colour != IGNORE:
                row, column = divmod(index, 8)
                cell = made.tiles[0][16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
                name = next(name for name, number in CELL_CLASS.items() if number == colour).strip("<>")
                labelled += 1
                shown += colour_shares(cell).get(name, 0) > 0.2
    assert labelled > 100 and shown > 0.9 * labelled


def test_lessons_about_the_kind_tell_no_number_and_no_title(tmp_path: Path) -> None:
    kinds_named = set()
    for seed in range(60):
        lesson = charts.lesson(rng(seed), False, tmp_path, kind_alone=True)
        answers = {lesson.answer, *(answer for _, answer in lesson.follow_ups)}
        kinds_named |= answers & {"a bar chart", "a line chart", "a pie chart"}
        others = answers - {"a bar chart", "a line chart", "a pie chart", CHART, "yes", "no", NO_TEXT}
        assert all(answer.startswith("chart, ") for answer in others)  # tags
    assert len(kinds_named) == 3


def test_matplotlib_draws_what_the_pool_says(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with open(tmp_path / "charts.npz", "wb") as file:
        chart_pool.make_pool(file, 12, False)
    pool = chart_pool.load(tmp_path, False)
    assert pool is not None and len(pool) == 12
    kinds = set()
    for index in range(12):
        image, chart = pool[index]
        assert len({charts.about(rng(seed), chart)[1] for seed in range(80)}) > 3
        kinds.add(chart.kind)
        if chart.kind == BAR:
            check_bars(image, chart)
        elif chart.kind == PIE:
            check_slices(image, chart)
    assert {BAR, PIE} <= kinds


def test_held_out_styles_are_not_trained() -> None:
    pytest.importorskip("matplotlib")
    trained, held_out = chart_pool.styles(False), chart_pool.styles(True)
    assert not set(trained) & set(held_out) and set(held_out) == set(chart_pool.HELD_OUT_STYLES)


@pytest.mark.parametrize("held_out", [False, True])
def test_marks_that_suit_no_paper_get_other_colours(held_out: bool) -> None:
    """The darkest and the lightest colours that a mark has leave no paper on which both stand out."""
    unseen = [(21, 21, 21), (228, 228, 228)]
    chart = Chart(BAR, [[1, 2]], list(unseen))
    chart_drawing.draw(rng(2), chart, held_out)
    assert len(chart.colours) == 2 and chart.colours != unseen
