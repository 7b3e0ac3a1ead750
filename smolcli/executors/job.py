"""One item on its way to its record: where it is, and how it gets on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from smolcli.executors.conversation import Conversation, Totals
from smolcli.executors.duplicates import OpenItem
from smolcli.types import Content, Item, Media, Record, Seconds


class JobStage(Enum):
    """Where an item is on its way to its record, and what it waits for there.

        OPENING ──> OPEN ──> ASKED ──> DONE          the usual way
                    OPEN ──> WAITING ──> DONE        another item of the same content is asked, and this one has a copy
                    OPEN ──> DONE                    the answer is known from an earlier run, or earlier in this one
                             WAITING ──> ASKED       the other item has failed
        OPENING, OPEN, WAITING, ASKED ──> DONE       it has failed

    An item that has a record among the results is left out, at OPEN or DONE. So is one that is not ASKED or DONE when
    the run is stopped.
    """

    OPENING = "the engine opens it"
    OPEN = "its turn: all items before it that the same engine opens have to be open"
    WAITING = "what others decide: the answer to its content is on its way, or a cluster's driver is asked for it"
    ASKED = "replies of the model"
    DONE = "its turn: the records of all items before it have to be given out"


NEXT: dict[JobStage, tuple[JobStage, ...]] = {
    JobStage.OPENING: (JobStage.OPEN, JobStage.DONE),
    JobStage.OPEN: (JobStage.WAITING, JobStage.ASKED, JobStage.DONE),
    JobStage.WAITING: (JobStage.ASKED, JobStage.DONE),
    JobStage.ASKED: (JobStage.DONE,),
    JobStage.DONE: (),
}


@dataclass(eq=False)
class Job:
    """One item on its way to its record. `stage` changes by its methods alone, which raise ValueError for another way.

    `media` is empty and `id` is "" before OPEN; `conversation` is there from ASKED on, `record` from DONE on.
    """

    number: int
    item: Item
    stage: JobStage = JobStage.OPENING
    media: Media = Media(())
    id: str = ""
    conversation: Conversation | None = None
    record: Record | None = None
    notices: dict[str, None] = field(default_factory=dict)  # each once, in order
    is_replaced: bool = False  # whether another item was let in while its record waits

    def open(self, media: Media, id: str) -> None:
        """To OPEN: the engine has opened it; `id` is that of its record."""
        self._go_to(JobStage.OPEN)
        self.media, self.id = media, id
        self.add_notices(media.notices)

    def wait(self) -> None:
        """To WAITING: others decide whether it is asked about."""
        self._go_to(JobStage.WAITING)

    def ask(self, conversation: Conversation) -> None:
        """To ASKED: the model is asked about it."""
        self._go_to(JobStage.ASKED)
        self.conversation = conversation

    def fail(self, content: Content, id: str) -> None:
        """Note another content, before its record says why it has failed: it may have changed since it was opened."""
        self.media, self.id = Media((), content, self.media.seconds), id

    def finish(self, record: Record) -> None:
        """To DONE: this is its record."""
        self._go_to(JobStage.DONE)
        self.record = record

    def add_notices(self, notices: Iterable[str]) -> None:
        """Note what a reader should know of its answer."""
        self.notices.update(dict.fromkeys(notices))

    @property
    def totals(self) -> Totals:
        """What its replies add up to; nothing where it was not asked about."""
        return Totals() if self.conversation is None else self.conversation.totals

    @property
    def seconds(self) -> Seconds:
        """What opening it and its replies have taken."""
        return Seconds(media=self.media.seconds) + self.totals.seconds

    @property
    def is_begun(self) -> bool:
        """Whether it has had a reply and waits for more."""
        return self.stage is JobStage.ASKED and self.conversation is not None and self.conversation.has_reply

    @property
    def open_item(self) -> OpenItem:
        """What is to be known of it to decide whether the model is asked."""
        item = self.item
        return OpenItem(self.number, item.path, item.paths, self.id, self.media.content.stamp, self.seconds)

    def _go_to(self, stage: JobStage) -> None:
        if stage not in NEXT[self.stage]:
            raise ValueError(f"{self.item.path} cannot go from {self.stage.name} to {stage.name}")
        self.stage = stage
