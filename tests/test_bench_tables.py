"""bench/tables.py: read back by csv, json and a Markdown parser; whole numbers and harmless names on every terminal."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from smolcli.bench import tables
from smolcli.bench.report import MEASURES, Figure, Report, Result, Worst

LONG = "w" * 300
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x1b[31mred\x1b[0m \x9b2J\x07",
    LONG,
    "\u05e9\u05dc\u05d5\u05dd \u202eabc",
    "\U0001f600 \u6f22\u5b57 $x_{$ a|b\r\nc",
    "half \ud83d, nul \0, ]]> &lt; --> ${x} {{y}}",
)
MACHINE = {
    "cpu": "Xeon",
    "cores": 2,
    "memory": 25_200_000_000,
    "gpus": [],
    "libraries": {"torch": "2.13.0", "numpy": "2.2"},
}


def around(value: float, off: float = 0.01, count: int = 5) -> Figure:
    """A figure with as much spread to both sides."""
    return Figure(value, value * (1 - off), value * (1 + off), count)


def speed() -> Report:
    """Four results: two quantizations of one model, a long name, and one that failed."""
    results = []
    for at, (model, quant) in enumerate((("256m", "q8_0"), ("256m", "f16"), ("org/a-rather-long-name", "q8_0")), 1):
        figures = {"load": around(1.2), "tile": around(0.0123), "decode": around(47.1 * at), "images": around(0.5 * at)}
        settings: dict[str, str | int] = {"model": model, "backend": "llamacpp", "quant": quant, "threads": 2}
        results.append(Result(settings, figures, {"tiles": at, "prompt_tokens": 81}, 500_000_000, f"abc{at}"))
    failed = {"model": "nano", "backend": "llamacpp", "quant": "f16", "threads": 2}
    results.append(Result(failed, {}, notices=("failed: out of memory",)))
    when = "2026-01-02T03:04:05+00:00"
    return Report(
        "speed", when, "smolcli bench speed -m 256m", MACHINE, {"repeat": 5}, tuple(results), ("It was busy.",)
    )


def memory() -> Report:
    """One model on one GPU, three batches."""
    results = []
    for batch in (1, 2, 4):
        figures = {"parent": Figure(120e6, 120e6, 120e6, 1), "engine": around(9e8 + 9e7 * batch), "gpu": around(8e8)}
        results.append(Result({"model": "256m", "backend": "torch", "batch": batch}, figures))
    return replace(speed(), kind="memory", command="smolcli bench memory", results=tuple(results), notices=())


def quality(names: tuple[str, ...] = ("nano", "256m", "500m"), strange: tuple[str, ...] = ()) -> Report:
    """A result for each name, with categories and a worst answer for each strange text."""
    results = []
    for at, name in enumerate(names):
        score = 0.3 + 0.1 * at
        figures = {"score": Figure(score, score - 0.05, score + 0.04, 200)}
        figures |= {"images": around(2 / (1 + at)), "engine": Figure(3e8 * (1 + at), 3e8 * (1 + at), 3e8 * (1 + at), 1)}
        groups = {group: Figure(score, score - 0.1, score + 0.1, 50) for group in ("chart", *strange)}
        worst = tuple(Worst(text, text, (text, "or"), text, 0.0, text) for text in strange)
        settings: dict[str, str | int] = {"model": name, "backend": "llamacpp", "quant": "q8_0"}
        results.append(Result(settings, figures, {}, 500, "ab", groups, at, worst, strange))
    data = {"path": "docvqa.jsonl", "rows": 203, "left_out": 4, "sha256": "0f" * 32, "lower_is_better": False}
    return replace(speed(), kind="quality", results=tuple(results), notices=strange, metric="ANLS", data=data)


def hostile() -> Report:
    """Strange texts wherever a text comes from outside."""
    machine: dict[str, Any] = {text: text for text in HOSTILE} | {"libraries": {text: text for text in HOSTILE}}
    made = quality(HOSTILE, HOSTILE)
    return replace(made, command="\n".join(HOSTILE), machine=machine, options=machine, metric=HOSTILE[0])


def shown(report: Report, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    tables.show(report, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (47.1, "decode", "47.1"), (5, "decode", "5.00"), (1234.5, "decode", "1,234"), (0.01234, "load", "0.0123"),
        (0, "load", "0.00"), (1e-9, "load", "0.000000"), (512e6, "engine", "512"), (0.58349, "score", "0.583"),
        (1.0, "score", "1.000"), (float("nan"), "load", "nan"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_and_a_unit_that_people_read(value: float, name: str, text: str) -> None:
    assert tables.number(value, MEASURES[name]) == text


def test_a_spread_has_the_places_of_its_number_and_none_is_made_up() -> None:
    decode, score = MEASURES["decode"], MEASURES["score"]
    assert tables.cell(Figure(47.1, 46.8, 47.6, 5), decode) == ("47.1", "±0.4")
    assert tables.cell(Figure(471, 464, 480, 5), decode) == ("471", "±8")
    assert tables.cell(Figure(0.583, 0.551, 0.614, 200), score) == ("0.583", "[0.551, 0.614]")
    assert tables.cell(Figure(47.1, 47.1, 47.1, 5), decode) == ("47.1", "±0.0")
    assert tables.cell(Figure(47.1, 47.1, 47.1, 1), decode) == ("47.1", "")
    assert tables.cell(None, decode) == ("-", "")


def test_a_wide_terminal_has_a_line_for_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [" ".join(line.split()) for line in shown(speed(), 140, monkeypatch).splitlines()]
    assert lines[0] == "llamacpp, threads 2"
    assert lines[2] == "model quant s s tokens/s images/s"
    assert lines[3] == "256m q8_0 1.20 ±0.01 0.0123 ±0.0001 47.1 ±0.5 0.500 ±0.005"
    assert lines[6] == "nano f16 - - - -"
    assert lines[8] == "It was busy."
    assert lines[9] == "nano, f16: failed: out of memory"
    assert lines[10] == "machine: cpu Xeon; cores 2; memory 25.2 GB"  # the rest is in the other formats


def test_of_quality_rows_are_counted_and_categories_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(quality(), 140, monkeypatch)
    assert "256m: 200 rows scored, 1 failed" in text
    assert "data: path docvqa.jsonl; rows 203; left out 4" in text
    [line] = [line for line in text.splitlines() if line.startswith("chart")]
    assert " ".join(line.split()) == "chart 0.300 [0.200, 0.400] 0.400 [0.300, 0.500] 0.500 [0.400, 0.600]"


@pytest.mark.parametrize("width", [50, 60, 80, 100, 140])
@pytest.mark.parametrize("made", [speed, memory, quality, hostile])
def test_no_terminal_cuts_a_number(made: Any, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    report = made()
    text = shown(report, width, monkeypatch)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    for result in report.results:
        for name, figure in result.figures.items():
            for part in tables.cell(figure, report.measure(name)):
                assert part in text, (name, part)


def test_no_sentence_is_broken_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = io.StringIO()
    tables.show(replace(speed(), notices=("word " * 40 + "end",)), stream)
    assert "word " * 40 + "end" in stream.getvalue()


def test_a_long_name_folds_and_keeps_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    [table] = tables.tables({"model": [LONG]}, tables.columns(quality(("x",))), 80)
    assert table.columns[0].overflow == "fold"
    assert shown(quality((LONG,)), 80, monkeypatch).count("w") >= len(LONG)


def test_nothing_that_a_terminal_would_obey_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    report = hostile()
    outputs = (shown(report, 80, monkeypatch), tables.csv(report), tables.markdown(report), tables.jsonl(report))
    for text in outputs:
        assert {char for char in text if not char.isprintable()} == {"\n"}
        text.encode()
    assert "\\x1b[31m" in tables.csv(report)


def test_csv_is_read_back_by_pythons_csv() -> None:
    first, *_, last = csv.DictReader(io.StringIO(tables.csv(speed())))
    assert (first["model"], first["threads"], first["tiles"], first["files"]) == ("256m", "2", "1", "500000000")
    assert (first["decode.value"], first["decode.count"]) == ("47.1", "5")
    assert float(first["decode.low"]) == 47.1 * 0.99
    assert (last["model"], last["decode.value"], last["tiles"]) == ("nano", "", "")
    assert last["notices"].startswith("failed: ") and not first["notices"].startswith("failed")
    [nano, *_] = csv.DictReader(io.StringIO(tables.csv(quality())))
    assert (nano["category.chart.low"], nano["failed"]) == ("0.19999999999999998", "0")


def test_markdown_is_read_back_by_a_parser() -> None:
    names = tuple(text.replace("\r\n", " ") for text in HOSTILE)
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(tables.markdown(quality(names)))
    cells = [token for token in tokens if token.type == "inline"]
    texts = ["".join(child.content for child in token.children or ()) for token in cells]
    for name in names:
        assert tables.printable(name) in texts
    assert "0.300 [0.250, 0.340]" in texts
    assert {child.type for token in cells for child in token.children or ()} <= {"text", "text_special"}
    [fence] = [token for token in tokens if token.type == "fence"]
    assert (fence.info, fence.content) == ("sh", "smolcli bench speed -m 256m\n")
    fenced = tables.markdown(replace(speed(), command="echo ```` `x`"))
    assert [token.content for token in parser.parse(fenced) if token.type == "fence"] == ["echo ```` `x`\n"]


def test_json_lines_say_of_each_result_what_is_needed_to_repeat_it() -> None:
    report = hostile()
    lines = [json.loads(line) for line in tables.jsonl(report).splitlines()]
    assert len(lines) == len(report.results)
    for line, result in zip(lines, report.results, strict=True):
        assert (line["kind"], line["machine"], line["options"]) == ("quality", report.machine, report.options)
        assert {key: line[key] for key in asdict(result)} == json.loads(json.dumps(asdict(result)))


def test_a_report_without_results_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (speed, memory, quality):
        empty = replace(made(), results=())
        assert "machine: cpu Xeon" in shown(empty, 80, monkeypatch)
        assert tables.jsonl(empty) == ""
        assert tables.csv(empty) == "kind,created,metric,data,files,fingerprint,failed,notices\n"
        assert "machine: cpu Xeon" in tables.markdown(empty)
