"""Items of one content, of which one is asked about while the others wait for its answer.

    duplicates.claim(opened)                -> AskModel, Wait or a copy of the answer
    duplicates.finish(number, record)       -> what follows for those that wait
    duplicates.drop(number)                 -> the same, where an item is left out
    duplicates.forget(number)               once others know the answer

Where an item is opened again, `reopen` comes before its next `claim`.

The same code serves a run on this machine and a cluster's driver: it knows items by their numbers, and neither an
engine nor a worker. An item whose worker has died is asked about again under its number, and the others still wait for
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from smolcli.types import Record, Seconds


@dataclass(frozen=True)
class OpenItem:
    """An item that is open: `id` is that of its record, `seconds` what opening it has taken."""

    number: int
    path: str
    paths: tuple[str, ...] | None
    id: str
    stamp: str
    seconds: Seconds

    def copy_of(self, answered: Record) -> Record:
        """The record of another item of the same content for this one."""
        return replace(answered, path=self.path, stamp=self.stamp, seconds=self.seconds, paths=self.paths)


@dataclass(frozen=True)
class AskModel:
    """Ask the model about the item."""


@dataclass(frozen=True)
class Wait:
    """Leave the item as it is: a later decision follows."""


@dataclass
class _Content:
    """The items with one id: the one that is asked about, its record once it is answered, and those that wait."""

    asked: int
    record: Record | None = None
    waiting: dict[int, OpenItem] = field(default_factory=dict)


class Duplicates:
    """Has one of several items of the same content asked about, and gives the others a copy of its answer.

    If that item fails or is left out, the next one is asked about itself: a failure is never copied.

    >>> items = [OpenItem(number, f"{number}.png", None, "0f", "", Seconds()) for number in range(3)]
    >>> duplicates = Duplicates()
    >>> [duplicates.claim(item) for item in items]
    [AskModel(), Wait(), Wait()]
    >>> duplicates.drop(0)
    [(1, AskModel())]
    >>> duplicates.drop(1)
    [(2, AskModel())]
    """

    def __init__(self) -> None:
        self._contents: dict[str, _Content] = {}  # by id
        self._ids: dict[int, str] = {}  # by number, of all items that are asked about or wait

    def claim(self, item: OpenItem) -> AskModel | Wait | Record:
        """Decide what happens with an item; a Record is the copy that it gets.

        An item that is asked about already and comes again, as after the death of its worker, is to be asked about.
        """
        content = self._contents.get(item.id)
        if content is None:
            self._contents[item.id] = _Content(item.number)
        elif content.record is not None:
            return item.copy_of(content.record)
        elif content.asked != item.number:
            content.waiting[item.number] = item
            self._ids[item.number] = item.id
            return Wait()
        self._ids[item.number] = item.id
        return AskModel()

    def finish(self, number: int, record: Record) -> list[tuple[int, AskModel | Record]]:
        """Note the record of an item. Returns what follows for the items that wait for it, by number.

        Each gets a copy, or where the record has no answer the next one is to be asked about. The answer is known until
        `forget`.
        """
        id = self._ids.get(number)
        if id is None or record.error is not None:
            return self.drop(number)
        content = self._contents[id]
        content.record = record
        waiting, content.waiting = content.waiting, {}
        for other in waiting:
            del self._ids[other]
        return [(other, item.copy_of(record)) for other, item in waiting.items()]

    def drop(self, number: int) -> list[tuple[int, AskModel | Record]]:
        """Note that no answer to an item will come. Returns what follows for the items that wait for it."""
        id = self._ids.pop(number, None)
        if id is None:
            return []
        content = self._contents[id]
        if content.waiting.pop(number, None) is not None:
            return []
        if not content.waiting:
            del self._contents[id]
            return []
        content.asked = min(content.waiting)
        del content.waiting[content.asked]
        return [(content.asked, AskModel())]

    def reopen(self, item: OpenItem) -> list[tuple[int, AskModel | Record]]:
        """Note that an item was opened again. Returns what follows for those that wait for it, if it has changed."""
        return self.drop(item.number) if self._ids.get(item.number, item.id) != item.id else []

    def forget(self, number: int) -> None:
        """Forget the answer to an item: those who come later know it from elsewhere."""
        id = self._ids.pop(number, None)
        if id is not None:
            del self._contents[id]
