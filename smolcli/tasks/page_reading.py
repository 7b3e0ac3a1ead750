"""Reads one page piece by piece: which pictures of it the model is asked about, and what its replies make of the page.

    reading = PageReading(request, page, PieceSize(128, 10))
    prompts = reading.prompts()             # -> the pieces that are not read yet
    reading.take(replies)                   # the replies to these, in their order
    page = reading.result()                 # with the text of each line, once `prompts` is empty

A piece is some rows of print below each other in one tile. A reply with another number of lines than the piece has rows
cannot be told apart, and the rows are asked for one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from smolcli.inputs.page import Line, Page, PageRequest, Word
from smolcli.inputs.page_rows import Row, group_rows, make_crop, split_lines
from smolcli.tasks.page_forms.doctags import DOCTAGS, pages_from_doctags
from smolcli.types import Fault, Finish, Prompt, Reply

QUESTION = "What is written in the image?"
DOCTAGS_PROMPT = "Convert this page to docling."  # with which docling's models were trained


class PieceSize(NamedTuple):
    """The size of a piece: `side` of the picture and `x_height` of small letters in pixels, and the most rows."""

    side: int
    x_height: float
    max_rows: int | None = None


@dataclass
class LineText:
    """What was read of a line so far."""

    text: str = ""
    log_probability: float = 0.0  # sum over its characters
    length: int = 0  # characters and line ends

    def add(self, text: str, confidence: float, joins: bool) -> None:
        """Add the text of the line's next row; `joins` where that begins within a word."""
        self.text += text if joins or not self.text else f" {text}"
        count = len(text) + 1
        self.log_probability += count * math.log(max(confidence, 1e-9))
        self.length += count

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the probabilities of the line's tokens; None where it was not read."""
        return math.exp(self.log_probability / self.length) if self.length else None


class PageReading:
    """A page that is being read: the answer to `request`.

    `fault` is that of the first piece without a reply, `finish` the end of the first reply in use that did not stop by
    itself, None where all did.
    """

    def __init__(self, request: PageRequest, page: Page, size: PieceSize) -> None:
        self._request, self._page, self._size = request, page, size
        self._lines = page.lines
        self._rows = split_lines(self._lines, size.side, size.x_height)
        self._unread = group_rows(self._rows, *size)
        self._texts: dict[int, tuple[str, float]] = {}  # by number of the row: its text and confidence
        self.fault: Fault | None = None
        self.finish: Finish | None = None

    def prompts(self) -> list[Prompt]:
        """The prompts for the pieces that are not read."""
        return [self._prompt([self._rows[number] for number in group]) for group in self._unread]

    def take(self, replies: Sequence[Reply]) -> None:
        """Take the replies to `prompts`, in their order."""
        groups, self._unread = self._unread, []
        for group, reply in zip(groups, replies, strict=True):
            if reply.finish.fault is not None:
                self.fault = self.fault or reply.finish.fault
            else:
                self._take(group, reply)

    def _take(self, group: list[int], reply: Reply) -> None:
        texts = list(_lines_of(reply))
        if len(group) == 1:
            logarithms = [math.log(max(confidence, 1e-9)) for _, confidence in texts]
            confidence = math.exp(_mean(logarithms)) if logarithms else 0.0
            self._texts[group[0]] = " ".join(text for text, _ in texts), confidence
        elif len(texts) == len(group):
            self._texts.update(zip(group, texts, strict=True))
        else:
            self._unread += [[number] for number in group]
            return
        if reply.finish.reason != "stop":
            self.finish = self.finish or reply.finish

    def result(self) -> Page:
        """The page with what was read."""
        texts = [LineText() for _ in self._lines]
        for number, row in enumerate(self._rows):
            if self._texts.get(number, ("", 0.0))[0]:
                texts[row.line].add(*self._texts[number], row.is_cut)
        lines = iter([_with_text(line, text) for line, text in zip(self._lines, texts, strict=True)])
        regions = tuple(
            replace(region, lines=tuple(next(lines) for _ in region.lines)) for region in self._page.regions
        )
        return replace(self._page, regions=regions)

    def _prompt(self, rows: Sequence[Row]) -> Prompt:
        side = self._size.side
        crop = make_crop(rows, side, self._size.x_height, self._request.half_turn)
        frame = replace(self._request.frame, width=side, height=side, crop=crop)
        return replace(Prompt.user(frame, QUESTION, split=False), page=self._page.number)


def _lines_of(reply: Reply) -> Iterable[tuple[str, float]]:
    """The lines of a reply that are not empty, with their confidences; of DocTags without the tags."""
    overall = reply.finish.confidence or 0.0
    confidences = reply.finish.line_confidences
    rows = reply.text.split("\n")
    if DOCTAGS.search(reply.text):
        rows, confidences = [line.text for page in pages_from_doctags(reply.text) for line in page.lines], ()
    for number, text in enumerate(rows):
        if text.strip():
            yield text.strip(), confidences[number] if number < len(confidences) else overall


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _with_text(line: Line, read: LineText) -> Line:
    """A line with its text; its words have theirs where there are as many."""
    texts = read.text.split()
    words = line.words
    if len(texts) == len(words):
        words = tuple(Word(word.box, text) for word, text in zip(words, texts, strict=True))
    return replace(line, text=read.text, confidence=read.confidence, words=words)
