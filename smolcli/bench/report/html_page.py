"""Writes a report as one self-contained HTML page: no network, no script, no font.

    Path("report.html").write_text(page(report), encoding="utf-8")

Names, questions and answers come from untrusted models, data sets and files. `tag` escapes all of them, and the page's
Content-Security-Policy forbids scripts and network access in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from smolcli.bench.report.html import Html, join, tag
from smolcli.bench.report.results import MEASURES, Report, Worst, heading
from smolcli.bench.report.svg_charts import badge, charts, result_name
from smolcli.bench.report.text import ABSENT, Group, cell, flat_pairs, groups, label, number
from smolcli.types import pluralize

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
PICTURE = re.compile(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/=]+")
# Repetitions: the range of 5 holds the median with 1 - 2 / 2**5 = 94 % certainty, that of 6 with 97 %.
LEAST_FOR_95 = 6
LONG = 600  # characters; a longer answer gets a scrollbar of its own
STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(report: Report) -> str:
    """The whole page."""
    title = f"{report.kind.capitalize()}{f': {report.metric}' if report.metric else ''}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} - smolcli bench"),
        tag("style", Html(STYLE)),
    )
    main = tag("main", *charts(report), *_figures(report), *_by_group(report), *_worst(report))
    notes = list(_interval_notes(report))
    body = tag("body", _header(report, title), main, tag("footer", tag("p", " ".join(notes))) if notes else "")
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _interval_notes(report: Report) -> Iterator[str]:
    """What the intervals of this report mean, a sentence for each kind that it has."""
    figures = [(name, figure) for result in report.results for name, figure in result.figures.items()]
    # Scores and error rates, which have no unit, are over the rows of a data set; the others over repetitions.
    is_over_rows = {name: MEASURES[name].unit == "" for name, _ in figures}
    if any(is_over_rows.values()):
        yield "Whiskers and brackets are 95 % intervals of the score."
    counts = {figure.count for name, figure in figures if not is_over_rows[name]} - {1}
    if any(count >= LEAST_FOR_95 for count in counts):
        yield "± is half the interval in which the median of the repetitions lies with a certainty of 95 %."
    if any(count < LEAST_FOR_95 for count in counts):
        yield f"± is half the range of the repetitions where there are fewer than {LEAST_FOR_95}."


def _header(report: Report, title: str) -> Html:
    texts = [f"{label(report, result)}: {notice}" for result in report.results for notice in result.notices]
    notices = [tag("li", notice, dir="auto") for notice in (*report.notices, *texts)]
    lead = f"{pluralize(len(report.results), 'result')}, {report.created[:16].replace('T', ' ')} UTC"
    return tag(
        "header",
        tag("p", "smolcli bench", class_="kicker"),
        tag("h1", title),
        tag("p", lead, class_="lead"),
        tag("ul", *notices, class_="notices") if notices else "",
        _how(report),
    )


def _how(report: Report) -> Html:
    """What is needed to repeat the measurement: command, machine, data, options, settings and files."""
    names = report.varied
    shared = {name: value for result in report.results for name, value in result.settings.items() if name not in names}
    facts = list(dict.fromkeys(name for result in report.results for name in result.facts))
    rows = []
    for index, result in enumerate(report.results):
        texts = [str(result.settings.get(name, ABSENT)) for name in names]
        texts += [f"{result.facts[name]:,}" if name in result.facts else ABSENT for name in facts]
        texts += [number(result.files, MEASURES["engine"]) if result.files else ABSENT, result.fingerprint or ABSENT]
        number_of = tag("th", badge(report, index), scope="row")
        rows.append(tag("tr", number_of, *(tag("td", text, dir="auto") for text in texts)))
    titles = [name.replace("_", " ") for name in [*names, *facts]] + ["files, MB", "fingerprint"]
    blocks = [tag("h3", "Command"), tag("pre", report.command)] if report.command else []
    for title, fields in (("Machine", report.machine), ("Data", report.data), ("Options", report.options),
                          ("Settings of all results", shared)):  # fmt: skip
        if items := flat_pairs(fields):
            blocks += [tag("h3", title), _list(items)]
    head = tag("tr", *(tag("th", title, scope="col") for title in ("#", *titles)))
    table = _scrolling("What ran, settings and files", head, rows, "words")
    return tag("details", tag("summary", "How it was measured"), *blocks, table)


def _list(items: Iterable[tuple[str, str]]) -> Html:
    return tag("dl", *(join((tag("dt", name), tag("dd", text, dir="auto"))) for name, text in items))


def _scrolling(caption: str, head: Html, body: Iterable[Html], kind: str = "") -> Html:
    """A table that scrolls in a box of its own if it is too wide, by keyboard too."""
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body), class_=kind)
    return tag("div", table, class_="scroll", role="region", aria_label=caption, tabindex=0)


def _cell(value: str, spread: str) -> Html:
    return tag("td", tag("b", value), tag("span", spread, class_="spread") if spread else "")


def _figures(report: Report) -> list[Html]:
    if not report.results:
        return [tag("p", "Nothing was measured.", class_="lead")]
    measures = {name: report.measure(name) for name in report.shown}
    titles = list(map(heading, measures.values()))
    titles += ["rows scored", "rows failed"] if report.kind == "quality" else []
    rows = []
    for index, result in enumerate(report.results):
        cells = [_cell(*cell(result.figures.get(name), measure)) for name, measure in measures.items()]
        if report.kind == "quality":
            scored = result.figures["score"].count if "score" in result.figures else 0
            cells += [tag("td", f"{scored:,}"), tag("td", f"{result.failed:,}")]
        rows.append(tag("tr", tag("th", result_name(report, index), scope="row"), *cells))
    head = tag("tr", *(tag("th", title, scope="col") for title in ("result", *titles)))
    meaning = tag(
        "details", tag("summary", "What the columns mean"), _list((m.title, m.about) for m in measures.values())
    )
    return [tag("h2", "All figures"), _scrolling("Every figure and its interval", head, rows), meaning]


def _by_group(report: Report) -> list[Html]:
    """A table of the splits, and one of the categories, if there are any."""
    return [part for group in groups(report) for part in _group(report, group)]


def _group(report: Report, group: Group) -> list[Html]:
    head = tag(
        "tr",
        tag("th", group.kind, scope="col"),
        *(tag("th", result_name(report, index), scope="col") for index in group.results),
    )
    body = []
    for row, name in enumerate(group.names):
        cells = [_cell(*column.cells[row]) for column in group.columns]
        body.append(tag("tr", tag("th", tag("bdi", name), scope="row"), *cells))
    return [tag("h2", f"By {group.kind}"), _scrolling(f"{report.metric} of each {group.kind}", head, body)]


def _worst(report: Report) -> list[Html]:
    """The worst answers of each result, those of the first result unfolded."""
    parts: list[Html] = []
    for index, result in enumerate(report.results):
        if result.worst:
            cards = tag("div", *map(_card, result.worst), class_="cards")
            opened = {} if parts else {"open": ""}
            parts.append(tag("details", tag("summary", result_name(report, index)), cards, class_="of-model", **opened))
    return [tag("h2", "Worst answers"), *parts] if parts else []


def _card(worst: Worst) -> Html:
    picture = Html("")
    if PICTURE.fullmatch(worst.picture):
        picture = tag("img", src=worst.picture, alt=f"the picture of {worst.name}", loading="lazy")
    wanted = [tag("dd", answer, dir="auto") for answer in worst.wanted] or [tag("dd", ABSENT)]
    long = {"class_": "long", "tabindex": "0"} if len(worst.said) > LONG else {}
    return tag(
        "article",
        picture,
        tag("p", tag("bdi", worst.name), class_="about"),
        tag("h3", worst.question, dir="auto"),
        tag(
            "dl",
            tag("dt", "wanted"),
            *wanted,
            tag("dt", "said"),
            tag("dd", worst.said or "nothing", dir="auto", **long),
            tag("dt", "score"),
            tag("dd", number(worst.score, MEASURES["score"])),
        ),
        class_="card",
    )
