"""Compares two reports: which figures became better or worse, and which changed no more than by chance.

    changes = compare_reports(before, after, tolerance=0.05)
    worse = [change for change in changes if change.verdict == "worse"]

A repeated benchmark never gives the same numbers; figures that moved within their intervals count as the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.text import Text

from smolcli.bench.report.results import Figure, Measure, Report, Result, heading
from smolcli.bench.report.text import Column, cell, fit_tables, flat_pairs, setting_text
from smolcli.errors import UsageError
from smolcli.terminal.console import printable

Verdict = Literal["better", "worse", "same", "not judged", "only in before", "only in after"]
Settings = frozenset[tuple[str, str | int]]
STYLES = {"better": "green", "worse": "bold red"}  # of verdicts on a terminal
# The repetitions of one run differ less than two runs do; intervals are made wider by this factor before they are
# compared.
WIDENED = 2.0
IGNORED_OPTIONS = ("records", "resume", "retry_failed", "worst")  # they change no figure


@dataclass(frozen=True)
class Change:
    """One figure of one combination of settings; `ratio` is after / before, None if that does not exist."""

    settings: str
    figure: str
    measure: Measure
    before: Figure | None
    after: Figure | None
    ratio: float | None
    verdict: Verdict


def compare_reports(before: Report, after: Report, tolerance: float) -> list[Change]:
    """Every figure of both reports, matched by all settings, in the order of `before`.

    A figure is better or worse if its value moved by more than `tolerance` and by more than chance. By chance, times,
    rates and memory have intervals that overlap when each is WIDENED around its value; scores differ by at most the
    root of the sum of the squares of half their 95 % intervals (two independent samples). A time or rate that was
    measured once, or of which a notice says that the measurement was disturbed, is not judged. The tolerance
    is a fraction of the value before, for scores the difference itself: 0.05 is five points of a hundred. Raises
    UsageError if the reports do not measure the same, or have figures that are not numbers.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"a tolerance of {tolerance} cannot be", "choose 0 or more, such as 0.05")
    _check_comparable(before, after)
    old, new = _by_settings(before), _by_settings(after)
    changes = []
    for settings in [*old, *(key for key in new if key not in old)]:
        first, second = old.get(settings), new.get(settings)
        measured = [name for result in (first, second) if result is not None for name in result.figures]
        words = _settings_text(first or new[settings])
        for name in [name for name in dict.fromkeys([*before.shown, *after.shown]) if name in measured]:
            figures = (first.figures.get(name) if first else None, second.figures.get(name) if second else None)
            change = _change(words, name, before.measure(name), *figures, tolerance)
            is_unsure = any(result is not None and result.unsure for result in (first, second))
            if is_unsure and change.measure.is_timed and change.verdict in ("better", "worse"):
                change = replace(change, verdict="not judged")
            changes.append(change)
    return changes


def _change(
    settings: str, name: str, measure: Measure, before: Figure | None, after: Figure | None, tolerance: float
) -> Change:
    if before is None or after is None:
        return Change(
            settings, name, measure, before, after, None, "only in after" if before is None else "only in before"
        )
    ratio = after.value / before.value if before.value else None
    return Change(settings, name, measure, before, after, ratio, _verdict(measure, before, after, tolerance))


def _verdict(measure: Measure, before: Figure, after: Figure, tolerance: float) -> Verdict:
    is_single = min(before.count, after.count) == 1 and measure.is_timed
    if measure.higher_is_better is None or is_single:
        return "not judged"
    moved = after.value - before.value
    allowed = tolerance if measure.unit == "" else tolerance * abs(before.value)
    # A move by the tolerance itself is allowed, although 0.65 - 0.6 is a little more than 0.05.
    if abs(moved) <= allowed or math.isclose(abs(moved), allowed, rel_tol=1e-9):
        return "same"
    if measure.unit == "":
        is_chance = abs(moved) <= math.hypot(before.high - before.low, after.high - after.low) / 2
    else:
        (low, high), (other_low, other_high) = _widened(before), _widened(after)
        is_chance = low <= other_high and other_low <= high
    if is_chance:
        return "same"
    return "better" if (moved > 0) == measure.higher_is_better else "worse"


def _widened(figure: Figure) -> tuple[float, float]:
    """The interval of the figure, WIDENED times as far from its value."""
    return (
        figure.value - WIDENED * (figure.value - figure.low),
        figure.value + WIDENED * (figure.high - figure.value),
    )


def regressions(changes: Iterable[Change]) -> list[str]:
    """What became worse, in words: figures, and combinations of settings that are no longer measured."""
    changes = list(changes)
    measured = {change.settings for change in changes if change.after is not None}
    gone = dict.fromkeys(change.settings for change in changes if change.settings not in measured)
    worse = [f"{change.settings}: {change.measure.title}" for change in changes if change.verdict == "worse"]
    return [*worse, *(f"{settings}: all of it" for settings in gone)]


def _check_comparable(before: Report, after: Report) -> None:
    """Raises UsageError if the reports differ in kind, metric or data set."""
    for part, old, new in (
        ("kind", before.kind, after.kind),
        ("metric", before.metric, after.metric),
        ("data set", before.data.get("sha256") or None, after.data.get("sha256") or None),
    ):
        if old != new and (part != "data set" or None not in (old, new)):
            raise UsageError(f"the reports differ in their {part}: {old} and {new}", "compare reports of one benchmark")


def _by_settings(report: Report) -> dict[Settings, Result]:
    """The results by their settings. Raises UsageError for repeated settings and figures that are not numbers."""
    results: dict[Settings, Result] = {}
    for result in report.results:
        for name, figure in result.figures.items():
            if not all(map(math.isfinite, (figure.value, figure.low, figure.high))):
                raise UsageError(f"{_settings_text(result)}: {name} is not a number", "measure it again")
        key = frozenset(result.settings.items())
        if key in results:
            raise UsageError(
                f"a report has {_settings_text(result)} twice", "compare reports as smolcli bench wrote them"
            )
        results[key] = result
    return results


def _settings_text(result: Result) -> str:
    return ", ".join(setting_text(name, value) for name, value in result.settings.items())


def differences(before: Report, after: Report) -> list[str]:
    """What may explain changes: disturbances, machine, libraries, options, data, files and failed rows."""
    lines = [
        f"{name}: {_settings_text(result)}: {notice}"
        for name, report in (("before", before), ("after", after))
        for result in report.results
        for notice in result.unsure
    ]
    for part, old, new in (
        ("machine", before.machine, after.machine),
        ("options", before.options, after.options),
        ("data", before.data, after.data),
    ):
        lines += [f"{part}: {line}" for line in _differing(_flatten(old), _flatten(new))]
    old_results, new_results = _by_settings(before), _by_settings(after)
    for settings in [key for key in old_results if key in new_results]:
        old_result, new_result = old_results[settings], new_results[settings]
        differing = _differing(_other_fields(old_result), _other_fields(new_result))
        lines += [f"{_settings_text(old_result)}: {line}" for line in differing]
    return lines


def _other_fields(result: Result) -> dict[str, str]:
    """Fields of a result that are neither settings nor figures; the fingerprint stands for the size of the files."""
    counts = {name.replace("_", " "): str(count) for name, count in result.facts.items()}
    return counts | {"failed rows": str(result.failed), "files": result.fingerprint}


def _flatten(fields: Mapping[str, Any]) -> dict[str, str]:
    """The fields as text, those of nested mappings among the others."""
    nested = {name: value for name, value in fields.items() if isinstance(value, Mapping)}
    rest = {name: value for name, value in fields.items() if name not in nested and name not in IGNORED_OPTIONS}
    return dict(flat_pairs(rest)) | {name: text for inner in nested.values() for name, text in _flatten(inner).items()}


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return [f"{name} was {old.get(name, 'unknown')}, is {new.get(name, 'unknown')}" for name in names]


def show_changes(changes: Sequence[Change], notices: Iterable[str], stream: TextIO) -> None:
    """Write a table for each combination of settings, the counts of the verdicts, and the notices."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:  # printing to a closed pipe, rich would end the process
        for settings, group in groupby(changes, key=lambda change: change.settings):
            console.print(Text(printable(settings), style="bold"))
            _print(console, list(group))
        counts = Counter(change.verdict for change in changes)
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "nothing to compare"
        for line in (summary, *notices):
            console.print(Text(printable(line)))
    stream.write(captured.get())


def _print(console: Console, changes: list[Change]) -> None:
    verdicts = [(change.verdict, "") for change in changes]
    columns = [
        Column("before", [cell(change.before, change.measure) for change in changes]),
        Column("after", [cell(change.after, change.measure) for change in changes]),
        Column("ratio", [("-" if change.ratio is None else f"{change.ratio:.2f}", "") for change in changes]),
        Column("verdict", verdicts, tuple(STYLES.get(verdict, "") for verdict, _ in verdicts)),
    ]
    for table in fit_tables(
        {"figure": [printable(heading(change.measure)) for change in changes]}, columns, console.width
    ):
        console.print(table)
        console.print()


def as_rows(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """The changes as JSON objects."""
    return [
        {
            "settings": change.settings,
            "figure": change.figure,
            "title": change.measure.title,
            "unit": change.measure.unit,
            "before": None if change.before is None else asdict(change.before),
            "after": None if change.after is None else asdict(change.after),
            "ratio": change.ratio,
            "verdict": change.verdict,
        }
        for change in changes
    ]
