"""Draws charts with matplotlib, in its styles, into a cache file of pictures and their data.

matplotlib (Python Software Foundation licence, the extra `plot`) takes some 60 ms a chart, so lessons take theirs from
a pool: one NumPy file with the pictures as PNG files end to end, their offsets, and the data as JSON.
"""

from __future__ import annotations

import io
import json
import logging
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from smolcli.nano.chart_drawing import BAR, LINE, PIE, Chart, arc, invent, stand_out, title_print
from smolcli.nano.fonts import fonts, load_font
from smolcli.nano.synthetic_images import Rng, pick

COUNTS = {False: 4000, True: 400}  # charts for training and, held out, for evaluation
HELD_OUT_STYLES = ("ggplot", "Solarize_Light2", "seaborn-v0_8-dark")
FILES = {False: "charts.npz", True: "charts-held-out.npz"}
STYLE_COLOURS = 0.5  # the probability that the colours are those of the style


def styles(held_out: bool) -> tuple[str, ...]:
    """The names of matplotlib's style sheets that are, or are not, held out."""
    from matplotlib import style

    return tuple(name for name in sorted(style.available) if (name in HELD_OUT_STYLES) == held_out)


def make_training(file: BinaryIO) -> None:
    """Write the pool for training into an open file; needs matplotlib, and some five minutes of one core."""
    make_pool(file, COUNTS[False], held_out=False)


def make_held_out(file: BinaryIO) -> None:
    """Write the pool for evaluation into an open file."""
    make_pool(file, COUNTS[True], held_out=True)


def make_pool(file: BinaryIO, count: int, held_out: bool) -> None:
    """Draw `count` charts into an open file."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it warns of each font with one weight
    rng = np.random.default_rng((9, held_out))
    pictures, charts = [], []
    for _ in range(count):
        chart = invent(rng, held_out)
        buffer = io.BytesIO()
        render(rng, chart, held_out).save(buffer, "PNG", compress_level=6)
        pictures.append(buffer.getvalue())
        charts.append({**asdict(chart), "marks": [[round(share, 3) for share in mark] for mark in chart.marks]})
    offsets = np.cumsum([0, *map(len, pictures)])
    text = np.frombuffer(json.dumps(charts).encode(), np.uint8)
    np.savez_compressed(file, pictures=np.frombuffer(b"".join(pictures), np.uint8), offsets=offsets, charts=text)


class Pool:
    """The charts of a file that make_pool wrote; a picture is decoded when it is taken."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.pictures, self.offsets = file["pictures"].tobytes(), file["offsets"].tolist()
            self.charts = json.loads(file["charts"].tobytes())

    def __len__(self) -> int:
        return len(self.charts)

    def __getitem__(self, index: int) -> tuple[Image.Image, Chart]:
        data = self.pictures[self.offsets[index] : self.offsets[index + 1]]
        chart = Chart(**self.charts[index])
        chart.colours = [(red, green, blue) for red, green, blue in chart.colours]  # JSON has lists for tuples
        return Image.open(io.BytesIO(data)).convert("RGB"), chart


@lru_cache(maxsize=2)
def load(folder: Path, held_out: bool) -> Pool | None:
    """The pool in `folder`; None if it was not made."""
    path = folder / FILES[held_out]
    return Pool(path) if path.exists() else None


# ---- one chart -----------------------------------------------------------------------------------


def render(rng: Rng, chart: Chart, held_out: bool) -> Image.Image:
    """A picture of the chart, 160 to 480 pixels a side, in one of matplotlib's styles; sets the chart's places."""
    from matplotlib import font_manager, style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = int(rng.integers(160, 481))
    height = int(np.clip(width / rng.uniform(0.75, 1.9), 160, 480))
    dpi = int(rng.integers(50, 100) * (width / 320) ** 0.5)
    path = pick(rng, fonts(held_out))
    chart.title_font = path if chart.title else ""
    font_manager.fontManager.addfont(path)
    family = font_manager.FontProperties(fname=path).get_name()
    with style.context([pick(rng, styles(held_out)), {"font.family": [family, "DejaVu Sans"]}]):
        figure = Figure((width / dpi, height / dpi), dpi=dpi)
        canvas = FigureCanvasAgg(figure)
        has_ticks = bool(chart.labels) or rng.random() < 0.6
        top = 0.95
        pixels = 0
        if chart.title:
            pixels = title_print(rng, chart, path, width, height)
            top -= 1.5 * pixels / height
        left = 0.16 if has_ticks else 0.05
        axes = figure.add_axes((left, 0.14 if has_ticks else 0.05, 0.96 - left, top - (0.14 if has_ticks else 0.05)))
        {BAR: _bars, LINE: _lines, PIE: _slices}[chart.kind](rng, axes, chart)
        axes.tick_params(labelsize=max(4.0, 0.045 * height * 72 / dpi))
        if not has_ticks and chart.kind != PIE:
            axes.set_xticks([])
            axes.set_yticks([])
        chart.has_text |= bool(chart.title) or (has_ticks and chart.kind != PIE)
        if chart.title:
            _print_title(figure, chart, pixels, width, height, dpi)
        canvas.draw()  # type: ignore[no-untyped-call]
        _place(axes, chart, width, height)
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())  # type: ignore[no-untyped-call]


def _own_colours(rng: Rng, chart: Chart) -> dict[str, Any]:
    """The argument for the colours of the marks, or none, which takes the style's."""
    from matplotlib import rcParams
    from matplotlib.colors import to_rgb

    red, green, blue = (round(255 * share) for share in to_rgb(rcParams["axes.facecolor"]))
    rgb = [tuple(channel / 255 for channel in colour) for colour in chart.colours]
    is_styles = rng.random() < STYLE_COLOURS or not stand_out(chart.colours, (red, green, blue))
    return {} if is_styles else {"colors" if chart.kind == PIE else "color": rgb}


def _bars(rng: Rng, axes: Any, chart: Chart) -> None:
    values = chart.values[0]
    positions = list(range(len(values)))
    thickness, edge = rng.uniform(0.5, 0.95), {"edgecolor": "black"} if rng.random() < 0.2 else {}
    labels = chart.labels if len(values) <= 6 else [label[:3] for label in chart.labels]
    if chart.is_horizontal:
        axes.barh(positions, values, thickness, **_own_colours(rng, chart), **edge)
        axes.invert_yaxis()
        if labels:
            axes.set_yticks(positions, labels)
    else:
        axes.bar(positions, values, thickness, **_own_colours(rng, chart), **edge)
        if labels:
            axes.set_xticks(positions, labels)
    if rng.random() < 0.3:
        axes.grid(visible=True)
        axes.set_axisbelow(True)


def _lines(rng: Rng, axes: Any, chart: Chart) -> None:
    palette = _own_colours(rng, chart).get("color")
    marker = pick(rng, ("", "", "o", "s")) if len(chart.values[0]) < 13 else ""
    extra = {} if rng.random() < 0.5 else {"linewidth": rng.uniform(1.5, 4)}
    for index, values in enumerate(chart.values):
        label = chart.labels[index] if chart.labels else ""
        axes.plot(values, marker=marker, label=label, **({"color": palette[index]} if palette else {}), **extra)
    if chart.labels and rng.random() < 0.4:
        axes.legend(fontsize="x-small")
    if rng.random() < 0.3:
        axes.grid(visible=True)


def _slices(rng: Rng, axes: Any, chart: Chart) -> None:
    has_shares = rng.random() < 0.4
    is_ring = rng.random() < 0.2
    chart.has_text |= has_shares or bool(chart.labels)
    axes.pie(
        chart.values[0], labels=chart.labels[: chart.count] or None, startangle=rng.uniform(0, 360), counterclock=False,
        autopct="%.0f%%" if has_shares else None, explode=[0.04 * (rng.random() < 0.1)] * chart.count,
        wedgeprops={"width": 0.5 if is_ring else None, **({"edgecolor": "white"} if rng.random() < 0.4 else {})},
        textprops={"fontsize": 7 if rng.random() < 0.5 else 9}, **_own_colours(rng, chart),
    )  # fmt: skip


def _print_title(figure: Any, chart: Chart, pixels: int, width: int, height: int, dpi: int) -> None:
    """Print the title at the top, `pixels` high, where the box of its characters is known."""
    length = load_font(chart.title_font, pixels).getlength(chart.title)
    points = pixels * 72 / dpi
    figure.text(0.5, 0.98, chart.title, fontsize=points, font=Path(chart.title_font), ha="center", va="top")
    chart.title_size = pixels / height
    left = 0.5 - length / width / 2
    chart.title_box = left, 0.02 - 0.1 * chart.title_size, 1 - left, 0.02 + 1.1 * chart.title_size


def _place(axes: Any, chart: Chart, width: int, height: int) -> None:
    """Read the outlines and colours of the marks off the drawn axes."""
    from matplotlib.colors import to_rgb

    drawn = axes.lines if chart.kind == LINE else axes.patches
    marks = []
    for mark in drawn:
        if chart.kind == PIE:
            x, y = axes.transData.transform(mark.center)
            reach = (axes.transData.transform((mark.r, 0)) - axes.transData.transform((0, 0)))[0]
            first, last = np.deg2rad([mark.theta1, mark.theta2])
            outline = np.array(arc(x, y, (reach, reach), first, last)).reshape(-1, 2)
        elif chart.kind == LINE:
            outline = axes.transData.transform(mark.get_xydata())
        else:
            box = mark.get_window_extent()
            outline = np.array([(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)])
        marks.append((outline / (width, height) * (1, -1) + (0, 1)).ravel().tolist())
    chart.marks = marks
    rgb = [to_rgb(mark.get_color() if chart.kind == LINE else mark.get_facecolor()[:3]) for mark in drawn]
    chart.colours = [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in rgb]
