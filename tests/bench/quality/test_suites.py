"""bench/quality/suites.py: the whole prompt of every suite, as VLMEvalKit's own code makes it.

The expected texts were made by running build_prompt of its data sets and of its class SmolVLM, at commit e8e78f05;
at commit c5772771 of February 2025 they are the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from smolcli.bench.quality.metrics import METRICS
from smolcli.bench.quality.rows import Row, row_of
from smolcli.bench.quality.suites import SUITES, RowPrompt, ask, default_metric
from smolcli.models.chat_template import UNSPLIT, Tile, segments
from smolcli.types import FrameRef, Prompt, Source, Turn

PICTURES = tuple(Source(name) for name in ("one.png", "two.png", "three.png"))
SHOWN = "<fake_token_around_image><global-img>@<fake_token_around_image>"  # an unsplit picture, as the chat text has it


def row(question: str, *texts: str, pictures: int = 1, hint: str = "", answers: tuple[str, ...] = ("A",)) -> Row:
    choices = tuple(zip("ABCD", texts, strict=False))
    return Row("set.tsv:2", PICTURES[:pictures], question, answers, choices, hint=hint)


def prompt(row_prompt: RowPrompt) -> tuple[str, list[int]]:
    """The chat text, and which pictures are in it."""
    numbers = [part for part in row_prompt.parts if isinstance(part, int)]
    picture = FrameRef(0, width=1, height=1)
    turns = [Turn("user", tuple(picture if isinstance(part, int) else part for part in row_prompt.parts))]
    turns += [Turn("assistant", (row_prompt.prefill,))] if row_prompt.prefill else []
    parts = segments(Prompt(tuple(turns)), [UNSPLIT] * len(numbers))
    text = "".join("@" if isinstance(part, Tile) else part for part in parts)
    return text.replace(SHOWN, "<image>"), numbers


DOCVQA = (
    "<|im_start|>User:<image>Give a short and terse answer to the following question. Do not paraphrase or reformat "
    "the text you see in the image. Do not include any full stops. Just give the answer without additional "
    "explanation. Question: What is the date on the letter? \n"
    "Answer the question using a single word or phrase.<end_of_utterance>\nAssistant:"
)
TEXTVQA = (
    "<|im_start|>User:<image>Answer the following question about the image using as few words as possible. Follow "
    "these additional instructions:\n-Always answer a binary question with Yes or No.\n-When asked what time it is, "
    "reply with the time seen in the image.\n-Do not put any full stops at the end of the answer.\n-Do not put "
    "quotation marks around the answer.\n-An answer with one or two words is favorable.\n-Do not apply common sense "
    "knowledge. The answer can be found in the image.\nQuestion: what does the sign say?\n"
    "Answer the question using a single word or phrase.<end_of_utterance>\nAssistant:"
)
CHARTQA = (
    "<|im_start|>User:<image>For the question below, follow the following instructions:\n-The answer should contain "
    "as few words as possible.\n-Don\u2019t paraphrase or reformat the text you see in the image.\n-Answer a binary "
    "question with Yes or No.\n-When asked to give a numerical value, provide a number like 2 instead of Two.\n-If "
    "the final answer has two or more items, provide it in the list format like [1, 2].\n-When asked to give a "
    "ratio, give out the decimal value like 0.25 instead of 1:4.\n-When asked to give a percentage, give out the "
    "whole value like 17 instead of decimal like 0.17%.\n-Don\u2019t include any units in the answer.\n-Do not "
    "include any full stops at the end of the answer.\n-Try to include the full label from the graph when asked "
    "about an entity.\nQuestion: Is the blue bar the highest?\n"
    "Answer the question using a single word or phrase.<end_of_utterance>\nAssistant:"
)
OCRBENCH = (
    "<|im_start|>User:<image>what is written in the image?\n"
    "Give a very brief answer.<end_of_utterance>\nAssistant:"
)  # fmt: skip
AI2D = (
    "<|im_start|>User:<image>Question: Which stage follows the egg?\nChoices:\nA. larva\nB. pupa\nC. adult\n"
    "D. none of these\nAnswer with the letter.<end_of_utterance>\nAssistant: Answer:"
)
SCIENCEQA = (
    "<|im_start|>User:<image>Hint: Look at the map.\nNorth is up.\nQuestion: Which is farther north?\nChoices:\n"
    "A. Maine\nB. Texas\nAnswer with the letter.<end_of_utterance>\nAssistant: Answer:"
)
MMSTAR = (
    "<|im_start|>User:<image>Question: What is shown?\nChoices: A: a cat, B: a dog\nChoices:\nA. a cat\nB. a dog\n"
    "Answer with the letter.<end_of_utterance>\nAssistant: Answer:"
)
MMMU = (
    "<|im_start|>User: Question: <image 1>:<image>\n<image 2>:<image>\n<image 3>:<image>\n <image 1> Compare it with "
    "<image 2> . Which is older?\nChoices:\nA. the first\nB. <image 3> Answer with the letter.<end_of_utterance>\n"
    "Assistant: Answer:"
)
MMMU_ALL_FIRST = (
    "<|im_start|>User: Question: <image 1>:<image>\n<image 2>:<image>\n <image 1>  <image 2> Find the sum.\nChoices:\n"
    "A. 1\nB. 2\nAnswer with the letter.<end_of_utterance>\nAssistant: Answer:"
)
MMMU_OPEN = (
    "<|im_start|>User: Question: <image 1>:<image>\nWhat is the resistance in <image 1> , in ohms?<end_of_utterance>\n"
    "Assistant:"
)
MMMU_PLACE_AT_THE_END = (
    "<|im_start|>User: Question: <image 1>:<image>\nWhich curve is stable in <image 1> Options:\nA. x\nB. y\n"
    "Answer with the letter.<end_of_utterance>\nAssistant: Answer:"
)
MMMU_QUESTION = "<image 1> Compare it with <image 2>. Which is older?"
MMSTAR_QUESTION = "What is shown?\nOptions: A: a cat, B: a dog"
NORTH = row("Which is farther north?", "Maine", "Texas", hint="Look at the map.\nNorth is up.")
OLDER = row(MMMU_QUESTION, "the first", "<image 2>", pictures=2)
CASES = [
    ("docvqa", row(" What is the date on the letter? "), DOCVQA, [0]),
    ("textvqa", row("what does the sign say?"), TEXTVQA, [0]),
    ("chartqa", row("Is the blue bar the highest?"), CHARTQA, [0]),
    ("ocrbench", row("what is written in the image? "), OCRBENCH, [0]),
    ("ai2d", row("Which stage follows the egg?", "larva", "pupa", "adult", "none of these"), AI2D, [0]),
    ("scienceqa", NORTH, SCIENCEQA, [0]),
    ("mmstar", row(MMSTAR_QUESTION, "a cat", "a dog"), MMSTAR, [0]),
    ("mmmu", OLDER, MMMU, [0, 1, 1]),
    ("mmmu", row("Find the sum.", "1", "2", pictures=2), MMMU_ALL_FIRST, [0, 1]),
    ("mmmu", row("What is the resistance in <image 2>, in ohms?", pictures=2), MMMU_OPEN, [1]),
    ("mmmu", row("Which curve is stable in <image 1>", "x", "y"), MMMU_PLACE_AT_THE_END, [0]),
]  # fmt: skip


@pytest.mark.parametrize(("suite", "labelled_row", "text", "numbers"), CASES)
def test_suite_prompts_equal_those_of_vlmevalkit(suite: str, labelled_row: Row, text: str, numbers: list[int]) -> None:
    assert prompt(SUITES[suite].ask(labelled_row)) == (text, numbers)


def test_every_suite_has_a_worked_example_and_a_metric_that_exists() -> None:
    with_question = [name for name, suite in SUITES.items() if not suite.reads_pages]
    assert with_question == list(dict.fromkeys(suite for suite, *_ in CASES))
    assert all(name == suite.name and suite.metric in METRICS for name, suite in SUITES.items())
    assert {name: suite.metric for name, suite in SUITES.items()} == {
        "docvqa": "anls", "textvqa": "vqa", "chartqa": "relaxed", "ocrbench": "contains", "ai2d": "choice",
        "scienceqa": "choice", "mmstar": "choice", "mmmu": "mmmu", "ocr-pages": "cer",
    }  # fmt: skip


def test_mmstars_parquet_is_asked_as_its_table() -> None:
    """The table has the options in columns besides."""
    from_question = row_of("set.parquet row 1", {"image": b"x", "question": MMSTAR_QUESTION, "answer": "B"}, Path())
    assert isinstance(from_question, Row)
    assert prompt(SUITES["mmstar"].ask(from_question)) == (MMSTAR, [0])


@pytest.mark.parametrize("suite", ["docvqa", "textvqa", "chartqa", "ocrbench", "ai2d", "scienceqa", "mmstar"])
def test_several_pictures_come_before_the_text_in_order(suite: str) -> None:
    assert SUITES[suite].ask(row("Which?", "a", "b", pictures=3)).parts[:3] == (0, 1, 2)


def test_mmmu_marker_without_a_picture_stays_text() -> None:
    row_prompt = SUITES["mmmu"].ask(row("See <image 2> and <image 1> and <image 0>.", "x"))
    assert row_prompt.parts == (
        "Question: <image 1>:", 0,
        "\nSee <image 2> and <image 1> and <image 0>.\nChoices:\nA. x\nAnswer with the letter.",
    )  # fmt: skip
    assert row_prompt.prefill == ""  # one choice is none


def test_prompt_without_a_suite() -> None:
    assert ask(row(" What is it? ", pictures=2)) == RowPrompt((0, 1, "What is it?"))
    assert ask(row("How many?", hint="Count the red ones.")) == RowPrompt((0, "Hint: Count the red ones.\nHow many?"))
    assert ask(row("")) == RowPrompt((0, "What is written in the image?"))
    assert prompt(ask(NORTH)) == (SCIENCEQA, [0])


def test_pictures_stand_where_the_question_has_their_places() -> None:
    between = row("Is <image> like <image>?", pictures=2)
    assert ask(between).parts == ("Is ", 0, " like ", 1, "?")
    assert SUITES["ocrbench"].ask(between).parts[:4] == ("Is ", 0, " like ", 1)
    assert SUITES["mmmu"].ask(between).parts == (
        "Question: <image 1>:", 0, "\n<image 2>:", 1, "\nIs <image 1> like <image 2> ?"
    )  # fmt: skip
    assert ask(row("Read<image>")).parts == ("Read", 0)


def test_default_metric_follows_from_the_row() -> None:
    assert default_metric(row("Which?", "a", "b", answers=("A",) * 9)) == "choice"
    assert default_metric(row(" ", answers=("a",) * 9)) == "cer"
    assert default_metric(row("What?", answers=("a",) * 4)) == "vqa"
    assert default_metric(row("What?", answers=("a",) * 3)) == "exact"
