"""smolcli/pipeline/conclude.py: the last lines of a run say what became of every input, and what to do next."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolcli.errors import ErrorKind, Exit
from smolcli.options import Batch, Generate, Input, Model, Output
from smolcli.pipeline.conclude import Totals, conclude, last_lines
from smolcli.pipeline.request import Request
from smolcli.records.sink import RecordSink
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import Ocr
from smolcli.terminal.console import Console
from smolcli.types import Fault
from smolcli.writers.base import NullWriter
from tests.helpers import RECORD

CALM = Totals(73, 27, {})
BAD = Totals(70, 27, {ErrorKind.TRUNCATED: 1, ErrorKind.MISSING: 2}, failed_before=4)
AGAIN = "to try the failed ones again: "


def request(*inputs: str, batch: Batch = Batch(), **output: Any) -> Request:  # noqa: B008
    return Request(
        "caption",
        Caption(),
        Input(inputs),
        Model(),
        Generate(),
        Output(**output),
        batch,
    )


def lines(request: Request, totals: Totals, seconds: float = 29.2, interrupted: bool = False, *notes: str) -> list[str]:
    return list(last_lines(request, totals, seconds, interrupted, notes))


def test_the_last_line_counts_every_input_once() -> None:
    [line] = lines(request("photos", output=Path("captions.jsonl")), CALM)
    assert line == "73 new, 27 from before, 0 failed, 2.5 pictures/s, 0:00:29, in captions.jsonl"
    [line] = lines(request("photos"), BAD)
    assert line.startswith("70 new, 27 from before, 3 failed (2 missing, 1 truncated), 4 failed before, ")
    assert CALM.inputs == 100 and BAD.inputs == 104


def test_documents_whose_pages_failed_are_told_and_can_be_tried_again() -> None:
    partly = Totals(2, 3, {}, partly_failed=1)
    line, again = lines(request("scans", output=Path("r.jsonl")), partly)
    assert line.startswith("2 new, 3 from before, 0 failed, 1 with pages that failed, ")
    assert again.startswith(AGAIN) and partly.inputs == 5


def test_a_slow_run_tells_the_seconds_of_a_picture_and_one_that_did_nothing_no_rate() -> None:
    assert "4.0 s a picture, 0:04:00" in lines(request("photos"), Totals(60, 0, {}), 240)[0]
    assert lines(request("photos"), Totals(0, 9, {}), 3) == ["0 new, 9 from before, 0 failed, 0:00:03"]


def test_what_failed_is_tried_again_by_a_command_that_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = request("my photos", output=Path("c.jsonl"))
    monkeypatch.setattr(sys, "argv", ["/bin/smolcli", "caption", "my photos", "-o", "c.jsonl"])
    assert lines(wanted, BAD)[1] == f"{AGAIN}smolcli caption 'my photos' -o c.jsonl --resume --retry-failed"
    monkeypatch.setattr(sys, "argv", ["smolcli", "caption", "p", "-o", "c.jsonl", "--resume"])
    assert lines(wanted, BAD)[1] == f"{AGAIN}smolcli caption p -o c.jsonl --resume --retry-failed"
    lists_of_shell = ["--files-from", "/dev/fd/63"], ["--files-from=/dev/fd/63"]  # what bash makes of <(find ...)
    lists = ["--files-from", "-"], ["--files-from=-"], *lists_of_shell
    for words in (["--", "-p"], *lists, [f"{number}.png" for number in range(1000)]):
        monkeypatch.setattr(sys, "argv", ["smolcli", "caption", "-o", "c.jsonl", *words])
        assert lines(wanted, BAD)[1] == f"{AGAIN}the same command with --resume --retry-failed"


@pytest.mark.parametrize(
    "words", [("a.pdf", "--password", "hunter2"), ("a.pdf", "--password=hunter2"), ("https://me:hunter2@host/a.png",)]
)
def test_no_password_is_shown_again(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["smolcli", "ocr", *words, "-o", "c.jsonl"])
    password = None if "@" in words[0] else "hunter2"
    wanted = replace(request(words[0], output=Path("c.jsonl")), task=Ocr(password=password))
    assert lines(wanted, BAD)[1] == f"{AGAIN}the same command with --resume --retry-failed"


@pytest.mark.parametrize(
    "unresumable",
    [request("p"), request("p", output=Path("c.csv")), request("-", "p", output=Path("c.jsonl"))],
    ids=["standard output", "csv", "standard input"],
)
def test_no_command_where_nothing_can_be_resumed(unresumable: Request) -> None:
    assert len(lines(unresumable, BAD)) == 1


def test_an_interrupted_run_says_how_to_go_on() -> None:
    assert lines(request("p", output=Path("c.jsonl")), BAD, 5, True)[0].endswith(", in c.jsonl; go on with --resume")
    assert lines(request("p", sidecar=(".txt",)), CALM, 5, True)[0].endswith("; the same command goes on")
    assert lines(request("p"), CALM, 5, True)[0].endswith("; interrupted")
    assert len(lines(request("p", output=Path("c.jsonl")), BAD, 5, True)) == 1


def test_notes_about_the_whole_run_end_the_line() -> None:
    assert lines(request("p"), CALM, 5, False, "one note", "another")[0].endswith(", 0:00:05; one note; another")


@pytest.mark.parametrize(
    ("answers", "failures", "quiet", "expected"),
    [(1, 0, False, 0), (2, 0, False, 1), (2, 0, True, 0), (1, 1, False, 1), (1, 1, True, 0)],
)
def test_there_is_a_line_from_two_inputs_on_unless_quiet(
    answers: int, failures: int, quiet: bool, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = RecordSink(NullWriter(io.StringIO()), Console(quiet=True))
    for number in range(answers + failures):
        fault = Fault(ErrorKind.EMPTY, "has no bytes") if number >= answers else None
        sink.write_record(replace(RECORD, error=fault))
    capsys.readouterr()
    code = conclude(request("p"), sink, Console(quiet), 0.0)
    assert code == (Exit.SOME_FAILED if failures else Exit.OK)
    assert capsys.readouterr().err.count("smolcli: ") == expected


def test_a_run_that_was_interrupted_after_its_first_input_has_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    sink = RecordSink(NullWriter(io.StringIO()), Console())
    sink.write_record(RECORD)
    assert conclude(request("p"), sink, Console(), 0.0, is_interrupted=True) == Exit.INTERRUPTED
    assert "smolcli: 1 new, 0 failed, " in capsys.readouterr().err
