"""report/text.py: its output read back by csv, json and a Markdown parser; tables for terminals of every width."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from smolcli.bench.report import text as text_report
from smolcli.bench.report.results import MEASURES, Figure, Report
from smolcli.terminal.console import printable
from tests.bench.report.example_results import HOSTILE, LONG, around, hostile, memory, quality, speed


def shown(report: Report, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    text_report.show(report, stream)
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
    assert text_report.number(value, MEASURES[name]) == text


def test_spread_has_the_decimal_places_of_its_value() -> None:
    decode, score = MEASURES["decode"], MEASURES["score"]
    assert text_report.cell(Figure(47.1, 46.8, 47.6, 5), decode) == ("47.1", "±0.4")
    assert text_report.cell(Figure(471, 464, 480, 5), decode) == ("471", "±8")
    assert text_report.cell(Figure(0.583, 0.551, 0.614, 200), score) == ("0.583", "[0.551, 0.614]")
    assert text_report.cell(Figure(47.1, 47.1, 47.1, 5), decode) == ("47.1", "±0.0")
    assert text_report.cell(Figure(47.1, 47.1, 47.1, 1), decode) == ("47.1", "")
    assert text_report.cell(None, decode) == ("-", "")


def test_a_wide_terminal_has_a_line_for_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [" ".join(line.split()) for line in shown(speed(), 140, monkeypatch).splitlines()]
    assert lines[0] == "llamacpp, threads 2"
    assert lines[2] == "model quant s s tokens/s images/s"
    assert lines[3] == "256m q8_0 1.20 ±0.01 0.0123 ±0.0001 47.1 ±0.5 0.500 ±0.005"
    assert lines[6] == "nano f16 - - - -"
    assert lines[8] == "It was busy."
    assert lines[9] == "nano, f16: failed: out of memory"
    assert lines[10] == "machine: cpu Xeon; cores 2; memory 25.2 GB"  # the rest is in the other formats


def test_quality_shows_row_counts_and_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(quality(), 140, monkeypatch)
    assert "256m: 200 rows scored, 1 failed" in text
    assert "data: path docvqa.jsonl; rows 203; left out 4" in text
    [line] = [line for line in text.splitlines() if line.startswith("chart")]
    assert " ".join(line.split()) == "chart 0.300 [0.200, 0.400] 0.400 [0.300, 0.500] 0.500 [0.400, 0.600]"


def test_splits_have_a_table_of_their_own_in_every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    report = quality(("nano", "256m"))
    first = replace(report.results[0], splits={"dev": around(0.25, 0.2), "validation": around(0.5, 0.2)})
    report = replace(report, results=(first, report.results[1]))
    assert "\n| split | nano |\n" in (markdown := text_report.markdown(report))
    assert "\n| dev | 0.250 \\[0.200, 0.300\\] |\n" in markdown
    assert markdown.index("| split |") < markdown.index("| category |")
    assert "validation" in shown(report, 80, monkeypatch)
    [row, _] = csv.DictReader(io.StringIO(text_report.csv(report)))
    assert (row["split.validation.value"], row["category.chart.value"]) == ("0.5", "0.3")
    assert Report.of(json.loads(report.json())) == report


@pytest.mark.parametrize("width", [50, 60, 80, 100, 140])
@pytest.mark.parametrize("made", [speed, memory, quality, hostile])
def test_numbers_are_never_cut(made: Any, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    report = made()
    text = shown(report, width, monkeypatch)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    for result in report.results:
        for name, figure in result.figures.items():
            for part in text_report.cell(figure, report.measure(name)):
                assert part in text, (name, part)


def test_lines_are_not_wrapped_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = io.StringIO()
    text_report.show(replace(speed(), notices=("word " * 40 + "end",)), stream)
    assert "word " * 40 + "end" in stream.getvalue()


def test_a_long_name_folds_and_keeps_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    [table] = text_report.fit_tables({"model": [LONG]}, text_report.columns(quality(("x",))), 80)
    assert table.columns[0].overflow == "fold"
    assert shown(quality((LONG,)), 80, monkeypatch).count("w") >= len(LONG)


def test_control_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    report = hostile()
    outputs = (
        shown(report, 80, monkeypatch),
        text_report.csv(report),
        text_report.markdown(report),
        text_report.jsonl(report),
    )
    for text in outputs:
        assert {char for char in text if not char.isprintable()} == {"\n"}
        text.encode()
    assert "\\x1b[31m" in text_report.csv(report)


def test_csv_is_read_back_by_pythons_csv() -> None:
    first, *_, last = csv.DictReader(io.StringIO(text_report.csv(speed())))
    assert (first["model"], first["threads"], first["tiles"], first["files"]) == ("256m", "2", "1", "500000000")
    assert (first["decode.value"], first["decode.count"]) == ("47.1", "5")
    assert float(first["decode.low"]) == 47.1 * 0.99
    assert (last["model"], last["decode.value"], last["tiles"]) == ("nano", "", "")
    assert last["notices"].startswith("failed: ") and not first["notices"].startswith("failed")
    [nano, *_] = csv.DictReader(io.StringIO(text_report.csv(quality())))
    assert (nano["category.chart.low"], nano["failed"]) == ("0.19999999999999998", "0")


def test_markdown_is_read_back_by_a_parser() -> None:
    names = tuple(text.replace("\r\n", " ") for text in HOSTILE)
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text_report.markdown(quality(names)))
    cells = [token for token in tokens if token.type == "inline"]
    texts = ["".join(child.content for child in token.children or ()) for token in cells]
    for name in names:
        assert printable(name) in texts
    assert "0.300 [0.250, 0.340]" in texts
    assert {child.type for token in cells for child in token.children or ()} <= {"text", "text_special"}
    [fence] = [token for token in tokens if token.type == "fence"]
    assert (fence.info, fence.content) == ("sh", "smolcli bench speed -m 256m\n")
    fenced = text_report.markdown(replace(speed(), command="echo ```` `x`"))
    assert [token.content for token in parser.parse(fenced) if token.type == "fence"] == ["echo ```` `x`\n"]


def test_json_lines_repeat_the_reports_fields() -> None:
    report = hostile()
    lines = [json.loads(line) for line in text_report.jsonl(report).splitlines()]
    assert len(lines) == len(report.results)
    for line, result in zip(lines, report.results, strict=True):
        assert (line["kind"], line["machine"], line["options"]) == ("quality", report.machine, report.options)
        assert {key: line[key] for key in asdict(result)} == json.loads(json.dumps(asdict(result)))


def test_report_without_results(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (speed, memory, quality):
        empty = replace(made(), results=())
        assert "machine: cpu Xeon" in shown(empty, 80, monkeypatch)
        assert text_report.jsonl(empty) == ""
        assert text_report.csv(empty) == "kind,created,metric,data,files,fingerprint,failed,notices\n"
        assert "machine: cpu Xeon" in text_report.markdown(empty)
