"""The task ask."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smolcli.errors import UsageError
from smolcli.models.chat_template import require_plain_text
from smolcli.tasks.base import Task, raw_option
from smolcli.terminal.option_fields import opt
from smolcli.types import Answer, Media, Part, Prompt, Reply

PLACE = re.compile(r"\{(\d+)\}")


@dataclass(frozen=True)
class Ask(Task):
    """Answer a question about each picture."""

    question: str = opt(
        "",
        "What to ask; @NAME is a saved prompt.",
        id_key="question",
        saved=True,
        argument=True,
        panel="Inputs",
        metavar="QUESTION",
        show_default=False,
    )
    also: tuple[str, ...] = opt(
        (),
        "Ask this too, about the same picture; repeatable.",
        "-Q",
        "--also",
        id_key="also",
        short=True,
        saved=True,
        metavar="QUESTION",
    )
    together: bool = opt(
        False,
        "Ask once about all inputs together, in order; {1} and {2} in the question say where each belongs.",
        "--together",
        id_key="together",
        short=True,
    )
    raw: bool = raw_option()

    examples = (
        'smolcli ask "How many people are there?" photo.jpg',
        'smolcli ask "What is the total?" -Q "Which currency?" receipts/ -f jsonl',
        'smolcli ask --together "What differs between {1} and {2}?" a.png b.png',
    )

    def __post_init__(self) -> None:
        for question in (self.question, *self.also):
            if not question.strip():
                raise UsageError("the question is empty", 'smolcli ask "What is this?" picture.png')
            require_plain_text(question)

    @property
    def is_multiline(self) -> bool:
        """An answer a line where there are several."""
        return bool(self.also)

    @property
    def at_once(self) -> int:
        return 1 + len(self.also)

    def prompts(self, media: Media) -> Sequence[Prompt]:
        questions = (self.question, *self.also)
        return [Prompt.user(*self._parts(question, media), raw=self.raw) for question in questions]

    def answer(self, replies: Sequence[Reply]) -> Answer:
        """One question: its answer. Several: an answer a line, and question-answer pairs as data."""
        if not self.also:
            return super().answer(replies)
        pairs = zip((self.question, *self.also), replies, strict=True)
        data = [
            {"question": question, "answer": reply.text if reply.data is None else reply.data}
            for question, reply in pairs
        ]
        return Answer("\n".join(reply.text for reply in replies), data)

    def data_columns(self, fields: Sequence[tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
        """With --also one for each question, or for each field of each answer."""
        if not self.also:
            return super().data_columns(fields)
        questions = dict.fromkeys((self.question, *self.also))
        return [(".".join((question, *keys)), (question, *keys)) for question in questions for keys in fields or [()]]

    def _parts(self, question: str, media: Media) -> list[Part]:
        """The pictures where {1}, {2} ... stand in a question about several; those without a place before it."""
        places = PLACE.split(question)
        if not self.together or len(places) == 1:
            return [*media.frames, question]
        named = {int(place) for place in places[1::2]}
        parts: list[Part] = [frame for number, frame in enumerate(media.frames, 1) if number not in named]
        for number, part in enumerate(places):
            if number % 2 == 0:
                parts += [part] if part else []
            elif 1 <= int(part) <= len(media.frames):
                parts.append(media.frames[int(part) - 1])
            else:
                raise UsageError(f"{{{part}}} in the question names no input", f"there are {len(media.frames)}")
        return parts
