"""smolcli/records/notices.py and the sink: what is said once a run."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from smolcli.records.notices import BLANK, CUT, OF_MANY, UNSURE, UNSURE_PAGE, fewer_tiles, unsure
from smolcli.records.sink import RecordSink
from smolcli.terminal.console import Console
from smolcli.writers.json_lines import JsonLines
from tests.helpers import RECORD


def closing_notices(*notices: tuple[str, ...]) -> list[str]:
    sink = RecordSink(JsonLines(io.StringIO()), Console())
    for number, own in enumerate(notices):
        sink.write_record(replace(RECORD, path=f"{number}.png", notices=own))
    return list(sink.closing_notices())


def test_cut_answers_are_said_once_with_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert closing_notices((CUT,), (), (CUT, "the file is cut short"), (CUT,)) == [
        "3 answers reached --max-tokens; raise it with -n"
    ]
    assert capsys.readouterr().err == "smolcli: 2.png: the file is cut short\n"  # others are said of each input


def test_of_one_input_its_path_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert closing_notices((), (BLANK,)) == ["1.png: no text was found"]
    assert capsys.readouterr().err == ""


def test_pages_that_were_read_without_confidence_are_named_and_of_many_counted() -> None:
    def page(number: int, confidence: float | None) -> dict[str, object]:
        return {"page": number, "text": "a", "confidence": confidence}

    several = [page(1, 0.9), page(2, 0.5), page(3, None), page(7, 0.0)]
    notices = tuple(unsure(several, 0.9, below=0.8))
    assert notices == (f"page 2 {UNSURE_PAGE}", f"page 7 {UNSURE_PAGE}")  # though the document has more
    assert closing_notices((), notices[:1]) == [f"1.png: page 2 {UNSURE_PAGE}"]
    assert closing_notices(notices, (), notices[:1])[0].startswith("3 pages were read")
    assert list(unsure([page(1, 0.5)], 0.5, below=0.8)) == [UNSURE]
    assert list(unsure([{"page": 1}, {"page": 2}], 0.5, below=0.8)) == [UNSURE]  # they were read whole
    assert list(unsure([], 0.9, below=0.8)) == list(unsure([], None, below=0.8)) == []


def test_pictures_that_were_cut_into_fewer_tiles_are_counted_whatever_their_number() -> None:
    [line] = closing_notices((fewer_tiles(3),), (fewer_tiles(1),))
    assert line.startswith("the pictures of 2 inputs were cut into fewer tiles")


def test_nothing_is_said_of_nothing() -> None:
    assert closing_notices((), ()) == []


@pytest.mark.parametrize("notice", OF_MANY)
def test_each_has_a_form_for_many(notice: str) -> None:
    [line] = closing_notices(*[(notice,)] * 1200)
    assert "1,200" in line
