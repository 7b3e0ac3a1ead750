"""records/run_answers.py: answers kept in memory and in a temporary file."""

from __future__ import annotations

import io
import tempfile
from dataclasses import replace

import pytest

from smolcli.records import offset_index, run_answers
from smolcli.records.run_answers import RunAnswers
from smolcli.types import Record
from tests.helpers import BAD, RECORD


def record(number: int) -> Record:
    return replace(RECORD, id=f"{number:064x}", text=f"answer {number}" * 50, data={"n": number})


def test_answers_are_found_whether_they_are_in_memory_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_answers, "MAX_BYTES_IN_MEMORY", 5000)
    monkeypatch.setattr(offset_index, "FRESH", 7)
    answers = RunAnswers()
    for number in range(50):
        answers.add(record(number))
        assert answers.answer(f"{number // 2:064x}") == record(number // 2)
    assert [answers.answer(f"{number:064x}") for number in range(50)] == [record(number) for number in range(50)]
    assert answers.answer(f"{50:064x}") is None
    answers.close()


def test_a_failed_record_is_no_answer() -> None:
    answers = RunAnswers()
    answers.add(BAD)
    assert answers.answer(BAD.id) is None


def test_without_a_temporary_folder_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits in memory is kept; a later copy of a picture is answered anew."""

    def fails(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(run_answers, "MAX_BYTES_IN_MEMORY", 5000)
    monkeypatch.setattr(tempfile, "TemporaryFile", fails)
    answers = RunAnswers()
    for number in range(50):
        answers.add(record(number))
    assert answers.answer(f"{0:064x}") == record(0)
    assert answers.answer(f"{49:064x}") is None


def test_on_a_full_disk_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was in memory is lost when it is written to the disk in part."""

    class FullDisk(io.BytesIO):
        def write(self, data: object) -> int:
            super().write(bytes(data)[:1000])  # type: ignore[call-overload]
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_answers, "MAX_BYTES_IN_MEMORY", 5000)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: FullDisk())
    answers = RunAnswers()
    for number in range(50):
        answers.add(record(number))
    assert [answers.answer(f"{number:064x}") for number in (1, 5, 49)] == [None] * 3
