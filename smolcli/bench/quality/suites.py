"""The published benchmarks (suites): the prompt that each makes of a row, and its metric.

SmolVLM's authors scored their models with VLMEvalKit, so the prompts here are those that it sends to SmolVLM: the text
of its data sets, as changed by its class SmolVLM. Other words give other scores.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from smolcli.bench.quality.conversations import IMAGE_PLACE
from smolcli.bench.quality.rows import Row
from smolcli.tasks.page_reading import QUESTION

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
# The apostrophes are those of the class SmolVLM; the class SmolVLM2 has straight ones and is otherwise the same.
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
IMAGE_MARKER = re.compile(r"(<image [1-9]>)")
MANY_ANSWERS = 4  # this many or more are taken to be the answers of several people, as in VQA


@dataclass(frozen=True)
class RowPrompt:
    """The prompt of a row: texts, and pictures by their index in the row; `prefill` begins the assistant's turn."""

    parts: tuple[str | int, ...]
    prefill: str = ""


@dataclass(frozen=True)
class Suite:
    """A published benchmark: its name on the command line, its metric (of METRICS), and its prompt for a row.

    With `reads_pages` there is no prompt: the task ocr reads the row's picture, as `smolcli ocr` does.
    """

    name: str
    metric: str
    ask: Callable[[Row], RowPrompt]
    reads_pages: bool = False


def ask(row: Row) -> RowPrompt:
    r"""The prompt without a suite: the question, with choices as the suites write them; without a question, as `ocr`.

    >>> ask(Row("a.csv:2", (), "Which one?", ("B",), (("A", "a cat"), ("B", "a dog")))).parts
    ('Question: Which one?\nChoices:\nA. a cat\nB. a dog\nAnswer with the letter.',)
    """
    if row.choices:
        return _letter(row)
    question = row.question.strip() or QUESTION
    return _pictures_first(row, f"Hint: {row.hint.strip()}\n{question}" if row.hint.strip() else question)


def reads_pages(name: str | None) -> bool:
    """Whether the task ocr reads the rows of this suite; `name` is None without one."""
    return name is not None and SUITES[name].reads_pages


def default_metric(row: Row) -> str:
    """The metric that fits a row without a suite.

    choice for a row with choices, cer for a row without a question, vqa for answers of several people, else exact.
    """
    if row.choices:
        return "choice"
    if not row.question.strip():
        return "cer"
    return "vqa" if len(row.answers) >= MANY_ANSWERS else "exact"


def _pictures_first(row: Row, text: str, prefill: str = "") -> RowPrompt:
    """All pictures of the row, then the text; the pictures in their places if the question has places for them."""
    if IMAGE_PLACE not in row.question:
        return RowPrompt((*range(len(row.sources)), text), prefill)
    first, *others = text.split(IMAGE_PLACE)
    parts = (first, *(part for number, other in enumerate(others) for part in (number, other)))
    return RowPrompt(tuple(part for part in parts if part != ""), prefill)


def _with_instruction(instruction: str) -> Callable[[Row], RowPrompt]:
    """A function that puts the instruction before the question and asks for a single word or phrase."""
    return lambda row: _pictures_first(row, instruction + (row.question + PHRASE).strip())


def _briefly(row: Row) -> RowPrompt:
    return _pictures_first(row, row.question.strip() + BRIEF)


def _letter(row: Row) -> RowPrompt:
    """Ask for the letter of a choice."""
    return _pictures_first(row, _rename_options(_vlmevalkit_text(row).strip()), PREFILL)


def _vlmevalkit_text(row: Row) -> str:
    """The text that VLMEvalKit's multiple-choice data sets make of a row, for every model."""
    hint = f"Hint: {row.hint}\n" if row.hint.strip() else ""
    options = "".join(f"{letter}. {text}\n" for letter, text in row.choices)
    choices = f"Options:\n{options}Please select the correct answer from the options above. \n" if options else ""
    return f"{hint}Question: {row.question}\n{choices}"


def _rename_options(text: str) -> str:
    """The text as VLMEvalKit's class SmolVLM changes it; it also replaces an "Options:" of the question."""
    text = text.replace("\nOptions:", "\nChoices:")
    return text.replace("Please select the correct answer from the options above.", "Answer with the letter.")


def _pictures_in_text(row: Row) -> RowPrompt:
    """The prompt of MMMU: first the pictures, numbered in the order of their markers, then the text with the markers.

    A picture with two markers is shown twice, one without a marker is left out; if no picture has one, all come first.
    The texts after each marker are stripped one by one, so that an "Options:" at the beginning of one is not replaced.
    """
    pictures: list[int] = []
    texts = [""]
    for part in IMAGE_MARKER.split(_numbered_places(_vlmevalkit_text(row))):
        if IMAGE_MARKER.fullmatch(part) and int(part[-2]) <= len(row.sources):
            pictures.append(int(part[-2]) - 1)
            texts.append("")
        else:
            texts[-1] += part
    if not pictures:
        pictures, texts = list(range(len(row.sources))), [*("" for _ in row.sources), *texts]
    texts = [_rename_options(text.strip().replace("Question:", "")).strip() for text in texts]
    body = texts[0] + "".join(f" <image {number}> {text}" for number, text in enumerate(texts[1:], 1))
    parts: list[str | int] = []
    before = "Question: "
    for number, picture in enumerate(pictures, 1):
        parts += [f"{before}<image {number}>:", picture]
        before = "\n"
    return RowPrompt((*parts, before + body), PREFILL if "A." in body and "B." in body else "")


def _numbered_places(text: str) -> str:
    """The text with each `<image>` as MMMU writes it: `<image 1>`, `<image 2>` ..."""
    first, *others = text.split(IMAGE_PLACE)
    return first + "".join(f"<image {number}>{other}" for number, other in enumerate(others, 1))


SUITES = {
    suite.name: suite
    for suite in (
        Suite("docvqa", "anls", _with_instruction(DOCVQA)),
        Suite("textvqa", "vqa", _with_instruction(TEXTVQA)),
        Suite("chartqa", "relaxed", _with_instruction(CHARTQA)),
        Suite("ocrbench", "contains", _briefly),
        Suite("ai2d", "choice", _letter),
        Suite("scienceqa", "choice", _letter),
        Suite("mmstar", "choice", _letter),
        Suite("mmmu", "mmmu", _pictures_in_text),
        Suite("ocr-pages", "cer", ask, reads_pages=True),
    )
}
