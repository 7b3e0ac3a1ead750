"""A report as text: a table for a terminal, CSV, Markdown and JSON Lines.

    show(report, sys.stdout)
    Path("speed.csv").write_text(csv(report))

Names and answers come from files that anybody may have made: nothing that moves a cursor leaves this file.
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

from smolcli.bench.report.model import Figure, Measure, Report, Result, heading, shown
from smolcli.terminal.console import printable
from smolcli.types import pluralize
from smolcli.writers.table import literal

NARROW = 24  # a setting's column need not be wider where room is short: names fold, numbers never do
SELF_EVIDENT = ("model", "backend", "quant")  # settings whose values need no name beside them
ABSENT = "-"
BRIEFLY = ("smolcli", "cpu", "cores", "memory", "gpus")  # of the machine; the other formats have all of it
PARTS = ("value", "low", "high", "count")  # of a figure, each a column of CSV


@dataclass(frozen=True)
class Column:
    """A column of figures: each cell is a value and its spread; `styles` are rich's, one a cell."""

    title: str
    cells: Sequence[tuple[str, str]]
    styles: tuple[str, ...] = ()


def number(value: float, measure: Measure, places: int | None = None) -> str:
    """`value` to three digits at least, trailing zeros kept, bytes as MB; `places` are those of another number.

    >>> from smolcli.bench.report.model import MEASURES
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
    """How far a figure may be off: the interval of a score, half of it for the rest; empty where it was taken once.

    >>> from smolcli.bench.report.model import MEASURES
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
    """A figure's value and its spread in words."""
    return (ABSENT, "") if figure is None else (number(figure.value, measure), spread(figure, measure))


def setting(name: str, value: object) -> str:
    """A setting in words: a number says what it is of."""
    return str(value) if name in SELF_EVIDENT else f"{name.replace('_', ' ')} {value}"


def label(report: Report, result: Result) -> str:
    """What tells `result` from the others of its report; raw, as it came."""
    return ", ".join(setting(name, result.settings[name]) for name in report.varied if name in result.settings)


def common(report: Report) -> str:
    """The settings that all results share."""
    shared = {name: value for result in report.results for name, value in result.settings.items()}
    return ", ".join(setting(name, value) for name, value in shared.items() if name not in report.varied)


def pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of a machine, a data set or the options, in words; nested names joined, what is empty left out.

    >>> pairs({"memory": 25_200_000_000, "gpu": None, "versions": {"python": "3.11.7", "torch": "2.13.0"}})
    [('memory', '25.2 GB'), ('versions', 'python 3.11.7, torch 2.13.0')]
    """
    told = {name: value for name, value in fields.items() if value not in (None, "", [], (), {})}
    return [(name.replace("_", " "), _value(name, value)) for name, value in told.items()]


def _value(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{inner} {text}" for inner, text in pairs(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(name, each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and ("memory" in name or "bytes" in name):
        return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"
    return str(value)


def columns(report: Report) -> list[Column]:
    """The figures that some result has."""
    measures = {name: report.measure(name) for name in report.shown}
    return [
        Column(heading(measure), [cell(result.figures.get(name), measure) for result in report.results])
        for name, measure in measures.items()
    ]


def categories(report: Report) -> tuple[list[str], list[Column]]:
    """The names of the categories, and a column of scores for each result that has some."""
    names = list(dict.fromkeys(name for result in report.results for name in result.categories))
    having = [result for result in report.results if result.categories]
    measure = report.measure("score")
    return names, [
        Column(label(report, result), [cell(result.categories.get(name), measure) for name in names])
        for result in having
    ]


def rows_counted(report: Report) -> list[str]:
    """Of quality: how many rows were scored and how many failed, a line for each result."""
    if report.kind != "quality":
        return []
    found = []
    for result in report.results:
        scored = result.figures["score"].count if "score" in result.figures else 0
        found.append(f"{label(report, result)}: {pluralize(scored, 'row')} scored, {result.failed:,} failed")
    return found


def below(report: Report) -> list[str]:
    """What is said under a table, one line each: notices, counts of rows, the data set, the machine."""
    own = [f"{label(report, result)}: {notice}" for result in report.results for notice in result.notices]
    data = {name: value for name, value in report.data.items() if name not in ("sha256", "lower_is_better")}
    known = [("data", data), ("machine", report.machine)]
    told = [f"{what}: {'; '.join(f'{name} {text}' for name, text in pairs(of))}" for what, of in known if of]
    return [*report.notices, *own, *rows_counted(report), *told]


def show(report: Report, stream: TextIO) -> None:
    """A report for people, as wide as the terminal.

    Where that is narrow names fold, spreads go under their numbers, and figures to a table of their own.
    """
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:  # rich would end the process where nobody reads
        _show(report, console)
    stream.write(captured.get())


def _show(report: Report, console: Console) -> None:
    as_it_is = not console.is_terminal and "COLUMNS" not in os.environ  # sentences in a file or a pipe
    if shared := common(report):
        console.print(Text(printable(shared)), soft_wrap=as_it_is)
    keys = {name.replace("_", " "): [_setting(result, name) for result in report.results] for name in report.varied}
    _print(console, keys, columns(report))
    names, scores = categories(report)
    if names:
        _print(console, {"category": names}, scores)
    for line in below(replace(report, machine={name: report.machine.get(name) for name in BRIEFLY})):
        console.print(Text(printable(line)), soft_wrap=as_it_is)


def _setting(result: Result, name: str) -> str:
    return str(result.settings.get(name, ABSENT))


def _print(console: Console, keys: Mapping[str, Sequence[str]], figures: list[Column]) -> None:
    safe = {printable(title): [printable(cell) for cell in cells] for title, cells in keys.items()}
    named = [Column("\n".join(map(printable, column.title.split(", "))), column.cells) for column in figures]
    for table in tables(safe, named, console.width):
        console.print(table)
        console.print()


def tables(keys: Mapping[str, Sequence[str]], figures: list[Column], width: int) -> list[Table]:
    """One table if it fits in `width`, else that with a line for each figure; several where neither does.

    Spreads are beside their values, or else under them. All texts are printable.
    """
    for between in (" ", "\n"):
        for rows, given in ((keys, figures), _turned(keys, figures)):
            if _needed(rows, given, between) <= width:
                return [_table(rows, given, between)]
    if len(figures) <= 1:
        return [_table(keys, figures, "\n")]
    half = (len(figures) + 1) // 2
    return [*tables(keys, figures[:half], width), *tables(keys, figures[half:], width)]


def _turned(keys: Mapping[str, Sequence[str]], figures: Sequence[Column]) -> tuple[dict[str, list[str]], list[Column]]:
    """A table with rows and columns changed."""
    heads = ["\n".join(map(_short, row)) for row in zip(*keys.values(), strict=True)]
    cells = zip(*(column.cells for column in figures), strict=True)
    turned = [Column(head, list(row)) for head, row in zip(heads, cells, strict=bool(figures))]
    return {"\n".join(keys): [column.title.replace("\n", ", ") for column in figures]}, turned


def _short(text: str) -> str:
    """One line of a head: of a long path the end."""
    return text if cell_len(text) <= NARROW else f"…{text[1 - NARROW :]}"


def _needed(keys: Mapping[str, Sequence[str]], figures: Iterable[Column], between: str) -> int:
    """Columns of a terminal."""
    needed = [min(_widest([*cells, title]), NARROW) for title, cells in keys.items()]
    needed += [_width(column, between) for column in figures]
    return sum(needed) + 2 * len(needed)


def _widest(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def _width(column: Column, between: str) -> int:
    title = max((min(cell_len(word), NARROW) for word in column.title.split()), default=0)
    return max(title, _widest(between.join(filter(None, each)) for each in column.cells))


def _table(keys: Mapping[str, Sequence[str]], figures: list[Column], between: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in keys:
        table.add_column(Text(title), overflow="fold")
    for column in figures:
        # A width of its own keeps rich from taking room from a number.
        table.add_column(Text(column.title), justify="right", overflow="fold", width=_width(column, between))
    cells = [[Text(cell) for cell in column] for column in keys.values()]
    for column in figures:
        styles = column.styles or ("",) * len(column.cells)
        texts = [between.join(filter(None, each)) for each in column.cells]
        cells.append([Text(text, style) for text, style in zip(texts, styles, strict=True)])
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    return table


def csv(report: Report) -> str:
    """A row for each result: settings, facts, notices, and four columns a figure; bytes and seconds as they are."""
    settings = dict.fromkeys(name for result in report.results for name in result.settings)
    facts = dict.fromkeys(name for result in report.results for name in result.facts)
    groups = dict.fromkeys(name for result in report.results for name in result.categories)
    header = ["kind", "created", "metric", "data", *settings, *facts, "files", "fingerprint", "failed", "notices"]
    header += [f"{name}.{part}" for name in [*report.shown, *(f"category.{name}" for name in groups)] for part in PARTS]
    lines: list[list[object]] = [list(header)]
    for result in report.results:
        line: list[object] = [report.kind, report.created, report.metric, report.data.get("path", "")]
        line += [result.settings.get(name, "") for name in settings]
        line += [result.facts.get(name, "") for name in facts]
        line += [result.files, result.fingerprint, result.failed, "; ".join(result.notices)]
        figures = [result.figures.get(name) for name in report.shown] + [result.categories.get(name) for name in groups]
        line += [getattr(figure, part, "") for figure in figures for part in PARTS]
        lines.append(line)
    text = io.StringIO()
    csv_writer(text, lineterminator="\n").writerows([printable(str(cell)) for cell in line] for line in lines)
    return text.getvalue()


def markdown(report: Report) -> str:
    """A table as GitHub reads it, one of the categories, and how it was measured."""
    keys = {name.replace("_", " "): [_setting(result, name) for result in report.results] for name in report.varied}
    parts = [_grid(keys, columns(report))]
    names, scores = categories(report)
    if names:
        parts.append(_grid({"category": names}, scores))
    lines = [*([common(report)] if common(report) else []), *below(report)]
    parts += ["\n".join(f"- {_literal(line)}" for line in lines), _fenced(report.command)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _literal(text: str) -> str:
    return literal(printable(text))


def _grid(keys: Mapping[str, Sequence[str]], figures: list[Column]) -> str:
    lines = [[_literal(title) for title in [*keys, *(column.title for column in figures)]]]
    lines.append(["---"] * len(keys) + ["---:"] * len(figures))
    texts = [list(cells) for cells in keys.values()]
    texts += [[" ".join(filter(None, each)) for each in column.cells] for column in figures]
    lines += [[_literal(text) for text in row] for row in zip(*texts, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fenced(command: str) -> str:
    if not command:
        return ""
    longest = max(map(len, re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{printable(command)}\n{fence}"


def jsonl(report: Report) -> str:
    """A line of JSON for each result, with what its report says of all of them."""
    of_all = {name: value for name, value in asdict(report).items() if name != "results"}
    lines = (json.dumps(of_all | asdict(result), ensure_ascii=False) for result in report.results)
    return "".join(f"{shown(line)}\n" for line in lines)
