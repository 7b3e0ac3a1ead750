"""executors/answers.py: what happens with an item that is open, by the records of earlier runs and of this one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from smolcli.executors.answers import KnownAnswers, Skip
from smolcli.executors.duplicates import AskModel, OpenItem, Wait
from smolcli.records.resume import ResultsFile
from smolcli.records.sink import RecordSink
from smolcli.terminal.console import Console
from smolcli.types import Record, Seconds
from smolcli.writers.json_lines import JsonLines, as_json
from tests.helpers import BAD, IDENTITY, RECORD, results

CAT, DOG = "ca" * 32, "d0" * 32  # SHA-256 of two contents


def record(path: str, sha256: str = CAT, of: Record = RECORD) -> Record:
    return replace(of, path=path, sha256=sha256, id=IDENTITY.id_of(sha256), stamp=f"stamp of {path}")


def item(number: int, path: str, sha256: str = CAT) -> OpenItem:
    return OpenItem(number, path, None, IDENTITY.id_of(sha256), f"stamp of {path}", Seconds(media=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A results file with an answered and a failed record."""
    path = tmp_path / "r.jsonl"
    path.write_text(as_json(record("a.png")) + "\n" + as_json(record("bad.png", DOG, BAD)) + "\n")
    return path


class Delivered(RecordSink):
    """Counts outcomes, and writes to the results file."""

    def __init__(self, path: Path, results: ResultsFile) -> None:
        self.stream = path.open("a")
        super().__init__(JsonLines(self.stream), Console(quiet=True), results=results)


@pytest.mark.parametrize("retry_failed", [False, True])
def test_an_item_with_a_record_is_left_out_and_a_failed_one_unless_it_is_to_be_tried_again(
    path: Path, retry_failed: bool
) -> None:
    held = results(path)
    sink = Delivered(path, held)
    with closing(sink.stream):
        answers = KnownAnswers(sink, held, retry_failed)
        assert answers.decide(item(0, "a.png")) == Skip("done", IDENTITY.id_of(CAT))
        failed = answers.decide(item(1, "bad.png", DOG))
        assert failed == (AskModel() if retry_failed else Skip("failed", IDENTITY.id_of(DOG)))
        answers.close()


def test_the_answer_of_an_earlier_run_is_copied_to_another_path_and_a_failure_is_not(path: Path) -> None:
    held = results(path)
    sink = Delivered(path, held)
    with closing(sink.stream):
        answers = KnownAnswers(sink, held, False)
        copy = answers.decide(item(0, "copy.png"))
        assert copy == replace(record("copy.png"), seconds=Seconds(media=1))
        assert answers.decide(item(1, "other.png", DOG)) == AskModel()
        answers.close()


def test_a_path_that_is_given_twice_has_one_record_in_a_results_file(path: Path) -> None:
    held = results(path)
    sink = Delivered(path, held)
    with closing(sink.stream):
        answers = KnownAnswers(sink, held, False)
        fish = "f1" * 32
        assert [answers.decide(item(number, "new.png", fish)) for number in (0, 1)] == [AskModel(), Wait()]
        answered = record("new.png", fish)
        [(number, copy)] = answers.finish(0, answered)
        assert number == 1 and isinstance(copy, Record)
        assert answers.deliver(0, answered) and answers.deliver(1, copy)
        assert (sink.done, sink.skipped) == (1, 1)
        answers.close()
    assert path.read_text().count('"new.png"') == 1


def test_without_a_results_file_an_answer_is_known_for_the_whole_run(tmp_path: Path) -> None:
    with (tmp_path / "out.jsonl").open("w") as stream:
        sink = RecordSink(JsonLines(stream), Console(quiet=True))
        answers = KnownAnswers(sink, None, False)
        assert answers.decide(item(0, "a.png")) == AskModel()
        answers.finish(0, record("a.png"))
        answers.deliver(0, record("a.png"))
        assert answers.decide(item(9, "a.png")) == replace(record("a.png"), seconds=Seconds(media=1))
        assert (sink.done, sink.skipped) == (1, 0)
        answers.close()
