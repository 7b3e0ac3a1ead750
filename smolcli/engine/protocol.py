"""What travels between the engine's process and its owner: what an engine is started for, messages, and events.

The owner numbers its items. A request is the opening of an item, or one prompt about it; its id is the number of the
item and a slot. A message is a frozen dataclass, taken apart with `match`. What the engine is working on is not sent
but read from shared memory: see progress_cells.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from smolcli.engine.progress_cells import OPENING, RequestId
from smolcli.errors import ErrorKind
from smolcli.inputs.page import Page, PageRequest
from smolcli.inputs.pages import Pages
from smolcli.models.chat_template import Grid
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model, Sampling
from smolcli.process.pipe import FunctionFailed
from smolcli.types import Content, Fault, Item, Media, Memory, Prompt, Reply

OPENERS = 4  # most threads that open inputs


@dataclass(frozen=True)
class Work:
    """What an engine is started for: `backend` is the class that runs the model, as "module:class".

    With `streams` the engine sends every piece of a reply as it comes. With `sampling` its inputs are videos. With
    `every_page` all pages of a file are frames of its item, not only the first, or those that `pages` chooses. With
    `asks_for_pages` their layout is asked for. `lists_devices` is the function, as "module:function", that returns the
    devices for which the model's --device stands, each of which may have an engine; "" if there is but one.
    """

    backend: str
    files: ModelFiles
    model: Model
    input: Input
    generate: Generate
    streams: bool = False
    sampling: Sampling | None = None
    every_page: bool = False
    asks_for_pages: bool = False
    pages: Pages = Pages()
    lists_devices: str = ""

    @property
    def chosen_pages(self) -> Pages | None:
        """Which pages of a file are frames of its item; None for the first one of a picture file."""
        return self.pages if self.every_page else None

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


# ---- messages from the owner, several at a time: a tuple of them is one value on the pipe ---------------


@dataclass(frozen=True)
class Open:
    """Open an item."""

    number: int
    item: Item

    @property
    def request(self) -> RequestId:
        """Its id."""
        return RequestId(self.number, OPENING)

    @property
    def reads_file(self) -> bool:
        """Whether no model is run for it."""
        return True


@dataclass(frozen=True)
class Ask:
    """Answer a prompt about an item that was sent before, or say what is on a page of it.

    `slot` tells it from the item's other requests.
    """

    number: int
    slot: int
    prompt: Prompt | PageRequest

    @property
    def request(self) -> RequestId:
        """Its id."""
        return RequestId(self.number, self.slot)

    @property
    def reads_file(self) -> bool:
        """Whether no model is run for it."""
        return isinstance(self.prompt, PageRequest)


@dataclass(frozen=True)
class Release:
    """Free what is held for an item."""

    number: int


@dataclass(frozen=True)
class Stop:
    """End the process."""


OwnerMessage = Open | Ask | Release | Stop


# ---- messages from the engine ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """The model is loaded, and answers at most so many prompts at once."""

    max_sequences: int = 1


@dataclass(frozen=True)
class DevicesFound:
    """The devices for which --device stands, the first of them this engine's; sent before the model is loaded."""

    devices: tuple[str, ...]


@dataclass(frozen=True)
class ItemOpened:
    """An item is open; the frames of `media` have no pixels, which stay in the engine's process."""

    number: int
    media: Media


@dataclass(frozen=True)
class ItemNotOpened:
    """An item cannot be opened; `content` is what was read of it."""

    number: int
    fault: Fault
    content: Content


@dataclass(frozen=True)
class FramesDecoded:
    """The frames or pages of one prompt are decoded, or cut into tiles; `notices` tell what came up."""

    number: int
    notices: tuple[str, ...]


@dataclass(frozen=True)
class PieceMade:
    """A piece of a reply. Only where the work streams."""

    number: int
    slot: int
    text: str


@dataclass(frozen=True)
class ReplyMade:
    """The whole reply to a prompt; `memory` are the peaks of the engine's process, and on the GPU."""

    number: int
    slot: int
    reply: Reply
    memory: Memory

    @property
    def is_from_model(self) -> bool:
        """Whether the model has made it; the answer to a PageRequest is a page, or a fault."""
        return not isinstance(self.reply.data, Page)

    @property
    def request(self) -> RequestId:
        """The id of what it answers."""
        return RequestId(self.number, self.slot)


# ---- what the owner's side puts into its own inbox ------------------------------------------------------


@dataclass(frozen=True)
class Exited:
    """The child has ended; put by the thread that reads its pipe."""


# FunctionFailed is what ended the engine's function, sent by process/worker_main.py.
EngineMessage = (
    Ready | DevicesFound | ItemOpened | ItemNotOpened | FramesDecoded | PieceMade | ReplyMade | FunctionFailed | Exited
)


class InboxMessage(NamedTuple):
    """A message and the child that it is from, counted from 0."""

    child: int
    message: EngineMessage


# ---- events: what the owner's side of the engine reports to an executor ---------------------------------


@dataclass(frozen=True)
class Opened:
    """An item is open; the frames of `media` come without their pixels, which stay in the engine's process."""

    number: int
    media: Media


@dataclass(frozen=True)
class Decoded:
    """The frames or pages of one prompt were decoded, or cut into tiles; `notices` tell what came up."""

    number: int
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


@dataclass(frozen=True)
class DeviceLeftOut:
    """A device whose engine cannot go on, and why; the other engines answer its prompts."""

    device: str
    reason: str


Event = Ready | DevicesFound | DeviceLeftOut | Opened | Decoded | PieceReceived | ReplyReceived | Failed | Restarted
