"""An engine whose children are scripted: a test decides what each one works on, sends, and when it ends.

No process is started and no clock runs, so that faults come in exactly the order that a test writes down.
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event as Flag
from typing import Any

from smolcli.engine.client import Engine
from smolcli.engine.progress_cells import FIELDS, OPENING, ProgressCells, RequestId, Stage
from smolcli.engine.protocol import (
    Ask,
    EngineMessage,
    Event,
    Exited,
    InboxMessage,
    ItemOpened,
    Open,
    OwnerMessage,
    Ready,
    ReplyMade,
    Work,
)
from smolcli.errors import ErrorKind
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model, Sampling
from smolcli.process.pipe import PeerClosed
from smolcli.types import Content, Fault, Finish, Item, Media, Memory, Prompt, Reply

SECONDS = 10.0  # after which a message that a test waits for is missing
CELLS = 16


class ScriptedChild:
    """A child, and its end of the pipe: it does what a test says."""

    def __init__(self, number: int) -> None:
        self.pid = number  # of no process
        self.received: list[OwnerMessage] = []
        self.values = 0  # how many the messages came in
        self.ends: list[bool] = []  # how its owner has ended it: at once or not
        self.pipe, self.shared = self, memoryview(bytearray(CELLS * FIELDS * 8)).cast("q")
        self.cells = ProgressCells(self.shared)
        self.cell_of: dict[RequestId, int] = {}
        self.begun: set[RequestId] = set()
        self.is_loaded = self.is_pipe_broken = self.has_ended = False
        self.end_kind = ErrorKind.MEMORY  # of the fault that a post-mortem finds
        self.may_end = Flag()  # a test clears it for a process that does not end
        self.may_end.set()
        self._sent: SimpleQueue[EngineMessage | Exception] = SimpleQueue()

    # ---- what the engine calls -------------------------------------------------------------------------

    def post(self, value: Any) -> None:
        if not self.is_pipe_broken:
            self.received += value
            self.values += 1

    def receive(self) -> EngineMessage:
        message = self._sent.get()
        if isinstance(message, Exception):
            raise message
        return message

    def end(self, at_once: bool) -> None:
        self.ends.append(at_once)
        self.exit()

    def wait(self) -> None:
        self.may_end.wait(SECONDS)

    def close(self, at_once: bool = False) -> None:
        pass

    def post_mortem(self, advice: str) -> Fault:
        return Fault(self.end_kind, f"child {self.pid} has ended; {advice}")

    # ---- what a test calls -----------------------------------------------------------------------------

    @property
    def requests(self) -> list[RequestId]:
        """The requests that it has received, in order."""
        return [message.request for message in self.received if isinstance(message, (Open, Ask))]

    def say(self, message: EngineMessage) -> None:
        self.is_loaded |= message == Ready()
        self._sent.put(message)

    def begin(self, number: int, slot: int = OPENING, stage: Stage | None = None) -> None:
        """Work on a request from now on."""
        request = RequestId(number, slot)
        self.begun.add(request)
        stage = stage or (Stage.OPENING if request.is_opening else Stage.IN_MODEL)
        self.cell_of[request] = self.cells.begin(request, stage)

    def clear(self, request: RequestId) -> None:
        if request in self.cell_of:
            self.cells.clear(self.cell_of.pop(request))

    def say_nonsense(self, error: Exception) -> None:
        """Send what its owner cannot read: it gets this error instead."""
        self._sent.put(error)

    def exit(self) -> None:
        """End by itself."""
        self.is_pipe_broken = self.has_ended = True
        self._sent.put(PeerClosed())


class Owner:
    """The owner of an engine with scripted children, and of a clock that stands still unless a test sets it.

    When the engine stops a child, that has ended and the next one was started before a test goes on. With `is_slow` the
    test handles its end.
    """

    def __init__(
        self, timeout: float = 600.0, sampling: Sampling | None = None, every_page: bool = False,
        is_slow: bool = False, **more: Any,
    ) -> None:  # fmt: skip
        self.now, self.is_slow = 1000.0, is_slow
        self.children: list[ScriptedChild] = []
        self.inbox: SimpleQueue[InboxMessage] = SimpleQueue()
        self.events: list[Event] = []  # all so far
        work = Work(
            "none:None", ModelFiles("none"), Model(), Input(), Generate(), sampling=sampling, every_page=every_page
        )
        self.engine = Engine(work, self.inbox, timeout, clock=lambda: self.now, start=self._start, **more)

    def _start(self, work: Work, verbose: bool) -> ScriptedChild:
        self.children.append(ScriptedChild(len(self.children)))
        return self.children[-1]

    @property
    def child(self) -> ScriptedChild:
        """The last child, which has got what it was sent."""
        self._end_stopped()
        self.engine.flush()
        return self.children[-1]

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.engine.open(number, Item.of(f"{number}.png", b""))

    def ask(self, number: int, *slots: int) -> None:
        for slot in slots or (0,):
            self.engine.ask(number, slot, Prompt.user("a"))

    def next_message(self) -> InboxMessage:
        return self.inbox.get(timeout=SECONDS)

    def handle_next(self) -> list[Event]:
        """Handle the next message of the inbox. Returns its events."""
        return self._note(self.engine.handle(self.next_message()))

    def handle_all(self) -> list[Event]:
        """Handle what is in the inbox."""
        events: list[Event] = []
        with suppress(Empty):
            while True:
                events += self._note(self.engine.handle(self.inbox.get_nowait()))
        return events

    def say(self, message: EngineMessage) -> list[Event]:
        """Have the last child send a message, and handle all that comes up to it."""
        child = self.child
        child.say(message)
        return self._handle_up_to(InboxMessage(child.pid, message))

    def ready(self) -> list[Event]:
        """The model is loaded."""
        return self.say(Ready())

    def opened(self, *numbers: int, sha256: str = "") -> list[Event]:
        """The last child has opened items."""
        events: list[Event] = []
        for number in numbers:
            self.child.clear(RequestId(number, OPENING))
            events += self.say(ItemOpened(number, Media((), Content(sha256))))
        return events

    def reply(self, number: int, slot: int = 0, text: str = "fine") -> list[Event]:
        """The last child has answered a prompt."""
        self.child.clear(RequestId(number, slot))
        return self.say(reply_made(number, slot, text))

    def exit(self) -> list[Event]:
        """The last child ends by itself."""
        child = self.child
        child.exit()
        return self._handle_up_to(InboxMessage(child.pid, Exited()))

    def check_each_second(self, seconds: int, goes_on: RequestId | None = None) -> list[Event]:
        """Let the time pass until something happens; the reply to `goes_on` gets a piece each second."""
        for _ in range(seconds):
            self.now += 1.0
            if goes_on is not None:
                self.child.cells.count_piece(self.child.cell_of[goes_on])
            if events := self._note(self.engine.check()):
                self._end_stopped()
                return events
        return []

    def prepare(self, *numbers: int) -> None:
        """Bring items to where the model works on one prompt of each."""
        self.open(*numbers)
        if not self.child.is_loaded:
            self.ready()
        self.opened(*numbers)
        for number in numbers:
            self.ask(number)
            self.child.begin(number, 0)

    def _handle_up_to(self, last: InboxMessage) -> list[Event]:
        """Handle messages up to this one; before it are the ends of children that the engine has stopped itself."""
        events: list[Event] = []
        while True:
            message = self.next_message()
            events += self._note(self.engine.handle(message))
            if message == last:
                self._end_stopped()
                return events

    def _end_stopped(self) -> None:
        """Wait for the end of a child that the engine has stopped; handle it unless a test took it from the inbox."""
        if (child := self.engine._ending) is None or not self.children[child.number].may_end.is_set():
            return
        child._reader.join(SECONDS)
        if not self.is_slow:
            with suppress(Empty):
                self.engine.handle(self.inbox.get_nowait())

    def _note(self, events: list[Event]) -> list[Event]:
        self.events += events
        return events


def reply_made(number: int, slot: int = 0, text: str = "fine") -> ReplyMade:
    return ReplyMade(number, slot, Reply(text, Finish("stop")), Memory(engine=1, gpu=1))
