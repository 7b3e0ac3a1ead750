"""bench/report/compare.py: every verdict worked by hand, and what cannot be compared."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from smolcli.bench.report.compare import Change, as_rows, compare_reports, differences, regressions, show_changes
from smolcli.bench.report.results import MEASURES, Figure, Report, Result
from smolcli.errors import UsageError
from tests.bench.report.example_results import HOSTILE, hostile, memory, quality, speed


def of(name: str, value: float, low: float | None = None, high: float | None = None) -> Report:
    """A report of one figure of five repetitions, without spread where no interval is given."""
    figure = Figure(value, value if low is None else low, value if high is None else high, 5)
    made = quality() if name == "score" else speed()
    return replace(made, results=(Result({"model": "nano", "threads": 2}, {name: figure}),))


def verdict(before: Report, after: Report, tolerance: float = 0.05) -> str:
    [change] = compare_reports(before, after, tolerance)
    return change.verdict


@pytest.mark.parametrize(
    ("name", "before", "after", "expected"),
    [
        ("decode", (100, 99, 101), (90, 89, 91), "worse"),
        ("decode", (100, 99, 101), (110, 109, 111), "better"),
        ("load", (1.0, 0.99, 1.01), (1.2, 1.19, 1.21), "worse"),
        ("load", (1.0, 0.99, 1.01), (0.8, 0.79, 0.81), "better"),
        ("engine", (1e9, 1e9, 1e9), (1.1e9, 1.1e9, 1.1e9), "worse"),
        ("decode", (100, 99, 101), (96, 95.9, 96.1), "same"),  # by less than the tolerance
        ("decode", (100, 90, 105), (90, 85, 95), "same"),  # the intervals overlap
        ("decode", (100, 97.5, 105), (90, 85, 92.5), "same"),  # twice as wide they touch at 95
        ("decode", (100, 97.6, 105), (90, 85, 92.5), "worse"),
        ("load", (1.0, 0.9, 1.1), (1.2, 1.1, 1.3), "same"),
        ("score", (0.60, 0.58, 0.62), (0.50, 0.48, 0.52), "worse"),
        ("score", (0.60, 0.58, 0.62), (0.70, 0.68, 0.72), "better"),
        ("score", (0.60, 0.55, 0.65), (0.50, 0.45, 0.56), "worse"),  # they overlap, and yet it is no chance
        ("score", (0.60, 0.50, 0.70), (0.50, 0.40, 0.60), "same"),
        ("score", (0.60, 0.54, 0.66), (0.50, 0.42, 0.58), "same"),  # by just what both halves come to: 0.06, 0.08
        ("score", (0.60, 0.55, 0.65), (0.50, 0.42, 0.58), "worse"),
        ("score", (0.10, 0.09, 0.11), (0.07, 0.06, 0.08), "same"),  # three points, though a third of the score
        ("score", (0.02, 0.01, 0.03), (0.12, 0.10, 0.14), "better"),
    ],
)
def test_a_verdict_needs_more_than_the_tolerance_and_intervals_apart(
    name: str, before: tuple[float, float, float], after: tuple[float, float, float], expected: str
) -> None:
    assert verdict(of(name, *before), of(name, *after)) == expected


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("decode", 100, 95), ("decode", 0.3, 0.285), ("load", 1.0, 1.05), ("load", 0.7, 0.735), ("score", 0.65, 0.6),
     ("score", 0.6, 0.65), ("score", 0.1, 0.05)],
)  # fmt: skip
def test_the_edge_of_the_tolerance_is_still_the_same(name: str, before: float, after: float) -> None:
    assert verdict(of(name, before), of(name, after)) == "same"
    assert verdict(of(name, before), of(name, after), 0.049) != "same"


def test_without_a_tolerance_only_intervals_decide() -> None:
    assert verdict(of("decode", 100), of("decode", 99.99), 0) == "worse"
    assert verdict(of("decode", 100), of("decode", 100), 0) == "same"


def test_nothing_is_divided_by_zero() -> None:
    [change] = compare_reports(of("gpu", 0), of("gpu", 5e8), 0.05)
    assert (change.ratio, change.verdict) == (None, "worse")
    [change] = compare_reports(of("gpu", 5e8), of("gpu", 0), 0.05)
    assert (change.ratio, change.verdict) == (0.0, "better")
    assert verdict(of("gpu", 0), of("gpu", 0)) == "same"
    assert verdict(of("score", 0), of("score", 0.5)) == "better"


def test_an_error_rate_is_worse_where_it_is_higher() -> None:
    before, after = (replace(of("score", value), data={"lower_is_better": True}) for value in (0.2, 0.4))
    assert verdict(before, after) == "worse"


def test_measure_without_a_direction_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, "load", replace(MEASURES["load"], higher_is_better=None))
    assert verdict(of("load", 1), of("load", 2)) == "not judged"


def test_single_measurement_is_judged_for_memory_and_scores_only() -> None:
    def once(made: Report) -> Report:
        [result] = made.results
        figures = {name: replace(figure, count=1) for name, figure in result.figures.items()}
        return replace(made, results=(replace(result, figures=figures),))

    assert verdict(once(of("images", 10)), of("images", 1)) == "not judged"
    assert verdict(of("load", 1), once(of("load", 9))) == "not judged"
    assert verdict(once(of("engine", 1e9)), once(of("engine", 2e9))) == "worse"


def test_a_disturbed_time_is_not_judged_and_the_disturbance_is_told() -> None:
    """A notice as bench speed writes it: memory is judged, times and rates of either report are not."""
    notice = "figures are unsure: other programs took 51% of the CPU; run again when it is quiet"

    def disturbed(made: Report) -> Report:
        return replace(made, results=tuple(replace(result, notices=(notice,)) for result in made.results))

    assert verdict(of("decode", 100), disturbed(of("decode", 50))) == "not judged"
    assert verdict(disturbed(of("load", 1)), of("load", 9)) == "not judged"
    assert verdict(of("engine", 1e9), disturbed(of("engine", 2e9))) == "worse"
    assert verdict(disturbed(of("decode", 100)), of("decode", 100)) == "same"
    assert differences(of("load", 1), disturbed(of("load", 9))) == [f"after: nano, threads 2: {notice}"]


def test_missing_result_is_a_regression() -> None:
    before = speed()
    assert regressions(compare_reports(before, before, 0.05)) == []
    assert len(regressions(compare_reports(before, replace(before, results=before.results[1:]), 0.05))) == 1
    failed = replace(before.results[0], figures={})
    assert len(regressions(compare_reports(before, replace(before, results=(failed, *before.results[1:])), 0.05))) == 1
    assert len(regressions(compare_reports(of("decode", 100), of("decode", 50), 0.05))) == 1
    assert regressions(compare_reports(of("decode", 50), of("decode", 100), 0.05)) == []


def test_results_are_matched_by_all_their_settings_in_any_order() -> None:
    before = speed()
    slower = replace(before.results[1], figures={"decode": Figure(47.1, 47, 47.2, 5)})
    slower = replace(slower, settings=dict(reversed(list(slower.settings.items()))))
    added = replace(before.results[0], settings={**before.results[0].settings, "threads": 4})
    changes = compare_reports(before, replace(before, results=(added, slower)), 0.05)
    verdicts = [(change.settings, change.figure, change.verdict) for change in changes]
    first, second = "256m, llamacpp, q8_0, threads 2", "256m, llamacpp, f16, threads 2"
    assert verdicts[:4] == [(first, name, "only in before") for name in ("load", "tile", "decode", "images")]
    assert (second, "decode", "worse") in verdicts and (second, "load", "only in before") in verdicts
    assert verdicts[-4:] == [
        ("256m, llamacpp, q8_0, threads 4", name, "only in after") for name in ("load", "tile", "decode", "images")
    ]
    [change] = [change for change in changes if change.verdict == "worse"]
    assert change.ratio == pytest.approx(0.5)
    assert len(verdicts) == len(set(verdicts)) == 3 * 4 + 4


def test_a_report_is_the_same_as_itself() -> None:
    for made in (speed, memory, quality, hostile):
        changes = compare_reports(made(), made(), 0.0)
        assert {change.verdict for change in changes} <= {"same", "not judged"}
        assert "same" in {change.verdict for change in changes}
        assert differences(made(), made()) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (speed(), memory()),
        (quality(), replace(quality(), metric="WER")),
        (quality(), replace(quality(), data={"sha256": "ab" * 32})),
        (speed(), of("decode", float("nan"))),
        (of("decode", 1, float("nan"), 2), speed()),
        (of("decode", 1, 1, float("inf")), speed()),
        (speed(), replace(speed(), results=speed().results[:1] * 2)),
    ],
)
def test_different_benchmarks_are_refused(before: Report, after: Report) -> None:
    with pytest.raises(UsageError):
        compare_reports(before, after, 0.05)


@pytest.mark.parametrize("tolerance", [float("nan"), float("inf"), -0.1])
def test_a_tolerance_is_a_number(tolerance: float) -> None:
    with pytest.raises(UsageError):
        compare_reports(speed(), speed(), tolerance)


def test_unknown_data_set_is_not_a_different_one() -> None:
    unknown = replace(quality(), data={**quality().data, "sha256": ""})
    assert {change.verdict for change in compare_reports(quality(), unknown, 0.05)} <= {"same", "not judged"}
    assert differences(quality(), unknown) == [f"data: sha256 was {'0f' * 32}, is unknown"]


def test_other_differences_are_listed() -> None:
    before = speed()
    machine = {**before.machine, "cores": 4, "libraries": {"torch": "2.14.0", "numpy": "2.2"}}
    results = (replace(before.results[0], facts={"tiles": 9, "prompt_tokens": 81}, fingerprint="new", failed=3),)
    after = replace(
        before,
        machine=machine,
        options={"repeat": 5, "records": "x.jsonl", "retry_failed": True, "worst": 3},
        results=results,
    )
    name = "256m, llamacpp, q8_0, threads 2"
    assert differences(before, after) == [
        "machine: cores was 2, is 4",
        "machine: torch was 2.13.0, is 2.14.0",
        f"{name}: tiles was 1, is 9",
        f"{name}: failed rows was 0, is 3",
        f"{name}: files was abc1, is new",
    ]


def printed(changes: list[Change], notices: list[str], monkeypatch: pytest.MonkeyPatch, stream: Any = None) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = stream or io.StringIO()
    show_changes(changes, notices, stream)
    return str(stream.getvalue())


def test_changes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of("decode", 100, 99, 101)
    text = printed(compare_reports(before, of("decode", 90, 89, 91), 0.05), ["It was busy."], monkeypatch)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:2] == ["nano, threads 2", "figure before after ratio verdict"]
    assert lines[2] == "decode, tokens/s 100 ±1 90.0 ±1.0 0.90 worse"
    assert lines[-2:] == ["1 worse", "It was busy."]
    assert printed([], [], monkeypatch) == "nothing to compare\n"


def test_hostile_names_are_shown_as_text_and_only_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hostile()
    changes = compare_reports(before, replace(before, results=before.results[1:]), 0.05)
    text = printed(changes, list(HOSTILE), monkeypatch)
    assert {char for char in text if not char.isprintable()} == {"\n"}
    assert "<script>alert(1)</script>" in text

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    worse = compare_reports(of("decode", 100), of("decode", 50), 0.05)
    assert "\x1b[1;31m" in printed(worse, [], monkeypatch, Terminal())
    assert "\x1b" not in printed(worse, [], monkeypatch)


def test_rows_are_json() -> None:
    rows = json.loads(
        json.dumps(as_rows(compare_reports(of("decode", 0), of("decode", 90, 89, 91), 0.05)), allow_nan=False)
    )
    assert rows == [
        {
            "settings": "nano, threads 2", "figure": "decode", "title": "decode", "unit": "tokens/s",
            "before": {"value": 0, "low": 0, "high": 0, "count": 5},
            "after": {"value": 90, "low": 89, "high": 91, "count": 5},
            "ratio": None, "verdict": "better",
        }
    ]  # fmt: skip
