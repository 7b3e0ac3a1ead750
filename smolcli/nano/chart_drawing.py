"""Invents the data of charts, says what is clear about them, and draws them quickly with Pillow.

nano/chart_pool.py draws the same data with matplotlib. A chart's numbers are such that each fact about it is either
clear or clearly not so: no chart has two bars that differ by a few pixels and a question about the higher one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smolcli.nano.colours import NAMES, name_pixels
from smolcli.nano.fonts import fonts, load_font, words
from smolcli.nano.synthetic_images import COLOURS, Colour, Rng, pick, shade

BAR, LINE, PIE = "bar", "line", "pie"
MANY = 10  # bars or more are "many"; charts of 8 bars at most are counted, and none has 9
CLEAR, UNCLEAR = 0.1, 0.04  # a difference, as a share of the greatest value, that is clear, and that is not
LABELS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HELD_OUT_PAPERS = ((243, 236, 220), (30, 40, 60))
PAPER_TRIES = 40  # until the marks are taken to suit none


@dataclass
class Chart:
    """The data of a chart and where a drawing shows it.

    `values` has the numbers of each line, or one list for the bars or slices in the order in which they are seen: from
    left to right, from top to bottom, or clockwise. `colours` has one colour for each bar, line or slice. `title_box`
    (left, top, right, bottom), `title_size` (height of the print) and `marks` (the outline of each bar, line or slice
    as x, y, x, y, ...) are set by the drawing, as shares of its width and height.
    """

    kind: str
    values: list[list[float]]
    colours: list[Colour]
    title: str = ""
    labels: list[str] = field(default_factory=list)
    is_horizontal: bool = False
    title_font: str = ""
    title_box: tuple[float, float, float, float] = (0, 0, 0, 0)
    title_size: float = 0.0
    marks: list[list[float]] = field(default_factory=list)
    has_text: bool = False

    @property
    def count(self) -> int:
        """The number of bars, lines or slices."""
        return len(self.values) if self.kind == LINE else len(self.values[0])

    @property
    def highest(self) -> int | None:
        """The index of the greatest bar or slice; None if it is not clear which."""
        return clear_extreme(self.values[0], 1) if self.kind != LINE else None

    @property
    def lowest(self) -> int | None:
        """The index of the least bar or slice; None if it is not clear which."""
        return clear_extreme(self.values[0], -1) if self.kind != LINE else None

    @property
    def trend(self) -> str:
        """Return "rising" or "falling" if one line clearly does; "" otherwise."""
        return trend(self.values[0]) if self.kind == LINE and self.count == 1 else ""

    def colour_name(self, index: int) -> str:
        """The name of the colour of a bar, line or slice; "" where a small change would change it."""
        names = possible_names(self.colours[index])
        return names.pop() if len(names) == 1 else ""


def clear_extreme(values: list[float], sign: int) -> int | None:
    """The index of the greatest (`sign` 1) or least (-1) value if it leads the next by CLEAR of the greatest.

    >>> clear_extreme([3, 9, 5], 1), clear_extreme([3, 9, 5], -1), clear_extreme([3, 9, 8.9], 1)
    (1, 0, None)
    """
    first, second = np.argsort(values)[::-sign][:2]
    return int(first) if abs(values[first] - values[second]) >= CLEAR * max(values) else None


def _is_between(values: list[float]) -> bool:
    """Whether the greatest or the least value leads by so little that nobody could say whether it is clear."""
    ordered = np.sort(values) / max(values)
    return any(UNCLEAR < gap < CLEAR for gap in (ordered[-1] - ordered[-2], ordered[1] - ordered[0]))


def trend(values: list[float]) -> str:
    """Return "rising" or "falling" if the values go almost straight from one end of their range to the other, else "".

    >>> trend([1, 2, 2.5, 4, 5]), trend([5, 4, 3, 1]), trend([1, 5, 1, 5])
    ('rising', 'falling', '')
    """
    correlation, travel = _direction(values)
    if min(abs(correlation), abs(travel)) < 0.85 or correlation * travel < 0:
        return ""
    return "rising" if travel > 0 else "falling"


def _direction(values: list[float]) -> tuple[float, float]:
    """The correlation of values with their position, and the way from first to last as a share of their range."""
    span = max(values) - min(values)
    if span == 0:
        return 0.0, 0.0
    return float(np.corrcoef(np.arange(len(values)), values)[0, 1]), (values[-1] - values[0]) / span


def possible_names(colour: Colour) -> set[str]:
    """The names that a colour has when each channel changes by up to 14.

    >>> possible_names((35, 80, 215)), sorted(possible_names((125, 75, 35)))
    ({'blue'}, ['brown', 'red'])
    """
    steps = np.array(np.meshgrid(*[(-14, 0, 14)] * 3)).reshape(3, -1).T
    numbers = name_pixels(np.clip(np.array(colour) + steps, 0, 255).astype(np.uint8))
    return {NAMES[number] for number in numbers.tolist()}


# ---- the data ------------------------------------------------------------------------------------


def invent(rng: Rng, held_out: bool) -> Chart:
    """A chart's data, with a title in three of four; nothing is drawn."""
    kind = pick(rng, (BAR, BAR, LINE, PIE))
    values = {BAR: _bars, LINE: _lines, PIE: _slices}[kind](rng)
    count = len(values) if kind == LINE else len(values[0])
    chart = Chart(kind, values, colours(rng, count, kind), is_horizontal=kind == BAR and rng.random() < 0.3)
    if rng.random() < 0.75:
        chart.title = title(rng, held_out)
    if rng.random() < 0.75:
        start = int(rng.integers(len(LABELS)))
        has_months = rng.random() < 0.3
        for index in range(max(len(series) for series in values) if kind != LINE else 8):
            label = LABELS[(start + index) % len(LABELS)] if has_months else pick(rng, words(held_out))[:7]
            chart.labels.append(label)
    return chart


def title(rng: Rng, held_out: bool) -> str:
    """One to three words, or a word and a year."""
    chosen = [pick(rng, words(held_out)) for _ in range(int(rng.choice((1, 2, 3), p=(0.45, 0.4, 0.15))))]
    style = rng.random()
    if style < 0.2:
        return f"{chosen[0].capitalize()} {rng.integers(1990, 2031)}"
    if style < 0.5:
        return " ".join(word.capitalize() for word in chosen)
    return " ".join(chosen).upper() if style < 0.6 else " ".join(chosen).capitalize()


def _bars(rng: Rng) -> list[list[float]]:
    count = int(rng.integers(2, 9)) if rng.random() < 0.85 else int(rng.integers(MANY, 25))
    is_bell = count >= MANY and rng.random() < 0.5  # a histogram
    while True:
        values = rng.uniform(0.12, 1, count)
        if is_bell:
            values = 0.1 + np.exp(-((np.arange(count) - count * rng.uniform(0.3, 0.7)) ** 2) / (0.04 * count**2))
            values *= rng.uniform(0.85, 1, count)
        elif rng.random() < 0.15:
            values = np.sort(values)[:: 1 if rng.random() < 0.5 else -1]
        if not _is_between(list(values)):
            return [[round(float(value), 4) for value in values / values.max() * 10 ** rng.integers(0, 4)]]


def _lines(rng: Rng) -> list[list[float]]:
    count = int(rng.choice((1, 2, 3, 4), p=(0.46, 0.24, 0.18, 0.12)))
    points = int(rng.integers(4, 13)) if rng.random() < 0.7 else int(rng.integers(20, 60))
    series: list[list[float]] = []
    while len(series) < count:
        noise = np.cumsum(rng.standard_normal(points)) / np.sqrt(points)
        slope = pick(rng, (-1, 0, 1)) * rng.uniform(2, 5) if count == 1 else rng.uniform(-1.5, 1.5)
        values = list(noise * rng.uniform(0.3, 1) + slope * np.linspace(0, 1, points) + rng.uniform(-1.5, 1.5))
        correlation, travel = _direction(values)
        is_clear = trend(values) or min(abs(correlation), abs(travel)) < 0.6
        if is_clear and all(np.abs(np.subtract(values, other)).mean() > 0.5 for other in series):
            series.append([round(float(value), 4) for value in values])
    return series


def _slices(rng: Rng) -> list[list[float]]:
    count = int(rng.integers(2, 7))
    while True:
        shares = rng.dirichlet(np.full(count, 3.0))
        if shares.min() > 0.06 and not _is_between(list(shares)):
            return [[round(float(share), 4) for share in shares]]


def colours(rng: Rng, count: int, kind: str) -> list[Colour]:
    """A colour for each bar, line or slice; the bars of most charts have one colour."""
    if kind == BAR and rng.random() < 0.65:
        return [shade(rng, pick(rng, list(COLOURS)[:-1]))] * count
    names = [name for name in COLOURS if name not in ("white", "black")]
    if kind == BAR or rng.random() < 0.15:  # any colours, also two that nobody could name
        palette = [tuple(int(channel) for channel in rng.integers(20, 230, 3)) for _ in range(count)]
        return [(red, green, blue) for red, green, blue in palette]
    return [shade(rng, names[index % len(names)]) for index in rng.permutation(len(names))[:count]]


# ---- drawing with Pillow ---------------------------------------------------------------------------


def draw(rng: Rng, chart: Chart, held_out: bool) -> Image.Image:
    """A picture of the chart, 150 to 380 pixels a side; sets its places, and new colours where no paper suits them."""
    width, height = (int(side) for side in rng.integers(150, 381, 2))
    paper = _paper_for(rng, chart, held_out)
    ink = (25, 25, 25) if sum(paper) > 380 else (230, 230, 230)
    image = Image.new("RGB", (width, height), paper)
    sheet = ImageDraw.Draw(image)
    top = 0.05 * height + _draw_title(rng, sheet, chart, (width, height), ink, held_out)
    has_axes = rng.random() < 0.75
    left = (0.15 if has_axes and chart.labels else 0.06) * width
    box = left, top, 0.95 * width, (0.87 if chart.labels else 0.94) * height
    small = load_font(chart.title_font or pick(rng, fonts(held_out)), max(7, round(height * 0.05)))
    if chart.kind == PIE:
        _draw_slices(rng, sheet, chart, box, paper)
    else:
        if has_axes:
            _draw_axes(rng, sheet, box, ink, paper)
        (_draw_bars if chart.kind == BAR else _draw_lines)(rng, sheet, chart, box)
    if chart.labels:
        _draw_labels(sheet, chart, box, small, ink)
    chart.marks = [
        [share for x, y in zip(mark[::2], mark[1::2], strict=True) for share in (x / width, y / height)]
        for mark in chart.marks
    ]
    return image


def _paper_for(rng: Rng, chart: Chart, held_out: bool) -> Colour:
    """A paper on which the marks can be seen; if the darkest and the lightest mark leave none, they get new colours."""
    while True:
        for _ in range(PAPER_TRIES):
            if stand_out(chart.colours, paper := _paper(rng, held_out)):
                return paper
        chart.colours = colours(rng, len(chart.colours), chart.kind)


def stand_out(marks: Sequence[Colour], paper: Colour) -> bool:
    """Whether every colour of the marks is far enough from the paper's to be seen on it."""
    return all(sum(abs(a - b) for a, b in zip(mark, paper, strict=True)) > 110 for mark in marks)


def _paper(rng: Rng, held_out: bool) -> Colour:
    if held_out:
        return pick(rng, (*HELD_OUT_PAPERS, (255, 255, 255), (0, 0, 0)))
    if rng.random() < 0.5:
        return (255, 255, 255)
    level = int(rng.integers(0, 50) if rng.random() < 0.3 else rng.integers(215, 256))
    red, green, blue = (int(np.clip(level + rng.integers(-8, 9), 0, 255)) for _ in range(3))
    return red, green, blue


def title_print(rng: Rng, chart: Chart, path: str, width: int, height: int) -> int:
    """The size in pixels of a title: in most pictures legible after it is squashed to a tile, and not too wide."""
    size = height * (rng.uniform(0.095, 0.15) if rng.random() < 0.65 else rng.uniform(0.045, 0.08))
    natural = load_font(path, 40).getlength(chart.title) / 40
    return max(6, round(min(size, 0.94 * width / natural)))


def _draw_title(
    rng: Rng, sheet: ImageDraw.ImageDraw, chart: Chart, size: tuple[int, int], ink: Colour, held_out: bool
) -> float:
    """Print the title at the top; the height in pixels that it takes."""
    if not chart.title:
        return 0.0
    width, height = size
    chart.title_font = pick(rng, fonts(held_out))
    pixels = title_print(rng, chart, chart.title_font, width, height)
    font = load_font(chart.title_font, pixels)
    length = font.getlength(chart.title)
    x, y = (width - length) * (0.5 if rng.random() < 0.8 else 0.1), 0.02 * height
    sheet.text((x, y), chart.title, font=font, fill=ink)
    chart.title_box = x / width, y / height, (x + length) / width, (y + pixels * 1.2) / height
    chart.title_size, chart.has_text = pixels / height, True
    return pixels * 1.3


Box = tuple[float, float, float, float]


def _draw_axes(rng: Rng, sheet: ImageDraw.ImageDraw, box: Box, ink: Colour, paper: Colour) -> None:
    left, top, right, bottom = box
    if rng.random() < 0.5:
        grid = [(3 * a + b) // 4 for a, b in zip(paper, ink, strict=True)]
        for step in range(1, 5):
            y = bottom + (top - bottom) * step / 4.5
            sheet.line((left, y, right, y), fill=(grid[0], grid[1], grid[2]))
    sheet.line((left, top, left, bottom, right, bottom), fill=ink, width=int(rng.integers(1, 3)))


def _draw_bars(rng: Rng, sheet: ImageDraw.ImageDraw, chart: Chart, box: Box) -> None:
    left, top, right, bottom = box
    values, count = chart.values[0], chart.count
    thickness = rng.uniform(0.5, 0.85)
    edge = (0, 0, 0) if rng.random() < 0.25 else None
    for index, value in enumerate(values):
        start, end, share = index + 0.5 - thickness / 2, index + 0.5 + thickness / 2, 0.96 * value / max(values)
        if chart.is_horizontal:
            step = (bottom - top) / count
            corners = left, top + start * step, left + share * (right - left), top + end * step
        else:
            step = (right - left) / count
            corners = left + start * step, bottom - share * (bottom - top), left + end * step, bottom
        sheet.rectangle(corners, fill=chart.colours[index], outline=edge)
        x0, y0, x1, y1 = corners
        chart.marks.append([x0, y0, x1, y0, x1, y1, x0, y1])


def _draw_lines(rng: Rng, sheet: ImageDraw.ImageDraw, chart: Chart, box: Box) -> None:
    left, top, right, bottom = box
    everything = np.array(chart.values)
    low, high = everything.min(), everything.max()
    stroke = int(rng.integers(2, 6))
    has_points = everything.shape[1] < 13 and rng.random() < 0.4
    x = left + (right - left) * np.linspace(0.03, 0.97, everything.shape[1])
    for values, colour in zip(everything, chart.colours, strict=True):
        y = bottom - (bottom - top) * (0.05 + 0.9 * (values - low) / (high - low))
        outline = np.stack([x, y], 1).ravel().tolist()
        sheet.line(outline, fill=colour, width=stroke, joint="curve")
        for centre in zip(x, y, strict=True) if has_points else ():
            sheet.circle(centre, stroke * 1.4, fill=colour)
        chart.marks.append(outline)


def arc(x: float, y: float, reach: tuple[float, float], start: float, end: float) -> list[float]:
    """The outline of a slice with its tip at (x, y), from one angle to another, in radians clockwise from the right."""
    angle = np.linspace(start, end, 24)
    rim = np.stack([x + reach[0] * np.cos(angle), y + reach[1] * np.sin(angle)], 1).ravel()
    return [x, y, *rim.tolist()]


def _draw_slices(rng: Rng, sheet: ImageDraw.ImageDraw, chart: Chart, box: Box, paper: Colour) -> None:
    left, top, right, bottom = box
    radius = 0.48 * min(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    angle = rng.uniform(0, 2 * np.pi)
    total = sum(chart.values[0])
    stroke = int(rng.integers(0, 4))
    for share, colour in zip(chart.values[0], chart.colours, strict=True):
        end = angle + 2 * np.pi * share / total
        outline = arc(x, y, (radius, radius), angle, end)
        sheet.polygon(outline, fill=colour)
        if stroke:
            sheet.line([*outline, *outline[:2]], fill=paper, width=stroke)
        chart.marks.append(outline)
        angle = end
    if rng.random() < 0.2:  # a ring
        sheet.circle((x, y), radius * rng.uniform(0.3, 0.5), fill=paper)


def _draw_labels(sheet: ImageDraw.ImageDraw, chart: Chart, box: Box, font: ImageFont.FreeTypeFont, ink: Colour) -> None:
    """Print small labels along the axis or beside the slices."""
    left, top, right, bottom = box
    labels = chart.labels[: chart.count if chart.kind != LINE else 8]
    chart.has_text = True
    for index, label in enumerate(labels):
        if chart.kind == PIE:
            outline = chart.marks[index]
            sheet.text((outline[24], outline[25]), label, font=font, fill=ink, anchor="mm")
        elif chart.is_horizontal:
            y = top + (bottom - top) * (index + 0.5) / len(labels)
            sheet.text((left - 2, y), label, font=font, fill=ink, anchor="rm")
        else:
            x = left + (right - left) * (index + 0.5) / len(labels)
            sheet.text((x, bottom + 2), label[: 7 if len(labels) < 6 else 3], font=font, fill=ink, anchor="mt")
