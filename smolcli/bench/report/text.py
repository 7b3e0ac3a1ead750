"""Writes a report as text: a table for a terminal, CSV, Markdown and JSON Lines.

    show(report, sys.stdout)
    Path("speed.csv").write_text(csv(report))

Names and answers come from untrusted files, so no text of theirs is written with control characters.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from csv import writer as csv_writer
from dataclasses import asdict, dataclass, replace
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smolcli.bench.report.results import Figure, Measure, Report, Result, escape_controls, heading
from smolcli.terminal.console import printable
from smolcli.types import pluralize
from smolcli.writers.table import escape_markdown

NARROW = 24  # columns; where the terminal is narrow, names fold at this width, numbers never fold
UNNAMED = ("model", "backend", "quant")  # settings whose values are shown without their name
ABSENT = "-"
MACHINE_BRIEF = (
    "smolcli",
    "cpu",
    "cores",
    "memory",
    "gpus",
)  # what the table shows of the machine; other formats show all
PARTS = ("value", "low", "high", "count")  # of a figure, each a column of CSV


@dataclass(frozen=True)
class Column:
    """A column of figures: each cell is a value and its spread; `styles` are styles of rich, one for each cell."""

    title: str
    cells: Sequence[tuple[str, str]]
    styles: tuple[str, ...] = ()


def number(value: float, measure: Measure, places: int | None = None) -> str:
    """`value` with at least three significant digits, bytes in MB; `places` overrides the decimal places.

    >>> from smolcli.bench.report.results import MEASURES
    >>> number(5, MEASURES["load"]), number(1234.5, MEASURES["decode"]), number(512e6, MEASURES["engine"])
    ('5.00', '1,234', '512')
    """
    if not math.isfinite(value):
        return str(value)
    scaled = value / 1e6 if measure.unit == "bytes" else value
    return f"{scaled:,.{_places(value, measure) if places is None else places}f}"


def _places(value: float, measure: Measure) -> int:
    if measure.unit in ("bytes", "") or not math.isfinite(value):
        return 0 if measure.unit == "bytes" else 3
    return 2 if value == 0 else min(max(2 - math.floor(math.log10(abs(value))), 0), 6)


def spread(figure: Figure, measure: Measure) -> str:
    """The interval of a score, or half the interval of another figure; "" if it was measured once.

    >>> from smolcli.bench.report.results import MEASURES
    >>> spread(Figure(47.1, 46.8, 47.6, 5), MEASURES["decode"])
    '±0.4'
    >>> spread(Figure(0.583, 0.55, 0.614, 90), MEASURES["score"])
    '[0.550, 0.614]'
    """
    if figure.count <= 1 and figure.low >= figure.high:
        return ""
    if measure.unit == "":
        return f"[{number(figure.low, measure)}, {number(figure.high, measure)}]"
    return f"±{number((figure.high - figure.low) / 2, measure, _places(figure.value, measure))}"


def cell(figure: Figure | None, measure: Measure) -> tuple[str, str]:
    """A figure's value and its spread as text."""
    return (ABSENT, "") if figure is None else (number(figure.value, measure), spread(figure, measure))


def setting_text(name: str, value: object) -> str:
    """A setting as text: its name and value, or the value alone for names in UNNAMED."""
    return str(value) if name in UNNAMED else f"{name.replace('_', ' ')} {value}"


def label(report: Report, result: Result) -> str:
    """The settings in which `result` differs from others of its report. It may have control characters."""
    return ", ".join(setting_text(name, result.settings[name]) for name in report.varied if name in result.settings)


def common_settings(report: Report) -> str:
    """The settings that are the same in all results, as text."""
    shared = {name: value for result in report.results for name, value in result.settings.items()}
    return ", ".join(setting_text(name, value) for name, value in shared.items() if name not in report.varied)


def flat_pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The names and values of a machine, a data set or options as text; nested ones joined, empty ones left out.

    >>> flat_pairs({"memory": 25_200_000_000, "gpu": None, "versions": {"python": "3.11.7", "torch": "2.13.0"}})
    [('memory', '25.2 GB'), ('versions', 'python 3.11.7, torch 2.13.0')]
    """
    filled = {name: value for name, value in fields.items() if value not in (None, "", [], (), {})}
    return [(name.replace("_", " "), _value(name, value)) for name, value in filled.items()]


def _value(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{inner} {text}" for inner, text in flat_pairs(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(name, item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and ("memory" in name or "bytes" in name):
        return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"
    return str(value)


def columns(report: Report) -> list[Column]:
    """A column for each figure that at least one result has."""
    measures = {name: report.measure(name) for name in report.shown}
    return [
        Column(heading(measure), [cell(result.figures.get(name), measure) for result in report.results])
        for name, measure in measures.items()
    ]


@dataclass(frozen=True)
class Group:
    """The scores of parts of the rows, which are called `kind`: a row for each name, a column for some results."""

    kind: str
    names: list[str]
    results: list[int]  # the results that have such parts, by their index
    columns: list[Column]


def groups(report: Report) -> list[Group]:
    """The splits and the categories of a quality report, those of them that it has."""
    made, measure = [], report.measure("score")
    for kind in dict.fromkeys(kind for result in report.results for kind in result.groups):
        scores = {number: result.groups[kind] for number, result in enumerate(report.results) if result.groups[kind]}
        names = list(dict.fromkeys(name for figures in scores.values() for name in figures))
        columns = [
            Column(label(report, report.results[number]), [cell(figures.get(name), measure) for name in names])
            for number, figures in scores.items()
        ]
        made += [Group(kind, names, list(scores), columns)] if names else []
    return made


def rows_counted(report: Report) -> list[str]:
    """How many rows were scored and how many failed, a line for each result; empty unless it is a quality report."""
    if report.kind != "quality":
        return []
    lines = []
    for result in report.results:
        scored = result.figures["score"].count if "score" in result.figures else 0
        lines.append(f"{label(report, result)}: {pluralize(scored, 'row')} scored, {result.failed:,} failed")
    return lines


def footer_lines(report: Report) -> list[str]:
    """The lines below a table: notices, counts of rows, the data set, the machine."""
    notices = [f"{label(report, result)}: {notice}" for result in report.results for notice in result.notices]
    data = {name: value for name, value in report.data.items() if name not in ("sha256", "lower_is_better")}
    groups = [("data", data), ("machine", report.machine)]
    facts = [
        f"{title}: {'; '.join(f'{name} {text}' for name, text in flat_pairs(fields))}"
        for title, fields in groups
        if fields
    ]
    return [*report.notices, *notices, *rows_counted(report), *facts]


def show(report: Report, stream: TextIO) -> None:
    """Write a report for people, as wide as the terminal.

    In a narrow terminal names fold, spreads go below their values, and figures are split into several tables.
    """
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:  # printing to a closed pipe, rich would end the process
        _show(report, console)
    stream.write(captured.get())


def _show(report: Report, console: Console) -> None:
    is_unwrapped = not console.is_terminal and "COLUMNS" not in os.environ  # in a file or a pipe lines are not wrapped
    if shared := common_settings(report):
        console.print(Text(printable(shared)), soft_wrap=is_unwrapped)
    keys = {name.replace("_", " "): [_setting(result, name) for result in report.results] for name in report.varied}
    _print(console, keys, columns(report))
    for group in groups(report):
        _print(console, {group.kind: group.names}, group.columns)
    for line in footer_lines(replace(report, machine={name: report.machine.get(name) for name in MACHINE_BRIEF})):
        console.print(Text(printable(line)), soft_wrap=is_unwrapped)


def _setting(result: Result, name: str) -> str:
    return str(result.settings.get(name, ABSENT))


def _print(console: Console, keys: Mapping[str, Sequence[str]], figures: list[Column]) -> None:
    safe = {printable(title): [printable(cell) for cell in cells] for title, cells in keys.items()}
    named = [Column("\n".join(map(printable, column.title.split(", "))), column.cells) for column in figures]
    for table in fit_tables(safe, named, console.width):
        console.print(table)
        console.print()


def fit_tables(keys: Mapping[str, Sequence[str]], figures: list[Column], width: int) -> list[Table]:
    """A table that fits `width` columns: a row for each result, or else a row for each figure, or else several tables.

    Spreads are beside their values if that fits, otherwise below them. All texts must be printable.
    """
    for between in (" ", "\n"):
        for rows, columns in ((keys, figures), _transposed(keys, figures)):
            if _total_width(rows, columns, between) <= width:
                return [_table(rows, columns, between)]
    if len(figures) <= 1:
        return [_table(keys, figures, "\n")]
    half = (len(figures) + 1) // 2
    return [*fit_tables(keys, figures[:half], width), *fit_tables(keys, figures[half:], width)]


def _transposed(
    keys: Mapping[str, Sequence[str]], figures: Sequence[Column]
) -> tuple[dict[str, list[str]], list[Column]]:
    """The keys and columns of the transposed table."""
    heads = ["\n".join(map(_shorten, row)) for row in zip(*keys.values(), strict=True)]
    cells = zip(*(column.cells for column in figures), strict=True)
    columns = [Column(head, list(row)) for head, row in zip(heads, cells, strict=bool(figures))]
    return {"\n".join(keys): [column.title.replace("\n", ", ") for column in figures]}, columns


def _shorten(text: str) -> str:
    """A line of a heading; of a long one, such as a path, its end."""
    return text if cell_len(text) <= NARROW else f"…{text[1 - NARROW :]}"


def _total_width(keys: Mapping[str, Sequence[str]], figures: Iterable[Column], between: str) -> int:
    """The width of the table in columns of a terminal."""
    widths = [min(_widest([*cells, title]), NARROW) for title, cells in keys.items()]
    widths += [_width(column, between) for column in figures]
    return sum(widths) + 2 * len(widths)


def _widest(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def _width(column: Column, between: str) -> int:
    title = max((min(cell_len(word), NARROW) for word in column.title.split()), default=0)
    return max(title, _widest(between.join(filter(None, cell)) for cell in column.cells))


def _table(keys: Mapping[str, Sequence[str]], figures: list[Column], between: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in keys:
        table.add_column(Text(title), overflow="fold")
    for column in figures:
        # With a fixed width rich does not shrink the column of a number.
        table.add_column(Text(column.title), justify="right", overflow="fold", width=_width(column, between))
    cells = [[Text(cell) for cell in column] for column in keys.values()]
    for column in figures:
        styles = column.styles or ("",) * len(column.cells)
        texts = [between.join(filter(None, cell)) for cell in column.cells]
        cells.append([Text(text, style) for text, style in zip(texts, styles, strict=True)])
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    return table


def csv(report: Report) -> str:
    """A row for each result: settings, facts, notices, and four columns for each figure, in bytes and seconds."""
    settings = dict.fromkeys(name for result in report.results for name in result.settings)
    facts = dict.fromkeys(name for result in report.results for name in result.facts)
    parts = dict.fromkeys(
        (kind, name) for result in report.results for kind, scores in result.groups.items() for name in scores
    )
    header = ["kind", "created", "metric", "data", *settings, *facts, "files", "fingerprint", "failed", "notices"]
    titles = [*report.shown, *(f"{kind}.{name}" for kind, name in parts)]
    header += [f"{title}.{part}" for title in titles for part in PARTS]
    lines: list[list[object]] = [list(header)]
    for result in report.results:
        line: list[object] = [report.kind, report.created, report.metric, report.data.get("path", "")]
        line += [result.settings.get(name, "") for name in settings]
        line += [result.facts.get(name, "") for name in facts]
        line += [result.files, result.fingerprint, result.failed, "; ".join(result.notices)]
        figures = [result.figures.get(name) for name in report.shown]
        figures += [result.groups[kind].get(name) for kind, name in parts]
        line += [getattr(figure, part, "") for figure in figures for part in PARTS]
        lines.append(line)
    text = io.StringIO()
    csv_writer(text, lineterminator="\n").writerows([printable(str(cell)) for cell in line] for line in lines)
    return text.getvalue()


def markdown(report: Report) -> str:
    """A table in GitHub's Markdown, one of the splits, one of the categories, and how it was measured."""
    keys = {name.replace("_", " "): [_setting(result, name) for result in report.results] for name in report.varied}
    parts = [_grid(keys, columns(report))]
    parts += [_grid({group.kind: group.names}, group.columns) for group in groups(report)]
    lines = [*([common_settings(report)] if common_settings(report) else []), *footer_lines(report)]
    parts += ["\n".join(f"- {_literal(line)}" for line in lines), _fenced(report.command)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _literal(text: str) -> str:
    return escape_markdown(printable(text))


def _grid(keys: Mapping[str, Sequence[str]], figures: list[Column]) -> str:
    lines = [[_literal(title) for title in [*keys, *(column.title for column in figures)]]]
    lines.append(["---"] * len(keys) + ["---:"] * len(figures))
    texts = [list(cells) for cells in keys.values()]
    texts += [[" ".join(filter(None, cell)) for cell in column.cells] for column in figures]
    lines += [[_literal(text) for text in row] for row in zip(*texts, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fenced(command: str) -> str:
    if not command:
        return ""
    longest = max(map(len, re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{printable(command)}\n{fence}"


def jsonl(report: Report) -> str:
    """A line of JSON for each result, with the fields of the report in each."""
    shared = {name: value for name, value in asdict(report).items() if name != "results"}
    lines = (json.dumps(shared | asdict(result), ensure_ascii=False) for result in report.results)
    return "".join(f"{escape_controls(line)}\n" for line in lines)
