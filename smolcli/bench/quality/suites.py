"""The published suites: how each asks a row's question, and the metric it is scored with.

SmolVLM's authors scored their models with VLMEvalKit, so the words here are those that it sends to SmolVLM: what its
data sets write and what its class SmolVLM makes of that. Other words give other scores.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from smolcli.bench.quality.rows import Row
from smolcli.tasks.ocr import QUESTION

DOCVQA = (
    "Give a short and terse answer to the following question. "
    "Do not paraphrase or reformat the text you see in the image. Do not include any full stops. "
    "Just give the answer without additional explanation. Question: "
)
TEXTVQA = (
    "Answer the following question about the image using as few words as possible. "
    "Follow these additional instructions:\n"
    "-Always answer a binary question with Yes or No.\n"
    "-When asked what time it is, reply with the time seen in the image.\n"
    "-Do not put any full stops at the end of the answer.\n"
    "-Do not put quotation marks around the answer.\n"
    "-An answer with one or two words is favorable.\n"
    "-Do not apply common sense knowledge. The answer can be found in the image.\n"
    "Question: "
)
# The apostrophes are those of the class SmolVLM; SmolVLM2, which says the same elsewhere, has them straight.
CHARTQA = (
    "For the question below, follow the following instructions:\n"
    "-The answer should contain as few words as possible.\n"
    "-Don\u2019t paraphrase or reformat the text you see in the image.\n"
    "-Answer a binary question with Yes or No.\n"
    "-When asked to give a numerical value, provide a number like 2 instead of Two.\n"
    "-If the final answer has two or more items, provide it in the list format like [1, 2].\n"
    "-When asked to give a ratio, give out the decimal value like 0.25 instead of 1:4.\n"
    "-When asked to give a percentage, give out the whole value like 17 instead of decimal like 0.17%.\n"
    "-Don\u2019t include any units in the answer.\n"
    "-Do not include any full stops at the end of the answer.\n"
    "-Try to include the full label from the graph when asked about an entity.\n"
    "Question: "
)
PHRASE = "\nAnswer the question using a single word or phrase."
BRIEF = "\nGive a very brief answer."
PREFILL = "Answer:"
PLACE = re.compile(r"(<image [1-9]>)")
MANY_ANSWERS = 4  # from which on they are those of several people, as in VQA


@dataclass(frozen=True)
class Asked:
    """A question as a model is asked it: texts, and pictures by their number in the row, the first 0.

    `prefill` is how the assistant's turn begins.
    """

    parts: tuple[str | int, ...]
    prefill: str = ""


@dataclass(frozen=True)
class Suite:
    """`name` is the word on the command line, `metric` one of METRICS, `ask` makes of a row what is asked."""

    name: str
    metric: str
    ask: Callable[[Row], Asked]


def ask(row: Row) -> Asked:
    """What is asked without a suite: the question; as the suites do where there are choices; without one, the text.

    >>> ask(Row("a.csv:2", (), "Which one?", ("B",), (("A", "a cat"), ("B", "a dog")))).parts
    ('Question: Which one?\\nChoices:\\nA. a cat\\nB. a dog\\nAnswer with the letter.',)
    """
    if row.choices:
        return _letter(row)
    question = row.question.strip() or QUESTION
    return _shown(row, f"Hint: {row.hint.strip()}\n{question}" if row.hint.strip() else question)


def default_metric(row: Row) -> str:
    """The metric that fits a row of a data set of one's own.

    choice where there are choices, cer where nothing is asked but what is written, vqa where several people answered,
    else exact.
    """
    if row.choices:
        return "choice"
    if not row.question.strip():
        return "cer"
    return "vqa" if len(row.answers) >= MANY_ANSWERS else "exact"


def _shown(row: Row, text: str, prefill: str = "") -> Asked:
    """All pictures, then the text."""
    return Asked((*range(len(row.sources)), text), prefill)


def _after(instruction: str) -> Callable[[Row], Asked]:
    """Asks in a phrase, after an instruction."""
    return lambda row: _shown(row, instruction + (row.question + PHRASE).strip())


def _briefly(row: Row) -> Asked:
    return _shown(row, row.question.strip() + BRIEF)


def _letter(row: Row) -> Asked:
    """Asks for the letter of a choice."""
    return _shown(row, _as_choices(_written(row).strip()), PREFILL)


def _written(row: Row) -> str:
    """A row as VLMEvalKit's multiple-choice data sets write it, for every model."""
    hint = f"Hint: {row.hint}\n" if row.hint.strip() else ""
    options = "".join(f"{letter}. {text}\n" for letter, text in row.choices)
    asked = f"Options:\n{options}Please select the correct answer from the options above. \n" if options else ""
    return f"{hint}Question: {row.question}\n{asked}"


def _as_choices(text: str) -> str:
    """What SmolVLM's class makes of it. An "Options:" of the question's own is replaced there too."""
    text = text.replace("\nOptions:", "\nChoices:")
    return text.replace("Please select the correct answer from the options above.", "Answer with the letter.")


def _in_places(row: Row) -> Asked:
    """The pictures numbered as they occur, and the text with these numbers in their places, as MMMU is asked.

    One that occurs twice is shown twice, one that does not occur is not shown; if none does, all come first. What
    follows a place is stripped by itself, which keeps an "Options:" that would else be "Choices:".
    """
    pictures: list[int] = []
    texts = [""]
    for word in PLACE.split(_written(row)):
        if PLACE.fullmatch(word) and int(word[-2]) <= len(row.sources):
            pictures.append(int(word[-2]) - 1)
            texts.append("")
        else:
            texts[-1] += word
    if not pictures:
        pictures, texts = list(range(len(row.sources))), [*("" for _ in row.sources), *texts]
    texts = [_as_choices(text.strip().replace("Question:", "")).strip() for text in texts]
    body = texts[0] + "".join(f" <image {number}> {text}" for number, text in enumerate(texts[1:], 1))
    parts: list[str | int] = []
    before = "Question: "
    for number, picture in enumerate(pictures, 1):
        parts += [f"{before}<image {number}>:", picture]
        before = "\n"
    return Asked((*parts, before + body), PREFILL if "A." in body and "B." in body else "")


SUITES = {
    suite.name: suite
    for suite in (
        Suite("docvqa", "anls", _after(DOCVQA)),
        Suite("textvqa", "vqa", _after(TEXTVQA)),
        Suite("chartqa", "relaxed", _after(CHARTQA)),
        Suite("ocrbench", "contains", _briefly),
        Suite("ai2d", "choice", _letter),
        Suite("scienceqa", "choice", _letter),
        Suite("mmstar", "choice", _letter),
        Suite("mmmu", "mmmu", _in_places),
    )
}
