"""The engines of a run: one for each device that --device stands for, used as if they were one.

    engines = Engines(work, inbox, timeout=600)
    engines.open(0, Item.of("a.png"))      # by the engine with the fewest items
    for event in engines.handle(inbox.get()): ...

The first engine is started at once. Its process has loaded the library that knows the devices, and tells their names;
the owner's process never loads it. Another engine is started when each one has enough items, so that one picture loads
one model.

An engine that is slow, or starts again, delays only what it has begun. An item goes where the fewest are, and while an
engine starts again to another one. One that has nothing to do takes half of what waits where most does. One that cannot
go on is left out, as where its model is not loaded or its children keep crashing, and the others answer all its items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count

from smolcli.engine.client import Engine
from smolcli.engine.protocol import DeviceLeftOut, DevicesFound, Event, InboxMessage, Work
from smolcli.engine.watchdog import LOAD_SECONDS
from smolcli.errors import SmolError
from smolcli.inputs.page import PageRequest
from smolcli.process.inbox import Inbox
from smolcli.types import Item, Memory, Prompt

ENOUGH = 16  # items in each engine before another one is started, whose model takes seconds to load
ENOUGH_VIDEOS = 1


class Engines:
    """Opens items and answers prompts as Engine does, each item in one of several engines."""

    def __init__(
        self, work: Work, inbox: Inbox[InboxMessage], timeout: float = LOAD_SECONDS, verbose: bool = False
    ) -> None:
        self._work, self._inbox, self._timeout, self._verbose = work, inbox, timeout, verbose
        self._child_numbers = count()  # shared, so that each engine knows the messages of its own children
        self._enough = ENOUGH if work.sampling is None else ENOUGH_VIDEOS
        self._engines = [self._make(work)]
        self._devices = [work.model.device]  # of the engines; of the first the word of --device until its own is known
        self._other_devices: list[str] = []  # on which no engine was started
        self._left_out: set[int] = set()  # the engines that could not go on
        self._engine_of: dict[int, int] = {}  # by the number of an item that is not done, the index of its engine
        self._items_in: Counter[int] = Counter()  # how many of these each engine has

    def open(self, number: int, item: Item) -> None:
        """Have an item opened by an engine with few items, or by a new one if each has enough."""
        index = self._idlest()
        if self._other_devices and self._items_in[index] >= self._enough:
            index = len(self._engines)
            self._devices.append(self._other_devices.pop(0))
            model = replace(self._work.model, device=self._devices[-1])
            self._engines.append(self._make(replace(self._work, model=model, lists_devices="")))
        self._give(number, index)
        self._engines[index].open(number, item)

    def ask(self, number: int, slot: int, prompt: Prompt | PageRequest) -> None:
        """Have a request about an open item answered, by the engine that has opened it."""
        self._engines[self._engine_of[number]].ask(number, slot, prompt)

    def release(self, number: int) -> None:
        """Free what is held for an item that is done; no events come for it any more."""
        index = self._engine_of.pop(number, None)
        if index is not None:
            self._items_in[index] -= 1
            self._engines[index].release(number)

    def flush(self) -> None:
        """Send what was asked for since the last call."""
        self._share_out()
        for engine in self._engines:
            engine.flush()

    def handle(self, message: InboxMessage) -> list[Event]:
        """Turn a message from the inbox into events.

        Raises as Engine.handle where no other engine can go on in its place.
        """
        if isinstance(message.message, DevicesFound):
            if len(self._engines) == 1:  # else it is from a child that was started in place of a lost one
                self._devices[0], *self._other_devices = message.message.devices
            return [message.message]
        return self._gather(lambda engine: engine.handle(message))

    def check(self) -> list[Event]:
        """Look whether anything takes too long, if it is time to. Raises as Engine.check, but see `handle`."""
        return self._gather(lambda engine: engine.check())

    def close(self) -> None:
        """End all engines, at once if they are busy."""
        for engine in self._engines:
            engine.stop()
        for engine in self._engines:
            engine.close()

    @property
    def count(self) -> int:
        """How many engines there are, without those that are left out."""
        return len(self._usable)

    def engine_of(self, number: int) -> int | None:
        """The index of the engine that has an item; None for one that it was not given, or that is done."""
        return self._engine_of.get(number)

    @property
    def items_in_progress(self) -> set[int]:
        """The items whose prompts a model works on, or has answered without the reply being handled yet."""
        return set().union(*(engine.items_in_progress for engine in self._engines))

    def first_of_each(self, numbers: Iterable[int]) -> set[int]:
        """Return of these items the first that each engine has."""
        first: dict[int, int] = {}
        for number in sorted(numbers):
            if number in self._engine_of:
                first.setdefault(self._engine_of[number], number)
        return set(first.values())

    @property
    def seconds_until_check(self) -> float:
        """Seconds after which `check` is to be called."""
        return min(engine.seconds_until_check for engine in self._engines)

    @property
    def ready_at(self) -> float:
        """When the first model was loaded, by time.perf_counter; 0 before."""
        return min(filter(None, (engine.ready_at for engine in self._engines)), default=0.0)

    @property
    def memory(self) -> Memory:
        """The sums of the engines' peaks."""
        peaks = [engine.memory for engine in self._engines]
        return Memory(0, sum(peak.engine for peak in peaks), sum(peak.gpu for peak in peaks))

    @property
    def _usable(self) -> list[int]:
        """The engines that are not left out."""
        return [index for index in range(len(self._engines)) if index not in self._left_out]

    def _idlest(self) -> int:
        """The engine with the fewest items, of those that do not start again if there is one."""
        return min(self._usable, key=lambda index: (self._engines[index].is_restarting, self._items_in[index]))

    def _give(self, number: int, index: int) -> None:
        self._engine_of[number] = index
        self._items_in[index] += 1

    def _move(self, number: int, index: int) -> None:
        """Have another engine go on with an item."""
        before = self._engine_of[number]
        self._items_in[before] -= 1
        self._give(number, index)
        self._engines[before].hand_over(number, self._engines[index])

    def _share_out(self) -> None:
        """Give each engine that has nothing to do the first half of what waits in the one where most does.

        Of a single item that waits for a model to be loaded nothing is left; a loaded model begins with it soon.
        """
        if len(usable := self._usable) == 1:
            return
        for index in usable:
            if self._engines[index].is_idle:
                busiest, waiting = max(
                    ((other, self._engines[other].waiting_items) for other in usable), key=lambda pair: len(pair[1])
                )
                for number in waiting[: (len(waiting) + (not self._engines[busiest].is_loaded)) // 2]:
                    self._move(number, index)

    # ---- an engine cannot go on ------------------------------------------------------------------------

    def _gather(self, events_of: Callable[[Engine], list[Event]]) -> list[Event]:
        """The events of all engines; of one that raises an error, that it is left out."""
        events: list[Event] = []
        for index, engine in enumerate(self._engines):
            try:
                events += events_of(engine)
            except SmolError as error:
                if not self._has_substitute(index):
                    raise
                events.append(self._leave_out(index, error))
        return events

    def _has_substitute(self, index: int) -> bool:
        """Whether there is another engine that has loaded its model, or that was started earlier and still loads it.

        So a fault that all of them have is told once, by the first.
        """
        return any(other < index or self._engines[other].ready_at for other in self._usable if other != index)

    def _leave_out(self, index: int, error: SmolError) -> DeviceLeftOut:
        """Have the items of an engine that cannot go on answered by the others."""
        self._engines[index].stop()
        self._left_out.add(index)
        for number in sorted(number for number, engine in self._engine_of.items() if engine == index):
            self._move(number, self._idlest())
        return DeviceLeftOut(self._devices[index], error.what)

    def _make(self, work: Work) -> Engine:
        return Engine(work, self._inbox, self._timeout, self._verbose, child_numbers=self._child_numbers)
