"""Two reports side by side: what became better, what worse, and what is only noise.

    changes = compare(before, after, tolerance=0.05)
    worse = [change for change in changes if change.verdict == "worse"]

A benchmark repeated on a busy machine never gives the same numbers: what moved within its spread is called the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.text import Text

from smolcli.bench.report.model import Figure, Measure, Report, Result, heading
from smolcli.bench.report.text import Column, cell, pairs, setting, tables
from smolcli.errors import UsageError
from smolcli.terminal.console import printable

Verdict = Literal["better", "worse", "same", "not judged", "only in before", "only in after"]
Settings = frozenset[tuple[str, str | int]]
STYLES = {"better": "green", "worse": "bold red"}  # of verdicts, on a terminal; the word is there without them
WHERE_IT_GOES = ("records", "resume")  # options that change no figure


@dataclass(frozen=True)
class Change:
    """One figure of one combination of settings, before and after; `ratio` is after / before, None where it is none."""

    settings: str
    figure: str
    measure: Measure
    before: Figure | None
    after: Figure | None
    ratio: float | None
    verdict: Verdict


def compare(before: Report, after: Report, tolerance: float) -> list[Change]:
    """Every figure of both reports, matched by all settings, in the order of `before`.

    A figure is better or worse where its value moved by more than `tolerance` and by more than chance: of times, rates
    and memory the two intervals do not touch, of scores the difference is more than the root of the sum of the squares
    of half their 95 % intervals (that of two independent samples). A time or rate that was taken once is not judged.
    The tolerance is a share of the value before, of scores the difference itself: 0.05 is five points of a hundred.
    Raises UsageError for reports that do not measure the same, and for figures that are no
    numbers.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"a tolerance of {tolerance} cannot be", "choose 0 or more, such as 0.05")
    _same_thing(before, after)
    old, new = _by_settings(before), _by_settings(after)
    changes = []
    for settings in [*old, *(key for key in new if key not in old)]:
        first, second = old.get(settings), new.get(settings)
        held = [result.figures for result in (first, second) if result is not None]
        words = _in_words(first or new[settings])
        for name in [name for name in dict.fromkeys([*before.shown, *after.shown]) if any(name in one for one in held)]:
            figures = (first.figures.get(name) if first else None, second.figures.get(name) if second else None)
            changes.append(_change(words, name, before.measure(name), *figures, tolerance))
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
    once = min(before.count, after.count) == 1 and measure.unit not in ("", "bytes")
    if measure.higher_is_better is None or once:
        return "not judged"
    moved = after.value - before.value
    allowed = tolerance if measure.unit == "" else tolerance * abs(before.value)
    # 0.65 - 0.6 is a little more than 0.05: the edge itself is still allowed.
    if abs(moved) <= allowed or math.isclose(abs(moved), allowed, rel_tol=1e-9):
        return "same"
    if measure.unit == "":
        by_chance = abs(moved) <= math.hypot(before.high - before.low, after.high - after.low) / 2
    else:
        by_chance = before.low <= after.high and after.low <= before.high
    if by_chance:
        return "same"
    return "better" if (moved > 0) == measure.higher_is_better else "worse"


def regressions(changes: Iterable[Change]) -> list[str]:
    """What became worse, in words: figures, and combinations of settings of which nothing is measured any more."""
    held = list(changes)
    measured = {change.settings for change in held if change.after is not None}
    gone = dict.fromkeys(change.settings for change in held if change.settings not in measured)
    worse = [f"{change.settings}: {change.measure.title}" for change in held if change.verdict == "worse"]
    return [*worse, *(f"{settings}: all of it" for settings in gone)]


def _same_thing(before: Report, after: Report) -> None:
    for what, old, new in (
        ("kind", before.kind, after.kind),
        ("metric", before.metric, after.metric),
        ("data set", before.data.get("sha256") or None, after.data.get("sha256") or None),
    ):
        if old != new and (what != "data set" or None not in (old, new)):
            raise UsageError(f"the reports differ in their {what}: {old} and {new}", "compare reports of one benchmark")


def _by_settings(report: Report) -> dict[Settings, Result]:
    found: dict[Settings, Result] = {}
    for result in report.results:
        for name, figure in result.figures.items():
            if not all(map(math.isfinite, (figure.value, figure.low, figure.high))):
                raise UsageError(f"{_in_words(result)}: {name} is no number", "measure it again")
        key = frozenset(result.settings.items())
        if key in found:
            raise UsageError(f"a report has {_in_words(result)} twice", "compare reports as smolcli bench wrote them")
        found[key] = result
    return found


def _in_words(result: Result) -> str:
    return ", ".join(setting(name, value) for name, value in result.settings.items())


def differences(before: Report, after: Report) -> list[str]:
    """What else differs, and may be why figures do: the machine, libraries, options, data, files and failed rows."""
    found = []
    for what, old, new in (
        ("machine", before.machine, after.machine),
        ("options", before.options, after.options),
        ("data", before.data, after.data),
    ):
        found += [f"{what}: {line}" for line in _unlike(_flat(old), _flat(new))]
    former, latter = _by_settings(before), _by_settings(after)
    for settings in [key for key in former if key in latter]:
        told = [_told(one[settings]) for one in (former, latter)]
        found += [f"{_in_words(former[settings])}: {line}" for line in _unlike(*told)]
    return found


def _told(result: Result) -> dict[str, str]:
    """What else is known of a result; not the size of its files, which are others where the fingerprint is."""
    counts = {name.replace("_", " "): str(count) for name, count in result.facts.items()}
    return counts | {"failed rows": str(result.failed), "files": result.fingerprint}


def _flat(fields: Mapping[str, Any]) -> dict[str, str]:
    nested = {name: value for name, value in fields.items() if isinstance(value, Mapping)}
    rest = {name: value for name, value in fields.items() if name not in nested and name not in WHERE_IT_GOES}
    return dict(pairs(rest)) | {name: text for inner in nested.values() for name, text in _flat(inner).items()}


def _unlike(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return [f"{name} was {old.get(name, 'not told')}, is {new.get(name, 'not told')}" for name in names]


def show_changes(changes: Sequence[Change], notices: Iterable[str], stream: TextIO) -> None:
    """A table for each combination of settings, counts of the verdicts, and the notices."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:  # rich would end the process where nobody reads
        for settings, group in groupby(changes, key=lambda change: change.settings):
            console.print(Text(printable(settings), style="bold"))
            _print(console, list(group))
        counts = Counter(change.verdict for change in changes)
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "nothing to compare"
        for line in (said, *notices):
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
    for table in tables({"figure": [printable(heading(change.measure)) for change in changes]}, columns, console.width):
        console.print(table)
        console.print()


def as_rows(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """The changes as JSON takes them."""
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
