"""The charts of a report's page as inline SVG: bars, and scatter plots of scores against their cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from smolcli.bench.report.html import Html, tag
from smolcli.bench.report.results import MEASURES, Figure, Measure, Report, Result, heading
from smolcli.bench.report.text import cell, label, number, setting_text

LABEL_DISTANCE = 14.0  # from the centre of a point to that of its number
COLOURS = 5  # .c0 to .c4 of page.css
BARS = {"speed": ("decode", "images"), "memory": ("parent", "engine", "gpu"), "quality": ("score",)}


def colour(report: Report, index: int) -> str:
    """The CSS class of a result's colour, which results of the same model share."""
    models = list(dict.fromkeys(result.settings.get("model", "") for result in report.results))
    return f"c{models.index(report.results[index].settings.get('model', '')) % COLOURS}"


def result_name(report: Report, index: int) -> Html:
    """The number and the label of a result, as everywhere on the page."""
    first, *rest = label(report, report.results[index]).split("/")
    folded = [part for folder in rest for part in ("/", tag("wbr"), folder)]
    return tag("span", badge(report, index), tag("bdi", first, *folded), class_="name")


def badge(report: Report, index: int) -> Html:
    """The number of a result in its colour."""
    return tag("span", str(index + 1), class_=f"badge {colour(report, index)}")


def costs(report: Report) -> list[str]:
    """The names of the figures that a quality report's scores are drawn against."""
    if report.kind != "quality" or "score" not in report.shown:
        return []
    return [name for name in ("images", "engine") if name in report.shown]


def _better(measure: Measure) -> str:
    return {True: "more is better", False: "less is better", None: ""}[measure.higher_is_better]


def _caption(title: str, *about: str) -> Html:
    return tag("figcaption", tag("h3", title), tag("p", "; ".join(filter(None, about)), class_="about"))


def _bars(report: Report, name: str) -> Html:
    """Bars from zero; for scores dots on a scale from 0 to 1."""
    measure = report.measure(name)
    figures = {index: result.figures[name] for index, result in enumerate(report.results) if name in result.figures}
    top = _top(figures.values(), 1.0 if name == "score" else 0.0)
    rows = []
    for index, figure in figures.items():
        value, spread = cell(figure, measure)
        text = f"{label(report, report.results[index])}: {value} {spread} {measure.unit}"
        numbers = tag("span", tag("b", value), " ", tag("span", spread, class_="spread"))
        strip = _strip(figure, top, text, colour(report, index), filled=name != "score")
        rows.append(tag("li", tag("div", result_name(report, index), numbers, class_="above"), strip))
    scale = "from 0 to 1" if name == "score" and top == 1 else ""
    about = _caption(heading(measure), measure.about, scale, _better(measure))
    return tag("figure", about, tag("ol", *rows, class_="rows"))


def by_batch(report: Report) -> dict[str, list[Result]]:
    """The results with figures, by the text of all their settings except the batch."""
    groups: dict[str, list[Result]] = {}
    for result in [result for result in report.results if result.figures]:
        others = [name for name in report.varied if name in result.settings and name != "batch"]
        title = ", ".join(setting_text(name, result.settings[name]) for name in others)
        groups.setdefault(title or "Peak memory", []).append(result)
    return groups


def _memory(report: Report, names: Sequence[str]) -> list[Html]:
    """A chart for each combination of settings except the batch, with a row for each batch, all at the same scale."""
    top = _top(figure for result in report.results for name, figure in result.figures.items() if name in names)
    charts = []
    for title, results in by_batch(report).items():
        rows = []
        for result in results:
            lines = [_line(index, name, result, top) for index, name in enumerate(names) if name in result.figures]
            batch = setting_text("batch", result.settings["batch"]) if "batch" in result.settings else ""
            rows.append(tag("li", tag("span", batch, class_="name"), *lines))
        about = "peak resident memory of each process, MB" + (", and that of the GPU" if "gpu" in names else "")
        charts.append(tag("figure", _caption(title, about), tag("ol", *rows, class_="rows")))
    return charts


def _line(index: int, name: str, result: Result, top: float) -> Html:
    measure, figure = MEASURES[name], result.figures[name]
    text = f"{result.name}: {measure.title} {number(figure.value, measure)} MB"
    value = tag("b", number(figure.value, measure))
    series = tag("span", measure.title, class_="series")
    return tag("div", series, _strip(figure, top, text, f"c{index}", filled=True), value, class_="line")


def _top(figures: Iterable[Figure], least: float = 0.0) -> float:
    """The upper end of a scale that begins at zero."""
    return (
        max([least, *(end for figure in figures for end in (figure.value, figure.high) if math.isfinite(end))]) or 1.0
    )


def _strip(figure: Figure, top: float, text: str, colour: str, filled: bool) -> Html:
    """One figure on a scale from 0 to `top`; coordinates are percentages, so that it fills any width unstretched."""

    def percent(value: float) -> float:
        return round(min(max(value / top, 0), 1) * 100, 2) if math.isfinite(value) else 0

    def line(x1: float, x2: float, y1: int, y2: int, kind: str) -> Html:
        return tag("line", x1=f"{x1}%", x2=f"{x2}%", y1=f"{y1}%", y2=f"{y2}%", class_=kind)

    value, low, high = percent(figure.value), percent(figure.low), percent(figure.high)
    elements = [line(value if filled else 0, 100, 50, 50, "track")]
    if filled:
        elements.append(tag("rect", x=0, y="12%", width=f"{value}%", height="76%", rx=3, class_="fill"))
    else:
        elements += [line(index, index, 25, 75, "track") for index in (0, 25, 50, 75, 100)]
    if high > low:
        elements.append(line(low, high, 50, 50, "whisker"))
    if high - low > 3:  # otherwise the dot would hide them
        elements += [line(end, end, 28, 72, "whisker") for end in (low, high)]
    elements.append(tag("circle", cx=f"{value}%", cy="50%", r=4.5, class_="dot"))
    return tag("svg", tag("title", text), *elements, class_=f"strip {colour}", role="img", aria_label=text)


@dataclass(frozen=True)
class Axis:
    """A scale from the first to the last of `ticks`, drawn from the coordinate `start` to `stop`."""

    ticks: tuple[float, ...]
    start: float
    stop: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, stop: float) -> Axis:
        """An axis with round ticks around all `values`, about four steps.

        >>> Axis.over([0.31, 0.58], 0, 100).ticks
        (0.3, 0.4, 0.5, 0.6)
        """
        low, high = min(values), max(values)
        extent = max(high - low, abs(high) * 1e-6) if high > low else abs(high) or 1.0
        power = 10.0 ** math.floor(math.log10(extent / 4))
        step = next(power * times for times in (1, 2, 5, 10) if power * times >= extent / 4.5)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(tuple(float(f"{tick * step:.12g}") for tick in range(first, max(last, first + 1) + 1)), start, stop)

    def at(self, value: float) -> float:
        """The coordinate of `value`."""
        low, high = self.ticks[0], self.ticks[-1]
        return round(self.start + (value - low) / (high - low) * (self.stop - self.start), 2)

    def texts(self, measure: Measure) -> list[str]:
        """The ticks as text, all with the same number of decimal places."""
        scale = 1e6 if measure.unit == "bytes" else 1.0
        places = max(0, -math.floor(math.log10((self.ticks[1] - self.ticks[0]) / scale) + 1e-9))
        return [f"{tick / scale:,.{places}f}" for tick in self.ticks]


def points(report: Report, name: str) -> dict[int, tuple[Figure, Figure]]:
    """The figure `name` and the score of each result that has both, by the result's index in the report."""
    pairs = {}
    for index, result in enumerate(report.results):
        both = result.figures.get(name), result.figures.get("score")
        if both[0] and both[1] and all(map(math.isfinite, (end for figure in both if figure for end in _ends(figure)))):
            pairs[index] = both[0], both[1]
    return pairs


def _ends(figure: Figure) -> tuple[float, float, float]:
    return figure.low, figure.value, figure.high


def best(score: Measure, measure: Measure) -> str:
    """Which corner of a scatter plot is the best."""
    side = "right" if measure.higher_is_better else "left"
    return f"best at the {'top' if score.higher_is_better else 'bottom'} {side}"


def _scatter(report: Report, name: str) -> Html:
    """The score of each result against its cost, with whiskers in both directions and the results' numbers."""
    measure, score, pairs = report.measure(name), report.measure("score"), points(report, name)
    if not pairs:
        return Html("")
    across = Axis.over([end for x, _ in pairs.values() for end in _ends(x)], 36, 308)
    up = Axis.over([end for _, y in pairs.values() for end in _ends(y)], 200, 10)
    places = {index: (across.at(x.value), up.at(y.value)) for index, (x, y) in pairs.items()}
    whiskers, dots = [], []
    for index, (x, y) in pairs.items():
        (left, top), hue = places[index], colour(report, index)
        whiskers.append(_segment(across.at(x.low), across.at(x.high), top, top, f"whisker {hue}"))
        whiskers.append(_segment(left, left, up.at(y.low), up.at(y.high), f"whisker {hue}"))
        dots.append(tag("circle", cx=left, cy=top, r=5, class_=f"dot {hue}"))
    elements = [*_axes(across, up, measure, score), *whiskers, *dots, *_numbers(places)]
    title = f"{score.title} against {heading(measure)}"
    values = (
        f"{index + 1}, {label(report, report.results[index])}: {' '.join(cell(y, score))} at {cell(x, measure)[0]}"
        for index, (x, y) in pairs.items()
    )
    text = f"{title}: {'; '.join(values)}"
    picture = tag(
        "svg", tag("title", text), *elements, viewBox="0 0 320 240", class_="scatter", role="img", aria_label=text
    )
    return tag("figure", _caption(title, best(score, measure)), picture)


def _segment(x1: float, x2: float, y1: float, y2: float, kind: str) -> Html:
    return tag("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=kind)


def _numbers(places: Mapping[int, tuple[float, float]]) -> list[Html]:
    elements = []
    for index, (x, y, far) in place_labels(places, (44, 312), (10, 194)).items():
        if far > LABEL_DISTANCE:
            elements.append(_segment(places[index][0], x, places[index][1], y, "leader"))
        elements.append(tag("text", str(index + 1), x=x, y=round(y + 4, 1), text_anchor="middle", class_="point"))
    return elements


def _axes(across: Axis, up: Axis, measure: Measure, score: Measure) -> list[Html]:
    elements = []
    for tick, text in zip(across.ticks, across.texts(measure), strict=True):
        left = across.at(tick)
        elements.append(_segment(left, left, up.start, up.stop, "track"))
        elements.append(tag("text", text, x=left, y=up.start + 16, text_anchor="middle", class_="tick"))
    for tick, text in zip(up.ticks, up.texts(score), strict=True):
        top = up.at(tick)
        elements.append(_segment(across.start, across.stop, top, top, "track"))
        elements.append(tag("text", text, x=across.start - 6, y=top + 4, text_anchor="end", class_="tick"))
    middle = (across.start + across.stop) / 2
    return [*elements, tag("text", heading(measure), x=middle, y=up.start + 34, text_anchor="middle", class_="tick")]


def place_labels(
    places: Mapping[int, tuple[float, float]], across: tuple[float, float], down: tuple[float, float]
) -> dict[int, tuple[float, float, float]]:
    """The position (x, y) of each point's number and its distance, so that it covers no other point or number.

    `across` and `down` (least, greatest) are the limits of the numbers; all coordinates are about 1/72 inch. If no
    position is free, the one with the least overlap is taken.
    """
    placed: list[tuple[float, float, float]] = []
    positions = {}
    for index, (left, top) in places.items():
        # The radius around other points keeps a number nearest to its own point.
        taken = [*placed, *((*place, 12.0) for other, place in places.items() if other != index)]
        candidates = []
        for far in (LABEL_DISTANCE, 20.0, 28.0, 38.0, 50.0):
            angles = (step * math.pi / 4 - 0.5 for step in range(8))
            candidates += [(left + far * math.cos(angle), top + far * math.sin(angle), far) for angle in angles]
        inside = [(x, y, far) for x, y, far in candidates if across[0] <= x <= across[1] and down[0] <= y <= down[1]]
        x, y, far = min(inside or candidates, key=lambda point: (_overlap(point[0], point[1], taken), point[2]))
        placed.append((x, y, 8.0))
        positions[index] = round(x, 1), round(y, 1), far
    return positions


def _overlap(x: float, y: float, taken: Iterable[tuple[float, float, float]]) -> float:
    """By how much a number at this position would overlap the circles (x, y, radius) in `taken`."""
    return sum(max(0.0, radius + 7 - math.hypot(x - left, y - top)) for left, top, radius in taken)


def charts(report: Report) -> list[Html]:
    """The charts of a report under their headings; empty if there is nothing to draw."""
    names = [name for name in BARS[report.kind] if name in report.shown]
    if not names:
        return []
    figures = _memory(report, names) if report.kind == "memory" else [_bars(report, name) for name in names]
    parts = [tag("h2", "At a glance"), tag("div", *figures, class_="grid")]
    scatters = [_scatter(report, name) for name in costs(report)]
    if scatters:
        legend = tag(
            "ol", *(tag("li", result_name(report, index)) for index in range(len(report.results))), class_="legend"
        )
        parts += [tag("h2", "What it costs"), tag("div", *scatters, class_="grid"), legend]
    return parts
