"""A report as one picture for a paper or a README, drawn by matplotlib.

    plot(report, Path("speed.svg"))

The same report gives the same bytes: no date is written, and the names inside an SVG are derived from its content.
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

from smolcli.bench.report.model import MEASURES, Figure, Report, Result, heading
from smolcli.bench.report.svg_charts import BARS, NEAR, against, beside, best, by_batch, points
from smolcli.bench.report.text import label
from smolcli.errors import UsageError
from smolcli.terminal.console import printable
from smolcli.terminal.stdout import cannot_write

SUFFIXES = (".png", ".svg")
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # told apart by colour-blind people too
INK, SOFT = "#1b1f24", "#57606a"
LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "smolcli",
    "text.parse_math": False,  # a name may hold a dollar
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
    """Draws the report to a PNG or SVG; UsageError for another suffix or nothing to draw, OutputError for the disk."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{file}: {suffix or 'no suffix'} is no format of a plot", f"choose {' or '.join(SUFFIXES)}")
    if not any(name in report.shown for name in BARS[report.kind]):
        raise UsageError("the report has nothing to draw", "measure something first")
    drawn = io.BytesIO()
    with rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # of names in scripts that the font lacks
        draw = {"speed": _bars, "memory": _memory, "quality": _quality}[report.kind]
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
        draw(report).savefig(drawn, format=suffix[1:], dpi=200, metadata=metadata)
    try:
        file.write_bytes(drawn.getvalue())
    except OSError as error:
        raise cannot_write(str(file), error) from error


def _folded(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(printable(text), width)) or "-"


def _colours(report: Report) -> list[str]:
    """One a result: results of one model share it."""
    models = list(dict.fromkeys(result.settings.get("model", "") for result in report.results))
    return [OKABE_ITO[models.index(one.settings.get("model", "")) % len(OKABE_ITO)] for one in report.results]


def _panels(count: int, width: float, height: float, *, down: bool = False) -> tuple[Picture, Sequence[Axes]]:
    picture = Picture(figsize=(width, height), layout="constrained")
    rows, columns = (count, 1) if down else (1, count)
    return picture, list(picture.subplots(rows, columns, squeeze=False).flat)


def _off(figures: Sequence[Figure]) -> list[list[float]]:
    """How far the whiskers reach to either side, as matplotlib takes it."""
    return [[max(one.value - one.low, 0.0) for one in figures], [max(one.high - one.value, 0.0) for one in figures]]


def _bars(report: Report) -> Picture:
    """Bars from zero with whiskers, a panel a figure; of scores dots on a scale from 0 to 1."""
    names = [name for name in BARS[report.kind] if name in report.shown]
    rows = range(len(report.results))
    texts = [_folded(label(report, one), 32) for one in report.results]
    lines = max(text.count("\n") + 1 for text in texts)
    picture, panels = _panels(len(names), 2.2 + 3.1 * len(names), 0.9 + max(0.38, 0.19 * lines) * len(rows))
    for panel, name in zip(panels, names, strict=True):
        held = [(at, one.figures[name]) for at, one in enumerate(report.results) if name in one.figures]
        held = [(at, one) for at, one in held if math.isfinite(one.value)]
        figures = [one for _, one in held]
        for at, one in held:
            colour = _colours(report)[at]
            if name == "score":
                panel.plot(one.value, at, "o", color=colour)
            else:
                panel.barh(at, one.value, height=0.6, color=colour)
        spots = [at for at, _ in held]
        values = [one.value for one in figures]
        panel.errorbar(values, spots, xerr=_off(figures), fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
        panel.set_xlim(left=0, right=max(1.0, *panel.get_xlim()) if name == "score" else None)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.grid(axis="x")
        panel.set_title(heading(report.measure(name)), loc="left", fontsize=10)
        panel.set_yticks(list(rows), texts)
        if panel is not panels[0]:
            panel.tick_params(labelleft=False)
    return picture


def _memory(report: Report) -> Picture:
    """Grouped bars by batch, a panel for each combination of the other settings, all to one scale."""
    groups = by_batch(report)
    names = [name for name in BARS["memory"] if name in report.shown]
    picture, panels = _panels(len(groups), 5.6, 0.5 + 2.2 * len(groups), down=True)
    for panel, (title, results) in zip(panels, groups.items(), strict=True):
        for at, name in enumerate(names):
            held = [(spot, one.figures[name]) for spot, one in enumerate(results) if name in one.figures]
            spots = [spot + (at - (len(names) - 1) / 2) * 0.8 / len(names) for spot, _ in held]
            scaled = [Figure(one.value / 1e6, one.low / 1e6, one.high / 1e6, one.count) for _, one in held]
            values = [one.value for one in scaled]
            panel.bar(spots, values, 0.72 / len(names), color=OKABE_ITO[at], label=MEASURES[name].title)
            panel.errorbar(spots, values, yerr=_off(scaled), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        panel.set_xticks(range(len(results)), [_batch(one) for one in results])
        panel.set_title(_folded(title, 70), loc="left", fontsize=10)
        panel.set_ylabel("peak memory, MB")
        panel.grid(axis="y")
    top = max(panel.get_ylim()[1] for panel in panels)
    for panel in panels:
        panel.set_ylim(0, top)
    _legend(picture, *panels[0].get_legend_handles_labels(), columns=len(names))
    return picture


def _batch(result: Result) -> str:
    return printable(f"batch {result.settings['batch']}") if "batch" in result.settings else ""


def _quality(report: Report) -> Picture:
    """The score against speed and memory, numbered points with a legend; the scores alone where no cost is known."""
    costs = [name for name in against(report) if points(report, name)]
    if not costs:
        return _bars(report)
    picture, panels = _panels(len(costs), 4.2 * len(costs), 3.4 + 0.2 * math.ceil(len(report.results) / 2))
    score, colours = report.measure("score"), _colours(report)
    for panel, name in zip(panels, costs, strict=True):
        measure, scale = report.measure(name), 1e6 if MEASURES[name].unit == "bytes" else 1.0
        for at, (x, y) in points(report, name).items():
            x = Figure(x.value / scale, x.low / scale, x.high / scale, x.count)
            named = f"{at + 1}  {_folded(label(report, report.results[at]), 48)}"
            panel.errorbar(x.value, y.value, xerr=_off([x]), yerr=_off([y]), color=colours[at], fmt="o", label=named)
        panel.set_xlabel(heading(measure))
        panel.set_ylabel(printable(score.title))
        panel.set_title(best(score, measure), loc="left", fontsize=8, color=SOFT)
        panel.grid()
    fullest = max(panels, key=lambda panel: len(panel.containers))
    _legend(picture, *fullest.get_legend_handles_labels(), columns=2)
    picture.draw_without_rendering()  # now the places are known, in which the numbers go
    for panel, name in zip(panels, costs, strict=True):
        _number(panel, points(report, name), 1e6 if MEASURES[name].unit == "bytes" else 1.0)
    return picture


def _legend(picture: Picture, handles: Any, names: Sequence[str], columns: int) -> None:
    picture.legend(handles, names, loc="outside lower left", ncols=columns, frameon=False, fontsize=8)


def _number(panel: Axes, held: dict[int, tuple[Figure, Figure]], scale: float) -> None:
    per_point = panel.figure.dpi / 72
    places = {}
    for at, (x, y) in held.items():
        across, up = panel.transData.transform((x.value / scale, y.value)) / per_point
        places[at] = float(across), -float(up)
    box = panel.get_window_extent()
    edges = (box.x0 / per_point + 6, box.x1 / per_point - 6), (-box.y1 / per_point + 6, -box.y0 / per_point - 6)
    for at, (across, down, far) in beside(places, *edges).items():
        panel.annotate(
            str(at + 1),
            xy=(held[at][0].value / scale, held[at][1].value),
            xytext=(across - places[at][0], places[at][1] - down),
            textcoords="offset points",
            ha="center",
            va="center",
            fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.6} if far > NEAR else None,
        )
