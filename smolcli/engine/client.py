"""The owner's side of the engine: starts the child process that opens inputs and runs the model, and talks to it.

    engine = Engine(Work("smolcli.backends.echo:Echo", files, model, input, generate), inbox, timeout=600)
    engine.open(0, Item.of("a.png"))          # -> Opened(0, media) or Failed(0, fault)
    engine.ask(0, 0, Prompt.user(...))        # -> ReplyReceived(0, 0, reply) or Failed(0, fault)
    for event in engine.handle(inbox.get()): ...
    for event in engine.check(): ...          # within engine.seconds_until_check
    engine.release(0)

The owner's process decodes no pictures and loads no native library. Whatever ends the child, a crash, a kill for want
of memory, a hang, costs only the item that caused it: watchdog.py notices what takes too long, quarantine.py finds out
which item it was, and a new child is given everything else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Thread

from smolcli.engine.protocol import (
    OPENING,
    Activity,
    AskMessage,
    Decoded,
    EngineMessage,
    Event,
    Failed,
    Inbox,
    InboxMessage,
    Opened,
    OpenMessage,
    OwnerMessage,
    PieceReceived,
    ProgressCells,
    ReleaseMessage,
    ReplyReceived,
    RequestId,
    Restarted,
    Work,
)
from smolcli.engine.quarantine import CRASHES, Quarantine, Verdict
from smolcli.engine.recycling import GROWTH, Recycler
from smolcli.engine.watchdog import LOAD_SECONDS, IdleTimeout, LoadTimeout, RequestTimeout, Watchdog
from smolcli.errors import EngineError, ErrorKind
from smolcli.process import child
from smolcli.process.child import Child
from smolcli.process.pipe import PeerClosed, Pipe
from smolcli.process.spawn import ENGINE
from smolcli.system import memory
from smolcli.types import Content, Fault, Item, Media, Memory, Prompt, Reply

PREPARED = 4  # prompts that a backend may be preparing at a time


@dataclass
class ChildState:
    """What is known of one child."""

    child: Child | None = None
    reader: Thread | None = None  # puts what the child sends into the inbox
    cells: ProgressCells | None = None  # what it is working on
    is_loaded: bool = False  # whether the model is loaded
    is_retiring: bool = False  # whether it is sent nothing more
    sent: dict[RequestId, None] = field(default_factory=dict)  # what it has not answered, in the order of sending
    opened: set[int] = field(default_factory=set)  # items that it was sent and may still hold
    releases: list[ReleaseMessage] = field(default_factory=list)  # to be sent along with the next message


class Engine:
    """Opens items and answers prompts, in one child process after another.

    What a child sends is put into `inbox`, from where its owner gives it to `handle`. `timeout` is in seconds of work
    on one item, for videos on one prompt. A child whose own memory has grown by more than `growth` bytes, and half of
    what it held when it had warmed up, finishes what it has begun and is replaced.
    """

    def __init__(
        self, work: Work, inbox: Inbox, timeout: float = LOAD_SECONDS, verbose: bool = False, growth: int = GROWTH
    ) -> None:
        self._work, self._inbox, self._verbose = work, inbox, verbose
        self._items: dict[int, Item] = {}
        self._contents: dict[int, Content] = {}  # of items that any child has opened
        self._unanswered: dict[int, dict[int, OpenMessage | AskMessage]] = {}  # number -> slot -> message
        self._watchdog = Watchdog(timeout, per_prompt=work.decodes_by_prompt, now=time.monotonic())
        self._quarantine = Quarantine()
        self._recycler = Recycler(growth)
        self._child_state = ChildState()
        self._generation = 0  # of the child: messages of earlier ones are ignored
        self.restarts = 0  # of children that had grown too large
        self.ready_at = 0.0  # when the model was first loaded, by time.perf_counter
        self.memory = Memory()  # peaks of the engine, and on the GPU

    def open(self, number: int, item: Item) -> None:
        """Have an item opened, under a number of its own."""
        self._items[number] = item
        self._submit(number, OPENING, ("open", number, item))

    def ask(self, number: int, slot: int, prompt: Prompt) -> None:
        """Have a prompt about an open item answered; `slot` tells it from the item's other prompts."""
        self._submit(number, slot, ("ask", number, slot, prompt))

    def release(self, number: int) -> None:
        """Free what is held for an item that is done; no events come for it any more."""
        for by_number in (self._items, self._contents, self._unanswered):
            by_number.pop(number, None)
        self._watchdog.release(number)
        state = self._child_state
        if number in state.opened:
            state.opened.discard(number)
            state.releases.append(("release", number))
        state.sent = {request: None for request in state.sent if request.number != number}
        if state.releases and any(request.is_opening for request in state.sent):
            self._post()  # an item that is being opened may wait for the memory of this one
        if self._quarantine.release(number):
            self._send_pending()
        self._replace_retiring()

    @property
    def is_busy(self) -> bool:
        """Whether the child was sent prompts that it has not answered."""
        return any(not request.is_opening for request in self._child_state.sent)

    @property
    def items_in_progress(self) -> set[int]:
        """The items whose prompts the model works on, or has answered without the reply being handled yet.

        A model takes prompts in order: with one that it works on go all that were sent before.
        """
        prompts = [request for request in self._child_state.sent if not request.is_opening]
        in_model = {request for request, state in self._activity().items() if state.is_in_model}
        last = max(
            (place for place, request in enumerate(prompts) if request in in_model),
            default=0 if self._child_state.is_loaded else -1,
        )
        return {request.number for request in prompts[: last + 1]}

    @property
    def seconds_until_check(self) -> float:
        """Seconds after which `check` is to be called."""
        return self._watchdog.seconds_until_check(time.monotonic())

    def handle(self, message: InboxMessage) -> list[Event]:
        """Turn a message from the inbox into events.

        Raises EngineError where the engine cannot go on, or the SmolError that ended the child's function.
        """
        generation, content = message
        if generation != self._generation:
            return []  # of a child that is gone
        self._watchdog.note_contact(time.monotonic())
        return self._handle(content)

    def check(self) -> list[Event]:
        """Look whether anything takes too long, if it is time to. Raises EngineError where the model is not loaded."""
        now = time.monotonic()
        if not self._watchdog.is_check_due(now):
            return []
        state, activity = self._child_state, self._activity()
        values = () if state.cells is None else state.cells.values()
        match self._watchdog.check(now, activity, values, is_loaded=state.is_loaded, has_requests=bool(state.sent)):
            case LoadTimeout(seconds):
                raise EngineError(f"the model was not loaded within {seconds:.0f} s", "try a smaller one")
            case RequestTimeout(request):
                return self._on_timeout(request, activity)
            case IdleTimeout():
                self._stop_child()
                return self._judge_exit(
                    [], True, Fault(ErrorKind.HANG, "the engine did nothing with what it was given")
                )
        return []

    def close(self) -> None:
        """End the child, at once if it is busy."""
        self._stop_child()

    # ---- requests go out -----------------------------------------------------------------------------

    def _submit(self, number: int, slot: int, message: OpenMessage | AskMessage) -> None:
        self._unanswered.setdefault(number, {})[slot] = message
        self._send(RequestId(number, slot))

    def _send_pending(self) -> None:
        """Send every unanswered request that may be sent now, in the order of the items."""
        for number, slots in list(self._unanswered.items()):
            for slot in list(slots):
                self._send(RequestId(number, slot))

    def _send(self, request: RequestId) -> None:
        """Send a request, unless it was sent, or has to wait for another child, its turn or the model."""
        state = self._child_state
        if request in state.sent or state.is_retiring or not self._quarantine.admits(request):
            return
        self._start_child()
        if self._quarantine.must_load_first and not state.is_loaded:
            return
        if not state.sent:
            self._watchdog.note_contact(time.monotonic())  # until now the child had nothing to do
        state.sent[request] = None
        if request.is_opening:
            state.opened.add(request.number)
        self._post(self._unanswered[request.number][request.slot])

    def _post(self, *messages: OwnerMessage) -> None:
        """Write the releases that are due, then these messages, to the child."""
        assert self._child_state.child is not None
        releases, self._child_state.releases = self._child_state.releases, []
        try:
            self._child_state.child.pipe.send((*releases, *messages))
        except PeerClosed:
            pass  # the reader puts the child's end into the inbox

    # ---- messages come in ----------------------------------------------------------------------------

    def _handle(self, message: EngineMessage) -> list[Event]:
        match message:
            case ("exited",):
                return self._on_exit()
            case ("ready",):
                return self._on_ready()
            case ("error", parts):
                raise child.rebuild_error(parts)
            case ("give up", fault):
                raise _too_many_crashes(fault)
            case ("reply", number, slot, reply, peak, gpu_peak):
                return self._on_reply(RequestId(number, slot), reply, Memory(engine=peak, gpu=gpu_peak))
        number = message[1]
        if number not in self._items:
            return []  # it was released meanwhile
        match message:
            case ("opened", number, media):
                return self._on_opened(number, media)
            case ("not opened", number, fault, content):
                self._finish(RequestId(number, OPENING))
                return [Failed(number, fault, content)]
            case ("decoded", number, seconds, notices):
                return [Decoded(number, seconds, notices)]
            case ("piece", number, slot, text):
                return [PieceReceived(number, slot, text)]

    def _on_ready(self) -> list[Event]:
        self._child_state.is_loaded = True
        self._quarantine.model_loaded()
        self.ready_at = self.ready_at or time.perf_counter()
        self._send_pending()
        return []

    def _on_opened(self, number: int, media: Media) -> list[Event]:
        """Tell the owner when the first child has opened an item; a later one must find the same content."""
        before = self._contents.get(number)
        self._contents[number] = media.content
        self._finish(RequestId(number, OPENING))
        if before is None:
            return [Opened(number, media)]
        if before.sha256 != media.content.sha256:
            return [
                Failed(number, Fault(ErrorKind.CHANGED, "was changed while it was read; run it again"), media.content)
            ]
        return []

    def _on_reply(self, request: RequestId, reply: Reply, peaks: Memory) -> list[Event]:
        self._recycler.count_reply()
        self.memory = Memory(engine=max(peaks.engine, self.memory.engine), gpu=max(peaks.gpu, self.memory.gpu))
        if request.number not in self._items:
            return []
        if reply.finish.fault is None:
            self._quarantine.reply_succeeded()
        if self._recycler.is_due and self._child_state.child is not None:
            held = memory.private_bytes(self._child_state.child.pid)
            self._child_state.is_retiring = self._recycler.has_outgrown(held)
        self._finish(request)
        return [ReplyReceived(*request, reply)]

    def _finish(self, request: RequestId) -> None:
        """Note that a request was answered, and send what waited for that."""
        self._watchdog.request_done(request)
        self._unanswered.get(request.number, {}).pop(request.slot, None)
        self._child_state.sent.pop(request, None)
        if self._quarantine.request_done(request):
            self._send_pending()
        self._replace_retiring()

    # ---- what ends a child -----------------------------------------------------------------------------

    def _on_exit(self) -> list[Event]:
        assert self._child_state.child is not None
        fault = self._child_state.child.post_mortem("use a smaller model, --detail low or -j 1")
        active = sorted({*self._activity(), *self._prompts_in_preparation()})
        was_loaded = self._child_state.is_loaded
        self._reset_child()
        return self._judge_exit(active, was_loaded, fault)

    def _judge_exit(self, active: list[RequestId], was_loaded: bool, fault: Fault) -> list[Event]:
        verdict = self._quarantine.child_exited(active, was_loaded)
        if verdict is Verdict.END_RUN:
            raise _too_many_crashes(fault)
        if verdict is Verdict.FAIL_ITEM:
            return self._fail_item(active[0].number, fault)
        self._send_pending()
        return [Restarted(fault.kind, tuple(request.number for request in active))]

    def _on_timeout(self, request: RequestId, activity: Mapping[RequestId, Activity]) -> list[Event]:
        fault = self._watchdog.timeout_fault(request, activity[request].has_output)
        prompts = [other for other in activity if not other.is_opening]
        self._stop_child()
        if self._quarantine.timed_out(request, prompts) is Verdict.FAIL_ITEM:
            return self._fail_item(request.number, fault)
        self._send_pending()
        return [Restarted(fault.kind, (request.number,))]

    def _fail_item(self, number: int, fault: Fault) -> list[Event]:
        """Fail an item that ended a child. After too many in a row the run ends, when this event was handled."""
        content = self._contents.get(number, Content())
        self._unanswered.pop(number, None)
        self._items.pop(number, None)  # no child is to open it again
        if self._quarantine.item_failed(fault) is Verdict.END_RUN:
            self._inbox.put((self._generation, ("give up", fault)))
        else:
            self._send_pending()
        return [Failed(number, fault, content)]

    def _activity(self) -> dict[RequestId, Activity]:
        """The unanswered requests that the child works on, or worked on when it ended."""
        if self._child_state.cells is None:
            return {}
        activity = self._child_state.cells.activity()  # an answer may arrive before its cell is cleared
        return {
            request: state for request, state in activity.items()
            if request.slot in self._unanswered.get(request.number, {})
        }  # fmt: skip

    def _prompts_in_preparation(self) -> list[RequestId]:
        """The prompts that a backend may be preparing while it works on others: the first that it has not begun."""
        activity = self._activity()
        waiting = [request for request in self._child_state.sent if not request.is_opening and request not in activity]
        return waiting[:PREPARED]

    # ---- the child -----------------------------------------------------------------------------------

    def _start_child(self) -> None:
        if self._child_state.child is not None:
            return
        process = Child(ENGINE, (self._work,), self._verbose)
        self._watchdog.child_started(time.monotonic())
        reader = Thread(target=_read_pipe, args=(process.pipe, self._generation, self._inbox), daemon=True)
        self._child_state.child, self._child_state.reader = process, reader
        self._child_state.cells = ProgressCells(process.pipe.shared)
        reader.start()

    def _stop_child(self) -> None:
        process, reader = self._child_state.child, self._child_state.reader
        if process is not None and reader is not None:
            if not self.is_busy:
                self._post(("stop",))
            process.end(at_once=self.is_busy)
            reader.join()  # before the pipe that it reads is closed
            process.close(at_once=True)
        self._reset_child()

    def _reset_child(self) -> None:
        """Leave a child that has ended. Every item that is not done begins anew: the next child opens it first."""
        self._child_state = ChildState()
        self._generation += 1
        self._watchdog.child_ended()
        self._recycler.child_ended()
        self._unanswered = {
            number: {OPENING: ("open", number, item), **self._unanswered.get(number, {})}
            for number, item in sorted(self._items.items())
        }

    def _replace_retiring(self) -> None:
        """End a retiring child that has answered all its prompts, and go on in a new one."""
        if self._child_state.is_retiring and not self.is_busy:
            self._stop_child()
            self.restarts += 1
            self._send_pending()


def _too_many_crashes(fault: Fault) -> EngineError:
    advice = "try the other --backend, or -v for what it printed"
    return EngineError(f"{CRASHES} times in a row {fault.message}", advice, kind=fault.kind)


def _read_pipe(pipe: Pipe, generation: int, inbox: Inbox) -> None:
    """Put what a child sends into the inbox until it ends, and then its end."""
    try:
        while True:
            message: EngineMessage = pipe.receive()
            inbox.put((generation, message))
    except PeerClosed:
        inbox.put((generation, ("exited",)))
