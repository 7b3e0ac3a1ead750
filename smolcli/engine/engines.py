"""The engines of a run: one for each device that --device stands for, used as if they were one.

    engines = Engines(work, inbox, timeout=600)
    engines.open(0, Item.of("a.png"))      # by the engine with the fewest items
    for event in engines.handle(inbox.get()): ...

The first engine is started at once. Its process has loaded the library that knows the devices, and tells their names;
the owner's process never loads it. Another engine is started when each one has enough items, so that one picture loads
one model. If its model cannot be loaded and nobody has asked for its device, the others go on with its items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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
        self._devices = [work.model.device]  # of the engines
        self._other_devices: list[str] = []  # on which no engine was started
        self._left_out: set[int] = set()  # the engines that could not be loaded
        self._engine_of: dict[int, int] = {}  # by the number of an item that is not done, the index of its engine
        self._items_in: Counter[int] = Counter()  # how many of these each engine has

    def open(self, number: int, item: Item) -> None:
        """Have an item opened by the engine with the fewest items, or by a new one if each has enough."""
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
        for engine in self._engines:
            engine.flush()

    def handle(self, message: InboxMessage) -> list[Event]:
        """Turn a message from the inbox into events.

        Raises as Engine.handle, but not where --device is "auto" and another engine than the first cannot be loaded.
        """
        if isinstance(message.message, DevicesFound):
            if len(self._engines) == 1:  # else it is from a child that was started in place of a lost one
                self._other_devices = list(message.message.devices[1:])
            return [message.message]
        events: list[Event] = []
        for index, engine in enumerate(self._engines):
            try:
                events += engine.handle(message)
            except SmolError as error:
                if index == 0 or engine.ready_at or self._work.model.device != "auto":
                    raise
                events.append(self._leave_out(index, error))
        return events

    def check(self) -> list[Event]:
        """Look whether anything takes too long, if it is time to. Raises as Engine.check."""
        return [event for engine in self._engines for event in engine.check()]

    def close(self) -> None:
        """End all engines, at once if they are busy."""
        for engine in self._engines:
            engine.close()

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
        return self._engines[0].ready_at

    @property
    def memory(self) -> Memory:
        """The sums of the engines' peaks."""
        peaks = [engine.memory for engine in self._engines]
        return Memory(0, sum(peak.engine for peak in peaks), sum(peak.gpu for peak in peaks))

    def _idlest(self) -> int:
        """The engine with the fewest items."""
        usable = (index for index in range(len(self._engines)) if index not in self._left_out)
        return min(usable, key=lambda index: self._items_in[index])

    def _give(self, number: int, index: int) -> None:
        self._engine_of[number] = index
        self._items_in[index] += 1

    def _leave_out(self, index: int, error: SmolError) -> DeviceLeftOut:
        """Have the items of an engine that cannot be loaded answered by the others."""
        lost = self._engines[index]
        lost.close()
        self._left_out.add(index)
        for number in [number for number, engine in self._engine_of.items() if engine == index]:
            other = self._idlest()
            self._give(number, other)
            self._engines[other].take_over(lost, number)
        self._items_in[index] = 0
        return DeviceLeftOut(self._devices[index], error.what)

    def _make(self, work: Work) -> Engine:
        return Engine(work, self._inbox, self._timeout, self._verbose, child_numbers=self._child_numbers)
