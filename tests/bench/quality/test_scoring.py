"""smolcli/bench/quality/scoring.py: pictures without text."""

from __future__ import annotations

import pytest

from smolcli.bench.quality.metrics import METRICS
from smolcli.bench.quality.rows import Row
from smolcli.bench.quality.scoring import ItemQuestion, _Scores
from smolcli.tasks.ocr import Ocr
from smolcli.tasks.page_reading import QUESTION
from smolcli.types import Media, Question

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
