"""What travels between the engine's process and its owner: the configuration, messages, events, and progress cells.

The owner numbers its items. A request is the opening of an item, or one prompt about it; its id is the number of the
item and a slot. Messages in both directions are tuples that begin with the name of the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from smolcli.errors import ErrorKind
from smolcli.models.chat_template import Grid
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model, Sampling
from smolcli.process.pipe import ErrorParts
from smolcli.types import Content, Fault, Item, Media, Prompt, Reply

CELLS = 64  # progress cells: requests that a child can be working on at a time
OPENERS = 4  # most threads that open inputs; thread n writes cell n
DECODER_CELL = OPENERS  # the cell of the thread that decodes videos and pages
FIRST_REPLY_CELL = OPENERS + 1  # from here on, one cell for each prompt that the model is working on
OPENING = -1  # the slot of an item's opening; its prompts are numbered from 0


@dataclass(frozen=True)
class Work:
    """What an engine is started for: `backend` is the class that runs the model, as "module:class".

    With `streams` the engine sends every piece of a reply as it comes. With `sampling` its inputs are videos. With
    `every_page` all pages of a picture file are frames of its item, not only the first.
    """

    backend: str
    files: ModelFiles
    model: Model
    input: Input
    generate: Generate
    streams: bool = False
    sampling: Sampling | None = None
    every_page: bool = False

    @property
    def decodes_by_prompt(self) -> bool:
        """Whether an input may have more pictures than fit in memory, so that they are decoded prompt by prompt."""
        return self.sampling is not None or self.every_page


class OpenedPlan(NamedTuple):
    """For --dry-run: an input as a task sees it, without pixels, and how each of its pictures is cut into tiles.

    `grids` is empty for a video, whose frames are one tile each.
    """

    media: Media
    grids: tuple[Grid, ...] = ()


class RequestId(NamedTuple):
    """The number of an item, and OPENING or the slot of one of its prompts."""

    number: int
    slot: int

    @property
    def is_opening(self) -> bool:
        """Whether it is the opening of the item, not a prompt."""
        return self.slot == OPENING


# ---- messages ------------------------------------------------------------------------------------------

OpenMessage = tuple[Literal["open"], int, Item]  # number
AskMessage = tuple[Literal["ask"], int, int, Prompt]  # number, slot
ReleaseMessage = tuple[Literal["release"], int]  # number
StopMessage = tuple[Literal["stop"]]
OwnerMessage = OpenMessage | AskMessage | ReleaseMessage | StopMessage

ReadyMessage = tuple[Literal["ready"]]  # the model is loaded
OpenedMessage = tuple[Literal["opened"], int, Media]  # number
NotOpenedMessage = tuple[Literal["not opened"], int, Fault, Content]  # number
DecodedMessage = tuple[Literal["decoded"], int, float, tuple[str, ...]]  # number, seconds, notices
PieceMessage = tuple[Literal["piece"], int, int, str]  # number, slot, text
ReplyMessage = tuple[Literal["reply"], int, int, Reply, int, int]  # number, slot; peak bytes of the process, of the GPU
ErrorMessage = tuple[Literal["error"], ErrorParts]  # what ended the engine's function; sent by process/worker_main.py
ExitedMessage = tuple[Literal["exited"]]  # put into the inbox by the thread that reads the pipe
GiveUpMessage = tuple[Literal["give up"], Fault]  # put into the inbox by the owner's side itself
EngineMessage = (
    ReadyMessage | OpenedMessage | NotOpenedMessage | DecodedMessage | PieceMessage | ReplyMessage | ErrorMessage
    | ExitedMessage | GiveUpMessage
)  # fmt: skip
InboxMessage = tuple[int, EngineMessage]  # which child it is from, counted from 0, and the message


class Inbox(Protocol):
    """A queue that takes the engine's messages: a SimpleQueue, which may hold other messages of its owner too."""

    def put(self, item: InboxMessage, /) -> None:
        """Append a message. Called from several threads."""
        ...


# ---- events --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """An item is open; the frames of `media` come without their pixels, which stay in the engine's process."""

    number: int
    media: Media


@dataclass(frozen=True)
class Decoded:
    """The frames or pages of one prompt were decoded in `seconds`; `notices` tell what came up."""

    number: int
    seconds: float
    notices: tuple[str, ...]


@dataclass(frozen=True)
class PieceReceived:
    """A piece of a reply. Only where the work streams."""

    number: int
    slot: int
    text: str


@dataclass(frozen=True)
class ReplyReceived:
    """The whole reply to a prompt."""

    number: int
    slot: int
    reply: Reply


@dataclass(frozen=True)
class Failed:
    """An item cannot be opened, took too long, or ended the engine's process."""

    number: int
    fault: Fault
    content: Content = Content()


@dataclass(frozen=True)
class Restarted:
    """The child was lost, for a reason of this `kind`, while it worked on these items; a new one goes on with them."""

    kind: ErrorKind
    numbers: tuple[int, ...] = ()


Event = Opened | Decoded | PieceReceived | ReplyReceived | Failed | Restarted


# ---- progress cells ------------------------------------------------------------------------------------


class Activity(NamedTuple):
    """How far a request is that the child is working on."""

    is_in_model: bool  # the model is working on it; else it is being opened or decoded
    has_output: bool  # pieces of its reply have come


class ProgressCells:
    """Shows in shared memory what the child is working on: no message is needed, and the values outlive the child.

    `memory` has 2 * CELLS integers of 64 bits. The first CELLS name the requests that are under way, 0 for none; the
    others count the pieces of each one's reply.

    >>> cells = ProgressCells(memoryview(bytearray(2 * CELLS * 8)).cast("q"))
    >>> cells.begin(0, RequestId(7, OPENING))
    >>> cells.begin(FIRST_REPLY_CELL, RequestId(6, 0))
    >>> cells.count_piece(FIRST_REPLY_CELL)
    >>> for request, activity in cells.activity().items():
    ...     print(*request, activity)
    7 -1 Activity(is_in_model=False, has_output=False)
    6 0 Activity(is_in_model=True, has_output=True)
    >>> cells.clear(0)
    >>> list(cells.activity())
    [RequestId(number=6, slot=0)]
    """

    def __init__(self, memory: memoryview[int]) -> None:
        self._memory = memory

    def begin(self, cell: int, request: RequestId) -> None:
        """Say that work on a request begins."""
        self._memory[cell] = request.number << 16 | (request.slot + 2)

    def count_piece(self, cell: int) -> None:
        """Say that one more piece of the cell's reply has come."""
        self._memory[CELLS + cell] += 1

    def clear(self, cell: int) -> None:
        """Say that the cell's request is done."""
        self._memory[cell] = self._memory[CELLS + cell] = 0

    def activity(self) -> dict[RequestId, Activity]:
        """The requests under way, in the order of their cells. A request may still be here after its answer came."""
        values = self._memory.tolist()
        return {
            RequestId(value >> 16, (value & 0xFFFF) - 2): Activity(cell >= FIRST_REPLY_CELL, bool(values[CELLS + cell]))
            for cell, value in enumerate(values[:CELLS])
            if value
        }

    def values(self) -> tuple[int, ...]:
        """All integers as they are now: they differ from an earlier reading if anything has gone on."""
        return tuple(self._memory)
