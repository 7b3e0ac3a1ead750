"""smolcli/bench/quality/scoring.py: pictures without text."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolcli.bench.options import Quality
from smolcli.bench.quality.metrics import METRICS
from smolcli.bench.quality.rows import Row
from smolcli.bench.quality.scoring import ItemQuestion, Rows, _Scores
from smolcli.errors import InputError
from smolcli.tasks.ocr import Ocr
from smolcli.tasks.page_reading import QUESTION
from smolcli.terminal.console import Console
from smolcli.types import Media, Question
from tests.helpers import png

MEDIA = Media(())


@pytest.mark.parametrize(("question", "answer", "errors"), [("", "(blank)", 0.0), ("", "two", 1.0)])
def test_an_empty_reply_is_right_where_the_label_says_blank(question: str, answer: str, errors: float) -> None:
    scores = _Scores(METRICS["cer"], 1)
    scores.add(0, Row("a.csv:1", (), question, (answer,)), "")
    assert scores.scores[0].value == errors


def test_only_readings_have_blank_replies() -> None:
    reading, asking = (Media((), question=Question((0, words))) for words in (QUESTION, "What is this?"))
    assert ItemQuestion().blank_replies(reading) == Ocr().blank_replies(MEDIA)
    assert not ItemQuestion().blank_replies(asking)


def test_splits_are_scored_apart() -> None:
    scores = _Scores(METRICS["exact"], 1)
    for index, (split, reply) in enumerate((("validation", "a"), ("dev", "b"), ("validation", "a"), ("", "b"))):
        scores.add(index, Row("a.csv:1", (), "What?", ("a",), split=split), reply)
    assert {name: (figure.value, figure.count) for name, figure in scores.by_split().items()} == {
        "dev": (0.0, 1), "validation": (1.0, 2)
    }  # fmt: skip
    assert scores.figures()["score"].value == 0.5


@pytest.mark.parametrize(
    ("splits", "advice"),
    [(("dev", "validation"), "its splits are: dev, validation"), (("",), "it has no column split: leave --split out")],
)
def test_a_split_that_no_row_has_is_refused(tmp_path: Path, splits: tuple[str, ...], advice: str) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "a.csv").write_text("image,answer,split\n" + "".join(f"a.png,a,{split}\n" for split in splits))
    with pytest.raises(InputError, match="has no row of the split val; ") as raised:
        Rows(tmp_path / "a.csv", Quality(split="val"), Console(quiet=True))
    assert raised.value.advice == advice
