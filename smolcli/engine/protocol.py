"""What goes between the engine's process and its owner: the work, what is asked, what happens."""

from __future__ import annotations

from dataclasses import dataclass

from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model, Sampling
from smolcli.types import Content, Fault, Media, Reply

MARKS = 64  # things that a child may be at, at a time
OPENERS = 4  # threads that open inputs, at most; the first marks are theirs
DECODER = OPENERS  # the mark of the thread that decodes videos
REPLIES = OPENERS + 1  # the first mark of the replies
OPENING = -1  # the slot of an item's opening; its prompts are numbered from 0


@dataclass(frozen=True)
class Work:
    """What the engine does: the backend at a place, "module:class", runs a model; `streams` has every piece told.

    With `sampling` its inputs are videos.
    """

    backend: str
    files: ModelFiles
    model: Model
    input: Input
    generate: Generate
    streams: bool = False
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Opened:
    """An item is open; the frames of `media` have no pixels here."""

    number: int
    media: Media


@dataclass(frozen=True)
class Decoded:
    """The frames of a prompt on a video are there, after so many seconds; `notices` are on frames that are not."""

    number: int
    seconds: float
    notices: tuple[str, ...]


@dataclass(frozen=True)
class PieceReceived:
    """A piece of a reply, where the work streams."""

    number: int
    slot: int
    text: str


@dataclass(frozen=True)
class ReplyReceived:
    """A whole reply."""

    number: int
    slot: int
    reply: Reply


@dataclass(frozen=True)
class Failed:
    """An item that cannot be opened, or that ended the engine."""

    number: int
    fault: Fault
    content: Content = Content()


Event = Opened | Decoded | PieceReceived | ReplyReceived | Failed


def mark(number: int, slot: int) -> int:
    """What a child that is at a prompt, or at an opening, writes into one of its MARKS, and 0 when it is done.

    As many numbers after them count the pieces of each reply. Nothing need be sent, and a child's end leaves them.
    """
    return number << 16 | (slot + 2)
