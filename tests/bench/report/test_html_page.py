"""html_page.py in a parser and a browser, and matplotlib_plots.py: hostile text is escaped, nothing is cut off."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smolcli.bench.report.html_page import POLICY, STYLE, page
from smolcli.bench.report.results import MEASURES, Figure, Report, Result, Worst
from smolcli.bench.report.svg_charts import Axis, place_labels
from smolcli.errors import OutputError, UsageError
from tests.bench.report.example_results import HOSTILE, around, hostile, memory, quality, speed

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
VOID = {"meta", "img", "wbr"}
ALLOWED = (
    "html head title style body header main footer h1 h2 h3 p ol ul li dl dt dd pre details summary div span bdi b "
    "figure figcaption table caption thead tbody tr th td article svg line rect circle text"
)
ATTRIBUTES = (
    "lang charset http-equiv content name class dir open role aria-label tabindex scope src alt loading "
    "x y x1 x2 y1 y2 cx cy r rx width height viewbox text-anchor"
)


def picture(colour: str = "teal") -> str:
    held = io.BytesIO()
    Image.new("RGB", (120, 80), colour).save(held, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def pictured() -> Report:
    """A quality report as they are: models, some with long names, and worst answers with their pictures."""
    made = quality(("nano", "256m", "organization/a-model-with-quite-a-long-name-of-a-checkpoint"))
    replies = ("12", "I see a table. " * 60, "")
    worst = tuple(
        Worst(f"{at}.png", "What is the total?", ("1,204",), text, 0, picture()) for at, text in enumerate(replies)
    )
    return replace(made, results=tuple(replace(result, worst=worst) for result in made.results))


class Tree(HTMLParser):
    """Checks that what is opened is closed, and keeps tags, attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        assert len(attrs) == len(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def named(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.mark.parametrize("made", [speed, memory, quality, pictured, hostile])
def test_page_is_well_formed(made: Callable[[], Report]) -> None:
    text = page(made())
    assert text.startswith('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv=')
    tree = Tree(text)
    assert {name for name, _ in tree.tags} <= {*VOID, *ALLOWED.split()}
    assert {name for _, attributes in tree.tags for name in attributes} <= set(ATTRIBUTES.split())
    assert len(tree.named("h1")) == len(tree.named("main")) == len(tree.named("title")) - len(tree.named("svg")) == 1
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in tree.named("meta")
    assert all(attributes.get("alt") for attributes in tree.named("img"))
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in tree.named("svg"))
    assert all(attributes["scope"] in ("row", "col") for attributes in tree.named("th"))
    assert len(tree.named("table")) == len(tree.named("caption"))
    assert text.count("<style>") == 1 and "url(" not in STYLE and "@import" not in STYLE and "<" not in STYLE


def test_policy_allows_only_inline_styles_and_pictures() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    assert rules == {"style-src": "'unsafe-inline'", "img-src": "data:"}


def test_hostile_text_is_escaped() -> None:
    text = page(hostile())
    tree = Tree(text)
    assert not tree.named("script") and not tree.named("img")
    assert not any(name.startswith("on") or name == "style" for _, attributes in tree.tags for name in attributes)
    assert not {char for char in text if not char.isprintable()} - {"\n", "\u202e", "\u200d"}
    text.encode()
    for shown in ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\\x1b[31mred", "w" * 300, "\\ud83d"):
        assert any(shown in text for text in tree.texts), shown


@pytest.mark.parametrize(
    "uri",
    ["https://x.test/a.png", "data:text/html;base64,AAAA", "data:image/svg+xml;base64,AAAA", "javascript:alert(1)", "",
     'data:image/png;base64,AA"onerror=', "data:image/png;base64,AAAA\n", " data:image/png;base64,AAAA",
     "data:image/png;base64,"],
)  # fmt: skip
def test_only_pictures_inside_the_page_are_shown(uri: str) -> None:
    def shown_pictures(picture: str) -> list[dict[str, str]]:
        made = quality(("nano",))
        worst = (Worst("a", "b", ("c",), "d", 0, picture),)
        return Tree(page(replace(made, results=(replace(made.results[0], worst=worst),)))).named("img")

    assert shown_pictures(uri) == []
    for kind in ("jpeg", "png", "webp"):
        [shown] = shown_pictures(f"data:image/{kind};base64,AA+/==")
        assert shown["src"] == f"data:image/{kind};base64,AA+/=="


def test_every_figure_is_on_the_page() -> None:
    texts = Tree(page(speed())).texts
    for text in ("47.1", "±0.5", "0.0123", "decode, tokens/s", "smolcli bench speed -m 256m", "Xeon", "25.2 GB", "abc1",
                 "It was busy.", "nano, f16: failed: out of memory"):  # fmt: skip
        assert text in texts, text
    texts = Tree(page(pictured())).texts
    for text in ("0.300", "[0.250, 0.340]", "What is the total?", "1,204", "nothing", "By category", "chart",
                 "rows failed", "ANLS against rows/s", "best at the top right", "best at the top left"):  # fmt: skip
        assert text in texts, text
    assert "Nothing was measured." in Tree(page(replace(speed(), results=()))).texts
    assert "batch 4" in Tree(page(memory())).texts


def test_bars_are_as_long_as_their_figures() -> None:
    tree = Tree(page(speed()))
    widths = [float(bar["width"].rstrip("%")) for bar in tree.named("rect")]
    top = 47.1 * 3 * 1.01
    assert widths[:3] == pytest.approx([47.1 * at / top * 100 for at in (1, 2, 3)], abs=0.01)


def test_score_that_is_not_finite_is_not_drawn() -> None:
    made = quality(("nano",))
    nothing = Figure(float("nan"), float("nan"), float("inf"), 0)
    text = page(replace(made, results=(replace(made.results[0], figures=dict.fromkeys(("score", "images"), nothing)),)))
    assert "nan" in Tree(text).texts
    assert not any(value in ("nan", "inf") for _, each in Tree(text).tags for value in each.values())


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [1e9, 1e9 + 1e-7], [0, 1], [3e-6, 4e-6], [123, 98765]])
def test_an_axis_holds_its_values_and_has_a_few_ticks(values: list[float]) -> None:
    axis = Axis.over(values, 10, 110)
    assert 2 <= len(axis.ticks) <= 7
    assert axis.ticks[0] <= min(values) and max(values) <= axis.ticks[-1]
    assert all(10 <= axis.at(value) <= 110 for value in values)


def test_numbers_of_points_do_not_cover_each_other() -> None:
    crowd = {at: (100.0 + at % 4 * 6, 100.0 + at // 4 * 6) for at in range(12)}
    places = list(place_labels(crowd, (0, 200), (0, 200)).values())
    gaps = [((x - u) ** 2 + (y - v) ** 2) ** 0.5 for at, (x, y, _) in enumerate(places) for u, v, _ in places[:at]]
    assert min(gaps) >= 12
    assert all(0 <= x <= 200 and 0 <= y <= 200 for x, y, _ in places)


def luminance(colour: str) -> float:
    whole = colour.lstrip("#") if len(colour) > 4 else "".join(2 * char for char in colour.lstrip("#"))
    parts = [int(whole[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(color: str, other: str) -> float:
    dark, light = sorted((luminance(color), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_colours_have_the_contrast_that_wcag_aa_asks_for() -> None:
    palettes = [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root {(.*?)}", STYLE, re.S)]
    assert len(palettes) == 2
    for palette in palettes:
        for ground in (palette["paper"], palette["card"]):
            assert all(contrast(palette[name], ground) >= 4.5 for name in ("ink", "soft"))
            hues = ("blue", "orange", "green", "pink", "grey")
            assert all(contrast(palette[hue], ground) >= 3 for hue in hues), palette


def frames(*texts: str, widths: tuple[int, ...], height: int) -> str:
    """A page of pages: a window of Chromium itself is at least 500 pixels wide."""
    sized = [(text, width) for text in texts for width in widths]
    style = f"body {{ margin: 0; white-space: nowrap }} iframe {{ border: 0; height: {height}px }}"
    inner = (f'<iframe width="{width}" srcdoc="{html.escape(text)}"></iframe>' for text, width in sized)
    head = f'<meta charset="utf-8"><meta name="color-scheme" content="light dark"><style>{style}</style>'
    return f"<!doctype html>{head}{''.join(inner)}"


def chromium(text: str, folder: Path, *options: str) -> str:
    file = folder / "frames.html"
    file.write_text(text, encoding="utf-8")
    assert BROWSER is not None
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
    done = subprocess.run(
        [BROWSER, *quiet, f"--user-data-dir={folder / 'profile'}", *options, file.as_uri()],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


MEASURE = """<script>
function measured(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  const shown = [...page.querySelectorAll("body *")].filter(one => !one.parentElement.closest(".scroll"));
  const boxes = shown.map(one => one.getBoundingClientRect()).filter(box => box.width);
  return { width: root.clientWidth, needed: root.scrollWidth, count: boxes.length, scripts: page.scripts.length,
    cut: [...page.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth).length,
    right: Math.max(...boxes.map(box => box.right)), left: Math.min(...boxes.map(box => box.left)) };
}
onload = () => { document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(measured)); }
</script>"""


@pytest.mark.parametrize(
    ("made", "count", "has_95", "has_range"),
    [(speed, 5, False, True), (speed, 6, True, False), (speed, 1, False, False), (quality, 1, True, False)],
)
def test_the_page_calls_an_interval_95_percent_only_where_it_is(
    made: Callable[[], Report], count: int, has_95: bool, has_range: bool
) -> None:
    """Of 5 repetitions the range holds the median with 94 % certainty, of 6 with 97 % (1 - 2 / 2**n)."""
    report = made()
    figures = [{name: replace(figure, count=count) for name, figure in r.figures.items()} for r in report.results]
    results = tuple(replace(r, figures=f) for r, f in zip(report.results, figures, strict=True))
    text = page(replace(report, results=results))
    assert ("95 %" in text, "half the range" in text) == (has_95, has_range)


def test_error_rates_of_pages_are_no_repetitions() -> None:
    rates = {"cer_mean": Figure(0.2, 0.1, 0.4, 200), "images": Figure(2.0, 2.0, 2.0, 1)}
    results = tuple(replace(result, figures=rates) for result in quality().results)
    text = page(replace(quality(), results=results))
    assert "95 % intervals" in text and "±" not in text and "repetitions" not in text


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_nothing_is_wider_than_a_phone(tmp_path: Path) -> None:
    """But tables, which scroll in their own boxes."""
    made = [page(report()).replace("<details>", "<details open>") for report in (speed, memory, pictured, hostile)]
    shown = chromium(frames(*made, widths=(360, 1280), height=900) + MEASURE, tmp_path, "--dump-dom")
    [title] = re.findall("<title>(.*?)</title>", shown)
    layouts = json.loads(html.unescape(title))
    assert [layout["width"] for layout in layouts] == [360, 1280] * 4
    for layout in layouts:
        assert layout["count"] > 50 and layout["scripts"] == 0
        assert layout["needed"] <= layout["width"]
        assert layout["left"] >= 0 and layout["right"] <= layout["width"]


def every_figure() -> Report:
    """What bench speed measures with two backends: all its figures, settings and facts, at their usual lengths."""
    units = {"s": 0.0123, "tokens/s": 12345.6, "1/s": 1.23}
    figures = {name: around(units[measure.unit]) for name, measure in MEASURES.items() if measure.unit in units}
    shared: dict[str, str | int] = {"device": "cpu", "threads": 2, "detail": "auto", "vision": "openvino", "batch": 1,
                                    "image": "1024x768", "new_tokens": 64}  # fmt: skip
    facts, fingerprint = {"tiles": 13, "prompt_tokens": 876, "image_tokens": 832}, "0123456789abcdef" * 2
    results = [
        Result(
            {"model": "256m", "backend": backend, "quant": quant, **shared}, figures, facts, 500_000_000, fingerprint
        )
        for backend, quant in (("llamacpp", "q4_k_m+f16"), ("torch", "bfloat16"))
    ]
    return replace(speed(), results=tuple(results))


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_no_column_is_cut_on_a_window_of_1100_pixels(tmp_path: Path) -> None:
    made = [page(report()).replace("<details>", "<details open>") for report in (every_figure, memory, quality)]
    shown = chromium(frames(*made, widths=(1100,), height=900) + MEASURE, tmp_path, "--dump-dom")
    [title] = re.findall("<title>(.*?)</title>", shown)
    assert [layout["cut"] for layout in json.loads(html.unescape(title))] == [0, 0, 0]


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_drawn_in_light_and_dark(dark: bool, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    text = frames(page(pictured()), widths=(360, 1280), height=3000)
    chromium(text, tmp_path, scheme, "--window-size=1660,3000", f"--screenshot={shot}")
    whole = Image.open(shot).convert("RGB")
    for box in ((0, 0, 360, 3000), (360, 0, 1640, 3000)):
        part = whole.crop(box)
        colours: Any = part.getcolors(2**24)  # of a picture in RGB, count and (r, g, b)
        assert colours is not None
        count, ground = max(colours)
        assert count > 0.3 * part.width * part.height and len(colours) > 500
        assert (sum(ground) < 150) if dark else (sum(ground) > 700)
        blue = (86, 180, 233) if dark else (0, 114, 178)
        assert sum(count for count, colour in colours if colour == blue) > 100
        thumbnails = [count for count, (r, g, b) in colours if r < 12 and abs(g - 128) < 12 and abs(b - 128) < 12]
        assert sum(thumbnails) > 5000


@pytest.mark.parametrize("made", [speed, memory, pictured, hostile])
def test_a_plot_is_the_same_every_time_and_its_texts_are_texts(made: Callable[[], Report], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from smolcli.bench.report.matplotlib_plots import plot

    for suffix in (".svg", ".png"):
        plotted, plotted_again = tmp_path / f"one{suffix}", tmp_path / f"two{suffix.upper()}"
        plot(made(), plotted)
        plot(made(), plotted_again)
        assert plotted.read_bytes() == plotted_again.read_bytes()
    root = ET.parse(tmp_path / "one.svg").getroot()
    assert not [node for node in root.iter() if node.tag.rsplit("}", 1)[-1] in ("script", "img", "image", "date")]
    written = "".join(root.itertext())
    assert {"speed": "decode, tokens/s", "memory": "batch 4", "quality": "best at the top right"}[
        made().kind
    ] in written
    if made is hostile:
        assert HOSTILE[0] in written and "\\x1b[31m" in written
    drawn = Image.open(tmp_path / "one.png")
    assert drawn.width > 500 and len(drawn.convert("RGB").getcolors(2**24) or []) > 50


def test_scores_alone_are_drawn_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from smolcli.bench.report.matplotlib_plots import plot

    made = quality()
    alone = [replace(result, figures={"score": result.figures["score"]}) for result in made.results]
    plot(replace(made, results=tuple(alone)), tmp_path / "scores.svg")
    assert "500m" in (tmp_path / "scores.svg").read_text()
    for report, name in ((made, "a.pdf"), (made, "a"), (replace(made, results=()), "a.svg")):
        with pytest.raises(UsageError):
            plot(report, tmp_path / name)
    with pytest.raises(OutputError):
        plot(made, tmp_path / "nowhere" / "a.svg")
