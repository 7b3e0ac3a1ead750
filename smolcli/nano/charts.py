"""Lessons about charts: bars, lines and slices, from a pool that matplotlib drew and drawn anew with Pillow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from smolcli.models.chat_template import in_words
from smolcli.nano import chart_pool, materials, synthetic_images
from smolcli.nano.chart_drawing import BAR, LINE, MANY, PIE, Chart, draw, invent, possible_names
from smolcli.nano.dataset import (
    CAPTION,
    FOLLOW_UP_COUNT,
    NO_TEXT,
    READ,
    TAGS,
    Lesson,
    still,
)
from smolcli.nano.fonts import load_font
from smolcli.nano.kinds import CANNOT_TELL, CHART, about_kind
from smolcli.nano.part_cells import characters, is_legible, part_cells
from smolcli.nano.synthetic_images import TILE, Annotation, Picture, Rng, pick

POOL_SHARE = 0.6  # of the lessons, if the pool was made
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
KIND = {BAR: "a bar chart", LINE: "a line chart", PIE: "a pie chart"}
MARK = {BAR: "bar", LINE: "line", PIE: "slice"}
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.HAMMING,
           Image.Resampling.BOX)  # fmt: skip


def lesson(rng: Rng, held_out: bool, folder: Path | None = None, kind_alone: bool = False) -> Lesson:
    """A chart, squashed to a tile, with a question and follow-up questions; `folder` has the pool of charts.

    With `kind_alone` they are of KIND_QUESTIONS: whether it is a bar chart, a line chart or a pie chart.
    """
    pool = chart_pool.load(folder or materials.folder(), held_out)
    if pool and rng.random() < POOL_SHARE:
        image, chart = pool[int(rng.integers(len(pool)))]
    else:
        chart = invent(rng, held_out)
        image = draw(rng, chart, held_out)
    picture, chart = squashed(rng, image, chart)
    if rng.random() < 0.3:
        picture = synthetic_images.worn(rng, picture, 0.4)
    ask_caption = _short_caption if kind_alone else _caption
    first = ask_caption(rng, chart) if rng.random() < 0.4 else about(rng, chart, kind_alone)
    pairs = dict([first])  # each question once
    while len(pairs) < 1 + FOLLOW_UP_COUNT:
        question, answer = about(rng, chart, kind_alone)
        pairs.setdefault(question, answer)
    made = still(picture, *first)
    names = [(MARK[chart.kind], chart.colour_name(index)) for index in range(chart.count)]
    cells = part_cells(made, chart.marks, names, are_lines=chart.kind == LINE)
    return replace(made, cells=cells, follow_ups=list(pairs.items())[1:])


# ---- the picture ---------------------------------------------------------------------------------


def squashed(rng: Rng, image: Image.Image, chart: Chart) -> tuple[Picture, Chart]:
    """The picture as a tile, with the title's characters annotated, some of its margins cut, and the chart's places."""
    points = [np.reshape(mark, (-1, 2)) for mark in chart.marks]
    if chart.title:
        points.append(np.reshape(chart.title_box, (2, 2)))
    every = np.concatenate(points)
    inner = np.concatenate([every.min(0), every.max(0)])  # what must stay
    free = np.clip(np.abs(np.array((0, 0, 1, 1)) - inner) - 0.01, 0, 0.08)
    cut = free * rng.random(4) * (rng.random() < 0.35) * (1, 1, -1, -1)
    left, top, right, bottom = (np.array((0, 0, 1, 1)) + cut).tolist()
    width, height = image.size
    box = left * width, top * height, right * width, bottom * height
    tile = image.resize((TILE, TILE), pick(rng, FILTERS), box=box)
    start, span = np.array((left, top)), np.array((right - left, bottom - top))
    marks = [((np.reshape(mark, (-1, 2)) - start) / span).ravel().tolist() for mark in chart.marks]
    x0, y0, x1, y1 = ((np.reshape(chart.title_box, (2, 2)) - start) / span).ravel().tolist()
    placed = replace(chart, marks=marks, title_box=(x0, y0, x1, y1), title_size=chart.title_size / float(span[1]))
    return Picture(tile, _title_characters(placed)), placed


def title_is_legible(chart: Chart) -> bool | None:
    """Whether the chart has a title that can be read in the tile; None if that is doubtful."""
    left, _, right, _ = chart.title_box
    return is_legible(chart.title, TILE * (right - left), TILE * chart.title_size)


def _title_characters(chart: Chart) -> list[Annotation]:
    """An annotation of each character of a legible title."""
    if not chart.title or not title_is_legible(chart):
        return []
    left, top, right, bottom = (TILE * side for side in chart.title_box)
    y = top + 0.55 * (bottom - top)
    return characters(chart.title, load_font(chart.title_font, 40), left, right, y, TILE * chart.title_size)


# ---- questions -----------------------------------------------------------------------------------


def caption(chart: Chart) -> str:
    """The one right caption of a chart.

    >>> caption(Chart(BAR, [[3, 9, 5]], [(0, 0, 0)] * 3))
    'a bar chart with three bars, the second the highest'
    """
    count = "many" if chart.count >= MANY else in_words(chart.count)
    start = f"{KIND[chart.kind]} with {count} {MARK[chart.kind]}{'s' if chart.count > 1 else ''}"
    if chart.kind == LINE:
        return f"{start}, {chart.trend}" if chart.trend else start
    name = _name(chart, chart.highest)
    return f"{start}, {name} the {_superlatives(chart)[0]}" if name else start


def _superlatives(chart: Chart) -> tuple[str, str]:
    """The words for the greatest and the least bar or slice."""
    if chart.kind == PIE:
        return "largest", "smallest"
    return ("longest", "shortest") if chart.is_horizontal else ("highest", "lowest")


def _name(chart: Chart, index: int | None) -> str:
    """How a bar is named, by its place, or a slice, by its colour; "" if it has no clear name."""
    if index is None or chart.count >= MANY:
        return ""
    if chart.kind == BAR:
        return f"the {ORDINALS[index]}"
    name = chart.colour_name(index)
    others = [possible_names(colour) for number, colour in enumerate(chart.colours) if number != index]
    return f"the {name} one" if name and not any(name in names for names in others) else ""


def about(rng: Rng, chart: Chart, kind_alone: bool = False) -> tuple[str, str]:
    """A question about a chart and its answer."""
    return pick(rng, KIND_QUESTIONS if kind_alone else QUESTIONS)(rng, chart)


def _what_chart(rng: Rng, chart: Chart) -> tuple[str, str]:
    if rng.random() < 0.6:
        return pick(rng, ("What kind of chart is this?", "What type of chart is it?")), KIND[chart.kind]
    asked = pick(rng, list(KIND))
    return f"Is this {KIND[asked]}?", "yes" if asked == chart.kind else "no"


def _how_many(rng: Rng, chart: Chart) -> tuple[str, str]:
    asked = chart.kind if rng.random() < 0.88 else pick(rng, (BAR, PIE))
    if asked != chart.kind and chart.kind == LINE:
        asked = LINE
    count = chart.count if asked == chart.kind else 0
    question = pick(rng, ("How many {}s are there?", "How many {}s does the chart have?")).format(MARK[asked])
    return question, "many" if count >= MANY else str(count)


def _which(rng: Rng, chart: Chart) -> tuple[str, str]:
    """Ask for the highest or lowest bar or slice, or for the trend of a line."""
    if chart.kind == LINE:
        return ("Is the line rising or falling?", chart.trend) if chart.trend else _how_many(rng, chart)
    number = int(rng.random() < 0.35)
    name = _name(chart, (chart.highest, chart.lowest)[number])
    if not name:
        return _how_many(rng, chart)
    superlative = _superlatives(chart)[number]
    mark = MARK[chart.kind]
    return pick(rng, (f"Which {mark} is the {superlative}?", f"Which is the {superlative} {mark}?")), name


def _what_colour(rng: Rng, chart: Chart) -> tuple[str, str]:
    """Ask for the colour of bars that have one, of a single line, or of one of few bars."""
    name = chart.colour_name(0)
    word = pick(rng, ("colour", "color"))
    if chart.kind == PIE or (chart.kind == LINE and chart.count > 1):
        return _which(rng, chart)
    if chart.kind == LINE:
        return (f"What {word} is the line?", name) if name else _which(rng, chart)
    if len(set(chart.colours)) == 1:
        return (f"What {word} are the bars?", name) if name else _which(rng, chart)
    if chart.count >= MANY:
        return _how_many(rng, chart)
    index = int(rng.integers(chart.count))
    name = chart.colour_name(index)
    return (f"What {word} is the {ORDINALS[index]} bar?", name) if name else _which(rng, chart)


def _direction(rng: Rng, chart: Chart) -> tuple[str, str]:
    if chart.kind != BAR:
        return _which(rng, chart)
    return "Are the bars vertical or horizontal?", "horizontal" if chart.is_horizontal else "vertical"


def _title(rng: Rng, chart: Chart) -> tuple[str, str]:
    question = pick(rng, ("What is the title?", "What is the title of the chart?", "What is the chart's title?"))
    if not chart.title:
        return question, "there is no title"
    is_readable = title_is_legible(chart)
    if is_readable is None:
        return _how_many(rng, chart)
    return question, chart.title if is_readable else CANNOT_TELL


def _text(rng: Rng, chart: Chart) -> tuple[str, str]:
    """Ask whether there is text, or for the text where nothing but a legible title is printed, or nothing at all."""
    if not chart.has_text and rng.random() < 0.5:
        return pick(rng, READ), NO_TEXT
    return "Is there any text?", "yes" if chart.has_text else "no"


def _kind(rng: Rng, chart: Chart) -> tuple[str, str]:
    return about_kind(rng, CHART)


def _tags(rng: Rng, chart: Chart) -> tuple[str, str]:
    return TAGS, f"chart, {MARK[chart.kind] if chart.kind != PIE else 'pie'} chart"


def _caption(rng: Rng, chart: Chart) -> tuple[str, str]:
    return pick(rng, CAPTION), caption(chart)


def _short_caption(rng: Rng, chart: Chart) -> tuple[str, str]:
    return pick(rng, CAPTION), KIND[chart.kind]


# A question that stands twice is asked twice as often.
Question = Callable[[Rng, Chart], tuple[str, str]]
QUESTIONS: tuple[Question, ...] = (
    _what_chart,
    _how_many,
    _how_many,
    _how_many,
    _which,
    _which,
    _which,
    _what_colour,
    _direction,
    _title,
    _title,
    _text,
    _kind,
    _tags,
    _caption,
    _caption,
)
KIND_QUESTIONS: tuple[Question, ...] = (_what_chart, _text, _kind, _kind, _tags, _short_caption)
