"""Draws a report as one picture for a paper or a README, with matplotlib.

    plot(report, Path("speed.svg"))

The same report gives the same bytes: no date is written, and the ids in an SVG follow from its content.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from smolcli.bench.report.results import MEASURES, Figure, Report, Result, heading
from smolcli.bench.report.svg_charts import BARS, LABEL_DISTANCE, best, by_batch, costs, place_labels, points
from smolcli.bench.report.text import label
from smolcli.errors import UsageError
from smolcli.terminal.console import printable
from smolcli.terminal.stdout import cannot_write

SUFFIXES = (".png", ".svg")
OKABE_ITO = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)  # distinguishable for colour-blind people too
INK, SOFT = "#1b1f24", "#57606a"
LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "smolcli",
    "text.parse_math": False,  # a name may have a dollar sign
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dde1e6",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


def plot(report: Report, file: Path) -> None:
    """Draw the report into a PNG or SVG file.

    Raises UsageError for another suffix or if there is nothing to draw, OutputError if the file cannot be written.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{file}: {suffix or 'no suffix'} is not a format of plots", f"choose {' or '.join(SUFFIXES)}")
    if not any(name in report.shown for name in BARS[report.kind]):
        raise UsageError("the report has nothing to draw", "measure something first")
    buffer = io.BytesIO()
    with rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing"
        )  # for names in scripts that the font does not have
        draw = {"speed": _bars, "memory": _memory, "quality": _quality}[report.kind]
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
        draw(report).savefig(buffer, format=suffix[1:], dpi=200, metadata=metadata)
    try:
        file.write_bytes(buffer.getvalue())
    except OSError as error:
        raise cannot_write(str(file), error) from error


def _folded(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(printable(text), width)) or "-"


def _colours(report: Report) -> list[str]:
    """The colour of each result; results of the same model share it."""
    models = list(dict.fromkeys(result.settings.get("model", "") for result in report.results))
    return [OKABE_ITO[models.index(result.settings.get("model", "")) % len(OKABE_ITO)] for result in report.results]


def _panels(count: int, width: float, height: float, *, down: bool = False) -> tuple[Picture, Sequence[Axes]]:
    picture = Picture(figsize=(width, height), layout="constrained")
    rows, columns = (count, 1) if down else (1, count)
    return picture, list(picture.subplots(rows, columns, squeeze=False).flat)


def _whiskers(figures: Sequence[Figure]) -> list[list[float]]:
    """The lengths of the whiskers below and above the values, as errorbar takes them."""
    below = [max(figure.value - figure.low, 0.0) for figure in figures]
    return [below, [max(figure.high - figure.value, 0.0) for figure in figures]]


def _bars(report: Report) -> Picture:
    """Bars from zero with whiskers, a panel for each figure; for scores dots on a scale from 0 to 1."""
    names = [name for name in BARS[report.kind] if name in report.shown]
    rows = range(len(report.results))
    texts = [_folded(label(report, result), 32) for result in report.results]
    lines = max(text.count("\n") + 1 for text in texts)
    picture, panels = _panels(len(names), 2.2 + 3.1 * len(names), 0.9 + max(0.38, 0.19 * lines) * len(rows))
    for panel, name in zip(panels, names, strict=True):
        figures = {row: result.figures[name] for row, result in enumerate(report.results) if name in result.figures}
        figures = {row: figure for row, figure in figures.items() if math.isfinite(figure.value)}
        for row, figure in figures.items():
            colour = _colours(report)[row]
            if name == "score":
                panel.plot(figure.value, row, "o", color=colour)
            else:
                panel.barh(row, figure.value, height=0.6, color=colour)
        values = [figure.value for figure in figures.values()]
        panel.errorbar(
            values,
            list(figures),
            xerr=_whiskers(list(figures.values())),
            fmt="none",
            ecolor=INK,
            elinewidth=1,
            capsize=2.5,
        )
        panel.set_xlim(left=0, right=max(1.0, *panel.get_xlim()) if name == "score" else None)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.grid(axis="x")
        panel.set_title(heading(report.measure(name)), loc="left", fontsize=10)
        panel.set_yticks(list(rows), texts)
        if panel is not panels[0]:
            panel.tick_params(labelleft=False)
    return picture


def _memory(report: Report) -> Picture:
    """Grouped bars by batch, a panel for each combination of the other settings, all at the same scale."""
    groups = by_batch(report)
    names = [name for name in BARS["memory"] if name in report.shown]
    picture, panels = _panels(len(groups), 5.6, 0.5 + 2.2 * len(groups), down=True)
    for panel, (title, results) in zip(panels, groups.items(), strict=True):
        for index, name in enumerate(names):
            figures = {group: result.figures[name] for group, result in enumerate(results) if name in result.figures}
            centres = [group + (index - (len(names) - 1) / 2) * 0.8 / len(names) for group in figures]
            scaled = [_scaled(figure, 1e6) for figure in figures.values()]
            values = [figure.value for figure in scaled]
            panel.bar(centres, values, 0.72 / len(names), color=OKABE_ITO[index], label=MEASURES[name].title)
            panel.errorbar(centres, values, yerr=_whiskers(scaled), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        panel.set_xticks(range(len(results)), [_batch(result) for result in results])
        panel.set_title(_folded(title, 70), loc="left", fontsize=10)
        panel.set_ylabel("peak memory, MB")
        panel.grid(axis="y")
    top = max(panel.get_ylim()[1] for panel in panels)
    for panel in panels:
        panel.set_ylim(0, top)
    _legend(picture, *panels[0].get_legend_handles_labels(), columns=len(names))
    return picture


def _scaled(figure: Figure, scale: float) -> Figure:
    return Figure(figure.value / scale, figure.low / scale, figure.high / scale, figure.count)


def _batch(result: Result) -> str:
    return printable(f"batch {result.settings['batch']}") if "batch" in result.settings else ""


def _quality(report: Report) -> Picture:
    """The score against speed and memory, as numbered points with a legend; bars of scores if no cost is known."""
    names = [name for name in costs(report) if points(report, name)]
    if not names:
        return _bars(report)
    picture, panels = _panels(len(names), 4.2 * len(names), 3.4 + 0.2 * math.ceil(len(report.results) / 2))
    score, colours = report.measure("score"), _colours(report)
    for panel, name in zip(panels, names, strict=True):
        measure, scale = report.measure(name), 1e6 if MEASURES[name].unit == "bytes" else 1.0
        for index, (x, y) in points(report, name).items():
            x = _scaled(x, scale)
            text = f"{index + 1}  {_folded(label(report, report.results[index]), 48)}"
            panel.errorbar(
                x.value, y.value, xerr=_whiskers([x]), yerr=_whiskers([y]), color=colours[index], fmt="o", label=text
            )
        panel.set_xlabel(heading(measure))
        panel.set_ylabel(printable(score.title))
        panel.set_title(best(score, measure), loc="left", fontsize=8, color=SOFT)
        panel.grid()
    fullest = max(panels, key=lambda panel: len(panel.containers))
    _legend(picture, *fullest.get_legend_handles_labels(), columns=2)
    picture.draw_without_rendering()  # which sets the positions of the points
    for panel, name in zip(panels, names, strict=True):
        _number(panel, points(report, name), 1e6 if MEASURES[name].unit == "bytes" else 1.0)
    return picture


def _legend(picture: Picture, handles: Any, names: Sequence[str], columns: int) -> None:
    picture.legend(handles, names, loc="outside lower left", ncols=columns, frameon=False, fontsize=8)


def _number(panel: Axes, pairs: dict[int, tuple[Figure, Figure]], scale: float) -> None:
    """Write the number of each result beside its point."""
    per_point = panel.figure.dpi / 72
    places = {}
    for index, (x, y) in pairs.items():
        across, up = panel.transData.transform((x.value / scale, y.value)) / per_point
        places[index] = float(across), -float(up)
    box = panel.get_window_extent()
    edges = (box.x0 / per_point + 6, box.x1 / per_point - 6), (-box.y1 / per_point + 6, -box.y0 / per_point - 6)
    for index, (across, down, far) in place_labels(places, *edges).items():
        panel.annotate(
            str(index + 1),
            xy=(pairs[index][0].value / scale, pairs[index][1].value),
            xytext=(across - places[index][0], places[index][1] - down),
            textcoords="offset points",
            ha="center",
            va="center",
            fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.6} if far > LABEL_DISTANCE else None,
        )
