"""A task: which prompts are asked about an item, and how the replies become an answer.

A task is a frozen dataclass: its fields are its options, its docstring is its help. Most tasks define only
`prompts`. A task that needs several rounds defines `steps`, a generator that yields prompts, is sent their
replies and returns the answer:

    def steps(self, media):
        [note] = yield [Prompt.user(media.frames[0], "What is this?", draft=True)]
        [final] = yield [Prompt.user(f"Say it shorter: {note.text}")]
        return Answer(final.text)

A task never calls a backend: the executor sends its prompts, so that order, streaming, timing and errors are handled
once for all tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from smolcli.options import Output, Sampling
from smolcli.records.record_id import id_options
from smolcli.types import Answer, Media, Prompt, Reply, Steps


@dataclass(frozen=True)
class Task:
    """The base of every task."""

    together = False  # whether all inputs form one item
    reads: ClassVar[str] = "image"  # a key of registry.READERS
    noun: ClassVar[str] = "picture"  # what it reads, in messages
    example: ClassVar[str] = "picture.png"
    examples: ClassVar[tuple[str, ...]] = ()  # command lines for its help
    output_options: ClassVar[type[Output]] = Output
    data_parts: ClassVar[tuple[str, ...]] = ()  # keys of an answer's data that every answer has, whatever is asked
    reads_every_page: ClassVar[bool] = False  # whether `media` has all pages of a picture file, not only the first
    panel = "Answer"

    @property
    def is_multiline(self) -> bool:
        """Whether answers have several lines, so that text output puts each under a heading."""
        return False

    @property
    def sheet(self) -> Path | None:
        """The file for a picture of the frames that are looked at (--contact-sheet)."""
        return None

    @property
    def sampling(self) -> Sampling | None:
        """Which frames are looked at, if the task reads videos."""
        return None

    @property
    def gives_keywords(self) -> bool:
        """Whether answers are lists of keywords rather than descriptions: their data is a list of strings."""
        return False

    @property
    def at_once(self) -> int:
        """How many prompts about one input are asked at a time; 0 if that depends on the input."""
        return 1

    @property
    def id_options(self) -> dict[str, Any]:
        """The options that decide the prompts, by keys that never change: a part of a record's id."""
        return id_options(self)

    def blank_replies(self, media: Media) -> Collection[str]:
        """The replies that say that an item has nothing to read: with them its text is empty and it is `blank`."""
        return ()

    def data_columns(self, fields: Sequence[tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
        """The columns that a table has of an answer's data: their names, and the keys of their values in it.

        `fields` are the keys of the fields of --schema, none without it.
        """
        return [(".".join(keys), keys) for keys in fields]

    def prompts(self, media: Media) -> Sequence[Prompt]:
        """The prompts of a task that asks everything in one round."""
        raise NotImplementedError

    def answer(self, replies: Sequence[Reply]) -> Answer:
        """The answer made of the replies to `prompts`, in their order."""
        return Answer(replies[0].text, replies[0].data)

    def steps(self, media: Media) -> Steps:
        """The whole task as a generator: yields prompts, is sent their replies, returns the answer."""
        replies = yield self.prompts(media)
        return self.answer(replies)
