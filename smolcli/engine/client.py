"""The engine: a child process that opens inputs and runs the model, and the watch kept over it.

    engine = Engine(Work("smolcli.backends.echo:Echo", files, model, input, generate), inbox, timeout=600)
    engine.open(0, Item.of("a.png"))          # -> Opened(0, media) or Failed(0, fault)
    engine.ask(0, 0, Prompt.user(...))        # -> Replied(0, 0, reply) or Failed(0, fault)
    for event in engine.handle(inbox.get()): ...
    engine.forget(0)

The process that owns it touches no pixel and no native library. What ends the child, a crash, a kill for want of
memory, a hang, costs the one input that did it; everything else is given to a new child. What the child was at when
it ended is tried again alone first: the kernel may have killed it for what another did.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import Any

from smolcli.engine.protocol import (
    MARKS,
    OPENING,
    REPLIES,
    Decoded,
    Event,
    Failed,
    Opened,
    PieceReceived,
    ReplyReceived,
    Work,
)
from smolcli.errors import EngineError
from smolcli.process import child
from smolcli.process.child import Child
from smolcli.process.pipe import PeerClosed, Pipe
from smolcli.process.spawn import ENGINE
from smolcli.system import memory
from smolcli.types import Content, Fault, Item, Media, Memory, Prompt, Reply

CRASHES = 3  # so many in a row, without an answer between them, end the run
GROWTH = 2**30  # bytes the engine may grow beyond what it held when it had warmed up, and half of that again
WARM = 16  # replies after which it has
LOAD_SECONDS = 600.0  # a model is loaded within, whatever the timeout of an input
PREPARED = 4  # prompts that a backend may be preparing
IDLE = 10.0  # seconds in which an engine that was given something begins with it, at least
LATE = 1.0  # seconds after its time at which a look at the clock says nothing about the engine


@dataclass
class ChildState:
    """What is known of one child; keys are the number of an item and a slot."""

    child: Child | None = None
    pump: Thread | None = None
    started: float = 0.0
    ready: bool = False  # whether the model is loaded
    retiring: bool = False  # whether it gets nothing more
    heard: float = 0.0  # when it last said something
    sent: dict[tuple[int, int], None] = field(default_factory=dict)  # what it has not answered, as it was given it
    later: list[Any] = field(default_factory=list)  # what may be told with the next message
    told: set[tuple[int, int]] = field(default_factory=set)  # openings it has been given and not been told to forget
    marks: memoryview | None = None  # of what it is at, in memory that it shares: see `mark`
    busy_seconds: dict[tuple[int, int], float] = field(default_factory=dict)  # seconds of work on what it is at
    seen: tuple[int, ...] = ()  # the marks as they were at the last look
    last_progress_at: float = 0.0  # since when they are so
    replies: int = 0
    base: int = 0  # bytes of memory it had when it was warm


class Engine:
    """Opens items and answers prompts; what happens comes into `inbox`, to be given to `handle`.

    `timeout` is in seconds of work on one item, of a video on one prompt. When the child's own memory has grown by more
    than `growth` bytes, and half of what it was, it finishes what it has and a new one goes on.
    """

    def __init__(
        self, work: Work, inbox: SimpleQueue[Any], timeout: float = LOAD_SECONDS, verbose: bool = False,
        growth: int = GROWTH,
    ) -> None:  # fmt: skip
        self._work, self._inbox, self._timeout, self._verbose, self._growth = work, inbox, timeout, verbose, growth
        self._items: dict[int, Item] = {}
        self._contents: dict[int, Content] = {}  # of items that were open in any child
        self._waiting: dict[int, dict[int, Any]] = {}  # number -> slot -> message that is not answered
        self._spent: dict[int, float] = {}
        self._alone: deque[tuple[int, int]] = deque()  # what may have ended a child, to be tried one by one
        self._crashes = 0  # in a row, each of one item
        self._unexplained = 0  # ends of a child, in a row, that are no item's doing
        self._withheld = False  # whether nothing is opened before the model is loaded
        self._child_state = ChildState()
        self._generation = 0
        self._check_at = self._looked_at = time.monotonic()
        self.restarts = 0
        self.ready_at = 0.0  # when the model was loaded first, by time.perf_counter
        self.memory = Memory()  # peaks of the engine, and on the GPU

    def open(self, number: int, item: Item) -> None:
        """Begin to open an item, under a number of its own."""
        self._items[number] = item
        self._spent[number] = 0.0
        self._give(number, OPENING, ("open", number, item))

    def ask(self, number: int, slot: int, prompt: Prompt) -> None:
        """Have a prompt about an open item answered."""
        self._give(number, slot, ("ask", number, slot, prompt))

    def forget(self, number: int) -> None:
        """The item is done: what is held for it is let go; what was asked is not answered any more."""
        for one in (self._items, self._contents, self._waiting, self._spent):
            one.pop(number, None)
        if (number, OPENING) in self._child_state.told:
            self._child_state.told.discard((number, OPENING))
            self._child_state.later.append(("forget", number))
        self._child_state.sent = {key: None for key in self._child_state.sent if key[0] != number}
        if self._child_state.later and any(slot == OPENING for _, slot in self._child_state.sent):
            self._tell()  # what is being opened may be waiting for the memory of this one
        if any(key[0] == number for key in self._alone):
            self._alone = deque(key for key in self._alone if key[0] != number)
            self._flush()
        self._retire()

    @property
    def is_busy(self) -> bool:
        """Whether the model has been given something that it has not answered."""
        return any(slot != OPENING for _, slot in self._child_state.sent)

    @property
    def items_in_progress(self) -> set[int]:
        """The items that the model is at, or whose reply is on its way: those asked before, of a model at work."""
        asked, at = [key for key in self._child_state.sent if key[1] != OPENING], self._at(REPLIES)
        last = max(
            (place for place, key in enumerate(asked) if key in at), default=0 if self._child_state.ready else -1
        )
        return {number for number, _ in asked[: last + 1]}

    @property
    def patience(self) -> float:
        """Seconds after which `check` is to be called."""
        return max(0.01, self._check_at - time.monotonic())

    def handle(self, message: tuple[int, Any]) -> list[Event]:
        """What a message of the child's means. Raises EngineError, or the error with which the model was refused."""
        generation, told = message
        if generation != self._generation:
            return []  # of a child that is gone
        self._child_state.heard = time.monotonic()
        handler: Callable[..., list[Event]] = getattr(self, f"_on_{told[0]}")
        return handler(*told[1:])

    def check(self) -> list[Event]:
        """Looks, some times a second, whether anything takes too long."""
        now = time.monotonic()
        if now < self._check_at:
            return []
        life = self._child_state
        if (late := now - self._check_at) > LATE:  # this process was stopped, or nobody read what it writes
            self._looked_at = now
            life.started, life.heard, life.last_progress_at = life.started + late, now, now
        at = self._at()
        self._share(now - self._looked_at, at)
        self._looked_at, self._check_at = now, now + min(1.0, self._timeout / 4)
        patience = max(self._timeout, LOAD_SECONDS)
        if life.child is not None and not life.ready and now - life.started > patience:
            raise EngineError(f"the model was not loaded within {now - life.started:.0f} s", "try a smaller one")
        is_stuck = self._is_stuck(now)
        for number, slot in at:
            if self._work_on(number, slot) > self._timeout or (is_stuck and slot != OPENING):
                fault = self._too_slow(slot, at[number, slot])
                replies = [key for key in at if key[1] != OPENING]
                self._stop_child()
                if slot == OPENING or len(replies) == 1:
                    return self._fail_item(number, fault)
                self._alone = deque(sorted(replies))  # one of them may hold up the others
                self._flush()
                return []
        if life.ready and life.sent and not at and now - life.heard > max(self._timeout, IDLE):
            self._stop_child()
            return self._unexplained_end([], Fault("hang", "the engine did nothing with what it was given"))
        return []

    def _share(self, seconds: float, at: Collection[tuple[int, int]]) -> None:
        """Counts the time since the last look as work on what the child is at; replies under way share theirs."""
        before, replies = self._child_state.busy_seconds, self._at(REPLIES)
        self._child_state.busy_seconds = {
            key: before[key] + seconds / (len(replies) if key in replies else 1) if key in before else 0.0 for key in at
        }

    def _work_on(self, number: int, slot: int) -> float:
        """Seconds of work on an item, of a video on one prompt, so far."""
        if self._work.sampling is not None:  # a video has the time anew for each prompt
            return self._child_state.busy_seconds[number, slot]
        return self._spent[number] + sum(
            seconds for key, seconds in self._child_state.busy_seconds.items() if key[0] == number
        )

    def _is_stuck(self, now: float) -> bool:
        """Whether no reply has gone on for as long as one may take."""
        marks = () if self._child_state.marks is None else tuple(self._child_state.marks)
        if marks != self._child_state.seen:
            self._child_state.seen, self._child_state.last_progress_at = marks, now
        return now - self._child_state.last_progress_at > self._timeout

    def close(self) -> None:
        """Ends the child; at once if it is at work."""
        self._stop_child()

    # ---- giving work ---------------------------------------------------------------------------------

    def _give(self, number: int, slot: int, message: Any) -> None:
        self._waiting.setdefault(number, {})[slot] = message
        self._send(number, slot)

    def _flush(self) -> None:
        for number, slots in list(self._waiting.items()):
            for slot in list(slots):
                self._send(number, slot)

    def _send(self, number: int, slot: int) -> None:
        """Sends what may be sent now."""
        if (number, slot) in self._child_state.sent or self._child_state.retiring:
            return
        if self._alone and (number, slot) not in (self._alone[0], (self._alone[0][0], OPENING)):
            return
        self._start()
        if self._withheld and not self._child_state.ready:
            return
        if not self._child_state.sent:
            self._child_state.heard = time.monotonic()  # it had nothing to say anything about
        self._child_state.sent[number, slot] = None
        if slot == OPENING:
            self._child_state.told.add((number, slot))
        self._tell(self._waiting[number][slot])

    def _tell(self, *messages: Any) -> None:
        """Says what may be told later, then these."""
        assert self._child_state.child is not None
        messages, self._child_state.later = (*self._child_state.later, *messages), []
        try:
            self._child_state.child.pipe.send(messages)
        except PeerClosed:
            pass  # its end comes into the inbox

    # ---- what the child says -------------------------------------------------------------------------

    def _on_ready(self) -> list[Event]:
        self._child_state.ready, self._withheld = True, False
        self.ready_at = self.ready_at or time.perf_counter()
        self._flush()
        return []

    def _on_piece(self, number: int, slot: int, text: str) -> list[Event]:
        return [PieceReceived(number, slot, text)] if number in self._items else []

    def _on_opened(self, number: int, media: Media) -> list[Event]:
        if number not in self._items:
            return []
        known = self._contents.get(number)
        self._contents[number] = media.content
        self._ended(number, OPENING)
        if known is None:
            return [Opened(number, media)]
        if known.sha256 != media.content.sha256:
            return [Failed(number, Fault("changed", "was changed while it was read; run it again"), media.content)]
        return []

    def _on_decoded(self, number: int, seconds: float, notices: tuple[str, ...]) -> list[Event]:
        return [Decoded(number, seconds, notices)] if number in self._items else []

    def _on_refused(self, number: int, fault: Fault, content: Content) -> list[Event]:
        if number not in self._items:
            return []
        self._ended(number, OPENING)
        return [Failed(number, fault, content)]

    def _on_replied(self, number: int, slot: int, reply: Reply, resident: int, gpu: int) -> list[Event]:
        self._child_state.replies += 1
        self.memory = Memory(engine=max(resident, self.memory.engine), gpu=max(gpu, self.memory.gpu))
        if number not in self._items:
            return []
        if reply.finish.fault is None:
            self._crashes = self._unexplained = 0
        self._watch_memory()
        self._ended(number, slot)
        return [ReplyReceived(number, slot, reply)]

    def _on_error(self, told: tuple[str, str, str, str]) -> list[Event]:
        raise child.received(told)

    def _on_gone(self) -> list[Event]:
        """The child has ended. What it was at is tried again alone; what was alone has its verdict."""
        assert self._child_state.child is not None
        fault = self._child_state.child.post_mortem("use a smaller model, --detail low or -j 1")
        life = self._child_state
        suspects = sorted({*self._at(), *self._next_asks()})
        self._forget_child()
        if life.ready and self._alone and {number for number, _ in suspects} == {self._alone[0][0]}:
            return self._fail_item(suspects[0][0], fault)
        if life.ready and suspects:
            self._alone = deque(suspects)
            self._flush()
            return []
        return self._unexplained_end(suspects, fault)

    def _next_asks(self) -> list[tuple[int, int]]:
        """The prompts that a backend may be preparing, before or while it is at others: the first it has not begun."""
        at = self._at()
        return [key for key in self._child_state.sent if key[1] != OPENING and key not in at][:PREPARED]

    def _at(self, first: int = 0) -> dict[tuple[int, int], bool]:
        """What the child is at, or was when it ended, by the marks from `first` on; of a reply, whether it speaks.

        A mark may outlive its answer; then it is none.
        """
        if self._child_state.marks is None:
            return {}
        marks = self._child_state.marks.tolist()
        found = {
            (one >> 16, (one & 0xFFFF) - 2): bool(marks[MARKS + n])
            for n, one in enumerate(marks[:MARKS])
            if one and n >= first
        }
        return {key: speaks for key, speaks in found.items() if key[1] in self._waiting.get(key[0], {})}

    def _unexplained_end(self, suspects: list[tuple[int, int]], fault: Fault) -> list[Event]:
        """The child ended while the model was loaded, or between two inputs: no item's doing, if it goes on."""
        self._unexplained += 1
        self._withheld = True
        if self._unexplained == CRASHES:
            raise _too_many(fault)
        self._alone = deque(suspects)
        self._flush()
        return []

    def _ended(self, number: int, slot: int) -> None:
        self._spent[number] += self._child_state.busy_seconds.pop((number, slot), 0.0)
        self._waiting.get(number, {}).pop(slot, None)
        self._child_state.sent.pop((number, slot), None)
        if self._alone and self._alone[0] == (number, slot):
            self._alone.popleft()
            self._flush()
        self._retire()

    def _fail_item(self, number: int, fault: Fault) -> list[Event]:
        """The verdict on an item that ended the child; after too many in a row the run ends when it is told."""
        content = self._contents.get(number, Content())
        self._crashes += fault.kind != "timeout"
        self._waiting.pop(number, None)
        self._items.pop(number, None)  # no child is to open it again
        if self._crashes >= CRASHES:
            self._inbox.put((self._generation, ("doomed", fault)))
        else:
            self._flush()
        return [Failed(number, fault, content)]

    def _on_doomed(self, fault: Fault) -> list[Event]:
        raise _too_many(fault)

    def _too_slow(self, slot: int, speaking: bool) -> Fault:
        limit = f"{self._timeout:g} s"
        if self._work.sampling is not None and not speaking:
            return Fault("timeout", f"could not be looked at within {limit}; raise --timeout, or use fewer --frames")
        if slot == OPENING:
            return Fault("timeout", f"could not be opened within {limit}; is its disk or server there? or --timeout")
        if speaking:
            return Fault("timeout", f"the answer had no end within {limit}; lower --max-tokens or raise --timeout")
        return Fault("timeout", f"no word of an answer within {limit}; use --detail low or raise --timeout")

    # ---- the child -----------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._child_state.child is not None:
            return
        self._child_state.child = Child(ENGINE, (self._work,), self._verbose)
        self._child_state.marks = self._child_state.child.pipe.shared
        self._child_state.started = self._child_state.heard = time.monotonic()
        self._child_state.pump = Thread(
            target=_pump, args=(self._child_state.child.pipe, self._generation, self._inbox), daemon=True
        )
        self._child_state.pump.start()

    def _stop_child(self) -> None:
        if self._child_state.child is not None and self._child_state.pump is not None:
            if not self.is_busy:
                self._tell(("end",))
            self._child_state.child.end(at_once=self.is_busy)
            self._child_state.pump.join()  # it reads what is closed next
            self._child_state.child.close(at_once=True)
        self._forget_child()

    def _forget_child(self) -> None:
        """What is not done begins anew, in order: the next child has to open it first."""
        self._child_state = ChildState()
        self._generation += 1
        self._spent = dict.fromkeys(self._items, 0.0)
        self._waiting = {
            number: {OPENING: ("open", number, item), **self._waiting.get(number, {})}
            for number, item in sorted(self._items.items())
        }

    def _retire(self) -> None:
        """Lets a child go that gets nothing more, once it has answered what it was asked."""
        if self._child_state.retiring and not self.is_busy:
            self._stop_child()
            self.restarts += 1
            self._flush()

    def _watch_memory(self) -> None:
        life = self._child_state
        if life.replies % WARM or life.child is None:
            return
        held = memory.own(life.child.pid)
        life.base = life.base or held
        life.retiring = held > life.base + self._growth + life.base // 2


def _too_many(fault: Fault) -> EngineError:
    advice = "try the other --backend, or -v for what it printed"
    return EngineError(f"{CRASHES} times in a row {fault.message}", advice, kind=fault.kind)


def _pump(pipe: Pipe, generation: int, inbox: SimpleQueue[Any]) -> None:
    try:
        while True:
            inbox.put((generation, pipe.receive()))
    except PeerClosed:
        inbox.put((generation, ("gone",)))
