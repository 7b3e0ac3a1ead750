"""One child process of the engine: its phase, what it was sent, what it works on, and its end.

A child is LOADING from its start, READY once the model is loaded, and RETIRING if its memory has grown too much. In any
phase `stop` has it end. When it has ended, whatever the reason, Exited comes into the inbox; where it was not stopped,
`post_mortem` says what has ended it. Nothing here but `close` waits for the process: one that does not end holds up no
other engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from threading import Thread
from typing import Any, Protocol

from smolcli.engine.progress_cells import Activity, ProgressCells, RequestId
from smolcli.engine.protocol import (
    Ask,
    EngineMessage,
    Exited,
    InboxMessage,
    Open,
    OwnerMessage,
    Release,
    Stop,
    Work,
)
from smolcli.process.child import Child
from smolcli.process.inbox import Inbox
from smolcli.process.pipe import PeerClosed
from smolcli.process.spawn import ENGINE, EXIT_SECONDS
from smolcli.system import memory
from smolcli.types import Fault, Prompt


class MessagePipe(Protocol):
    """The owner's end of the pipe to a child, as process.pipe.Pipe is."""

    @property
    def shared(self) -> memoryview[int]:
        """The memory of the progress cells."""
        ...

    def post(self, value: object) -> None:
        """Have a value sent, without waiting for the child; it is lost where the child has ended."""
        ...

    def receive(self) -> Any:
        """Wait for the next value. Raises PeerClosed."""
        ...


class ChildProcess(Protocol):
    """A process and the pipe to it, as process.child.Child is, and a scripted one in tests."""

    @property
    def pid(self) -> int:
        """The process's id."""
        ...

    @property
    def pipe(self) -> MessagePipe:
        """This process's end of the pipe."""
        ...

    def end(self, at_once: bool) -> None:
        """End the process; the pipe can still be read."""
        ...

    def wait(self) -> None:
        """Wait for the end of a process that sends nothing more."""
        ...

    def close(self, at_once: bool = False) -> None:
        """Close the pipe and end the process."""
        ...

    def post_mortem(self, advice: str) -> Fault:
        """Say what ended the process, and close the child."""
        ...


Start = Callable[[Work, bool], ChildProcess]  # the second argument: whether what it prints goes to standard error


def start_process(work: Work, verbose: bool) -> ChildProcess:
    """Start the process of engine/server.py. Raises EngineError."""
    return Child(ENGINE, (work,), verbose)


class Phase(Enum):
    """What a child can be asked for."""

    LOADING = "it loads the model, and opens items meanwhile"
    READY = "it opens items and answers prompts"
    RETIRING = "it finishes what it was sent, and is sent nothing more"


class EngineChild:
    """A running child. `number` counts children from 0; what the process sends is put into `inbox` with it."""

    def __init__(self, number: int, process: ChildProcess, inbox: Inbox[InboxMessage]) -> None:
        self.number = number
        self.phase = Phase.LOADING
        # What it was sent and has not answered, in the order of sending.
        self.unanswered: dict[RequestId, Open | Ask] = {}
        self._holds: set[int] = set()  # items that it was sent and may hold pixels of
        self._outbox: list[OwnerMessage] = []  # messages that `flush` sends
        self._process = process
        self._cells = ProgressCells(process.pipe.shared)
        self._reader = Thread(target=_read_pipe, args=(process, number, inbox), daemon=True)
        self._reader.start()

    @property
    def has_loaded(self) -> bool:
        """Whether the model is loaded."""
        return self.phase is not Phase.LOADING

    @property
    def has_prompts(self) -> bool:
        """Whether it was sent prompts that it has not answered."""
        return any(isinstance(message, Ask) for message in self.unanswered.values())

    @property
    def private_bytes(self) -> int:
        """Bytes of memory that the process has for itself."""
        return memory.private_bytes(self._process.pid)

    def activity(self) -> dict[RequestId, Activity]:
        """The unanswered requests that it works on, or was working on when it ended."""
        activity = self._cells.activity()  # an answer may arrive before its cell is cleared
        return {request: state for request, state in activity.items() if request in self.unanswered}

    @property
    def items_begun(self) -> set[int]:
        """The items whose prompts the model works on, or has answered without the reply being handled yet.

        A model takes prompts about in the order in which they were sent. Those that were sent before one that it works
        on count too: they may be answered already.
        """
        prompts = [
            request
            for request, message in self.unanswered.items()
            if isinstance(message, Ask) and isinstance(message.prompt, Prompt)
        ]
        in_model = {request for request, state in self.activity().items() if state.is_in_model}
        places = [place for place, request in enumerate(prompts) if request in in_model]
        last = max(places, default=0 if self.has_loaded else -1)
        return {request.number for request in prompts[: last + 1]}

    def send(self, message: Open | Ask) -> None:
        """Send a request with the next `flush`."""
        if isinstance(message, Open):
            self._holds.add(message.number)
        self.unanswered[message.request] = message
        self._outbox.append(message)

    def request_done(self, request: RequestId) -> None:
        """Note that a request was answered."""
        self.unanswered.pop(request, None)

    def release(self, number: int, unanswered: Iterable[int]) -> None:
        """Have it free what it holds of an item; `unanswered` are the slots of its requests that have no answer."""
        if number in self._holds:
            self._holds.discard(number)
            self._outbox.append(Release(number))
        for slot in unanswered:
            self.request_done(RequestId(number, slot))

    def flush(self) -> None:
        """Send what there is to send, together. Releases alone wait for a request, unless an item may wait for them."""
        if not self._outbox:
            return
        has_requests = not all(isinstance(message, Release) for message in self._outbox)
        if has_requests or any(request.is_opening for request in self.unanswered):
            messages, self._outbox = tuple(self._outbox), []
            self._process.pipe.post(messages)  # if it is lost, the reader puts the child's end into the inbox

    def stop(self) -> None:
        """Have it end, at once if it was sent prompts that it has not answered. Exited comes when it has."""
        at_once = self.has_prompts
        if not at_once:
            self._process.pipe.post((Stop(),))
        Thread(target=self._process.end, args=(at_once,), daemon=True).start()

    def close(self) -> None:
        """Wait for the end of a child that was stopped, and close its pipe."""
        self._reader.join(2 * EXIT_SECONDS)
        if not self._reader.is_alive():  # else it reads the pipe of a process that the kernel cannot end: leave both
            self._process.close(at_once=True)

    def post_mortem(self) -> Fault:
        """Say what ended it, after Exited came."""
        return self._process.post_mortem("use a smaller model, --detail low or -j 1")


def _read_pipe(process: ChildProcess, number: int, inbox: Inbox[InboxMessage]) -> None:
    """Put what a child sends into the inbox until it ends, or sends what cannot be read, and then its end."""
    try:
        with suppress(PeerClosed):
            while True:
                message: EngineMessage = process.pipe.receive()
                inbox.put(InboxMessage(number, message))
    finally:
        process.wait()  # it may take a second to free the memory of a GPU, which the next child needs
        inbox.put(InboxMessage(number, Exited()))
