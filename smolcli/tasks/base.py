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

import math
from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from smolcli.inputs.page import PageRequest
from smolcli.inputs.pages import Pages
from smolcli.options import Output, Sampling
from smolcli.records.record_id import id_options
from smolcli.terminal.option_fields import opt
from smolcli.types import Answer, Media, Prompt, Reply

# What a task asks at a time: a model, or what is on a page.
Requests = Sequence[Prompt | PageRequest]
# What Task.steps returns: a generator that yields requests, is sent their replies and returns the answer.
Steps = Generator[Requests, Sequence[Reply], Answer]


def raw_option() -> Any:
    """Make the option --raw, of a task that asks what the user has written."""
    return opt(
        False,
        "Give the model the text to continue, without the turns of a conversation.\n"
        "Pictures come first, unless {1}, {2} place them. SmolVLM's -Base and -Synthetic always get plain text.",
        "--raw",
        id_key="raw",
    )


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
    unsure_below: ClassVar[float] = 0.0  # the confidence below which the user is told that an answer may be wrong
    judges_faults: ClassVar[bool] = False  # whether `steps` is sent replies with faults, also where all have one
    panel = "Answer"

    @property
    def is_multiline(self) -> bool:
        """Whether answers have several lines, so that text output puts each under a heading."""
        return False

    @property
    def text_suffix(self) -> str:
        """The suffix of files that hold the text of its answers."""
        return ".txt"

    @property
    def makes_documents(self) -> bool:
        """Whether the text of an answer is a document of its own, as XML is, which no other can follow in a file."""
        return False

    @property
    def searchable(self) -> Path | None:
        """The PDF for all pages with their text (--searchable)."""
        return None

    @property
    def sheet(self) -> Path | None:
        """The file for a picture of the frames that are looked at (--contact-sheet)."""
        return None

    @property
    def sampling(self) -> Sampling | None:
        """Which frames are looked at, if the task reads videos."""
        return None

    @property
    def shows_replies(self) -> bool:
        """Whether the reply to a single prompt is the text of the answer, so that its pieces can be shown."""
        return True

    @property
    def asks_for_pages(self) -> bool:
        """Whether it asks PageRequests."""
        return False

    @property
    def page_options(self) -> Pages:
        """Which pages are looked at, if the task reads every page."""
        return Pages()

    @property
    def gives_tables(self) -> bool:
        """Whether the data of answers has tables, whose rows are what csv and tsv hold."""
        return False

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

    def text_so_far(self, reply: str) -> str:
        """What is shown of a reply that is being written, whose text so far is `reply`."""
        return reply

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


def mean_confidence(replies: Iterable[Reply]) -> float | None:
    """The geometric mean of the probabilities of the tokens of several replies; None if no reply has a confidence.

    A reply counts as often as it has tokens, an empty one once.

    >>> from smolcli.types import Finish, Tokens
    >>> replies = [Reply("a cat", Finish("stop", Tokens(new=3), confidence=0.8))]
    >>> replies += [Reply("2", Finish("stop", Tokens(new=1), confidence=0.5))]
    >>> round(mean_confidence(replies) ** 4, 6)  # 0.8 * 0.8 * 0.8 * 0.5
    0.256
    """
    pairs = [
        (reply.finish.confidence, max(1, reply.finish.tokens.new))
        for reply in replies
        if reply.finish.confidence is not None
    ]
    if not pairs:
        return None
    if any(confidence == 0 for confidence, _ in pairs):
        return 0.0
    return math.exp(sum(math.log(confidence) * count for confidence, count in pairs) / sum(count for _, count in pairs))
