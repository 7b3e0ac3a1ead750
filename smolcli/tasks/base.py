"""A task: what is asked about an item, and what is made of the replies.

A task is a frozen dataclass: its fields are its options, its docstring is its help. Most write only
`prompts`; a task of several calls writes `steps`, a generator that yields prompts, is sent their
replies and returns the answer:

    def steps(self, media):
        [note] = yield [Prompt.user(media.frames[0], "What is this?", draft=True)]
        [final] = yield [Prompt.user(f"Say it shorter: {note.text}")]
        return Answer(final.text)

It never holds a backend: pipeline/run.py feeds it, so order, streaming, time and errors are handled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from smolcli.options import Sampling
from smolcli.records.record_id import id_options
from smolcli.types import Answer, Media, Prompt, Reply, Steps


@dataclass(frozen=True)
class Task:
    """The base of every task."""

    together = False  # whether all inputs are one item
    reads: ClassVar[str] = "image"  # of registry.READERS
    noun: ClassVar[str] = "picture"  # what it reads, for people
    example: ClassVar[str] = "picture.png"

    @property
    def blocks(self) -> bool:
        """Whether answers have lines, so that text output sets them under headings."""
        return False

    @property
    def is_plan(self) -> bool:
        """Whether only what would be looked at is shown."""
        return False

    @property
    def sheet(self) -> Path | None:
        """Where a picture of what is looked at goes."""
        return None

    @property
    def sampling(self) -> Sampling | None:
        """Of a task that reads videos, which of their frames."""
        return None

    @property
    def at_once(self) -> int:
        """How many prompts on one input there are at a time; 0 where that depends on the input."""
        return 1

    @property
    def id_options(self) -> dict[str, Any]:
        """All that decides the prompts beside the medium, by keys that never change: a part of a record's id."""
        return id_options(self)

    def prompts(self, media: Media) -> Sequence[Prompt]:
        """The prompts of a task that asks everything at once."""
        raise NotImplementedError

    def answer(self, replies: Sequence[Reply]) -> Answer:
        """What is made of their replies."""
        return Answer(replies[0].text, replies[0].data)

    def steps(self, media: Media) -> Steps:
        """The whole task as a generator."""
        replies = yield self.prompts(media)
        return self.answer(replies)
