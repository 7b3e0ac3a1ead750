"""The owner's side of the engine: starts the child process that opens inputs and runs the model, and talks to it.

    engine = Engine(Work("smolcli.backends.echo:Echo", files, model, input, generate), inbox, timeout=600)
    engine.open(0, Item.of("a.png"))          # -> Opened(0, media) or Failed(0, fault)
    engine.ask(0, 0, Prompt.user(...))        # -> ReplyReceived(0, 0, reply) or Failed(0, fault)
    for event in engine.handle(inbox.get()): ...
    for event in engine.check(): ...          # within engine.seconds_until_check
    engine.release(0)
    engine.flush()                            # before each wait for the inbox: nothing is sent otherwise

The owner's process decodes no pictures and loads no native library. Whatever ends the child, a crash, a kill for want
of memory, a hang, costs only the item that caused it. What that takes is in files of its own: engine_child.py knows one
child and what it was sent, watchdog.py says what takes too long, quarantine.py which item is to blame, recycling.py
when a child has grown too large. This file keeps every request until it is answered, and gives it to one child after
another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

from smolcli.engine.engine_child import EngineChild, Phase, Start, start_process
from smolcli.engine.progress_cells import OPENING, RequestId
from smolcli.engine.protocol import (
    Ask,
    Decoded,
    DevicesFound,
    Event,
    Exited,
    Failed,
    FramesDecoded,
    InboxMessage,
    ItemNotOpened,
    ItemOpened,
    Open,
    Opened,
    PieceMade,
    PieceReceived,
    Ready,
    ReplyMade,
    ReplyReceived,
    Restarted,
    Work,
)
from smolcli.engine.quarantine import CRASHES, GoOn, Quarantine, RequestFails, RunEnds, Verdict
from smolcli.engine.recycling import GROWTH, Recycler
from smolcli.engine.watchdog import (
    ADVICE_ON_FRAMES,
    ADVICE_ON_PAGES,
    LOAD_SECONDS,
    IdleTimeout,
    LoadTimeout,
    RequestTimeout,
    Watchdog,
)
from smolcli.errors import EngineError, ErrorKind
from smolcli.inputs.page import PageRequest
from smolcli.process.inbox import Inbox
from smolcli.process.pipe import FunctionFailed
from smolcli.types import Content, Fault, Finish, Item, Memory, Prompt, Reply


class Engine:
    """Opens items and answers prompts, in one child process after another.

    What a child sends is put into `inbox`, from where its owner gives it to `handle`. `timeout` is in seconds of work
    on one item, for videos on one prompt. A child whose own memory has grown by more than `growth` bytes, and half of
    what it held when it had warmed up, finishes what it has begun and is replaced. `clock` tells the seconds of a
    monotonic clock; `start` starts a child; engines of one inbox share `child_numbers`.
    """

    def __init__(
        self, work: Work, inbox: Inbox[InboxMessage], timeout: float = LOAD_SECONDS, verbose: bool = False,
        growth: int = GROWTH, *, clock: Callable[[], float] = time.monotonic, start: Start = start_process,
        child_numbers: Iterator[int] | None = None,
    ) -> None:  # fmt: skip
        self._work, self._inbox, self._verbose, self._clock, self._start = work, inbox, verbose, clock, start
        self._items: dict[int, Item] = {}  # that are not done
        self._contents: dict[int, Content] = {}  # of items that any child has opened
        self._unanswered: dict[int, dict[int, Open | Ask]] = {}  # number -> slot -> message
        self._child: EngineChild | None = None
        self._ending: EngineChild | None = None  # the last child, which was told to end and has not
        self._is_closed = False
        self._child_numbers = child_numbers or count()  # messages of earlier children are ignored
        advice = ADVICE_ON_PAGES if work.every_page else ADVICE_ON_FRAMES
        self._watchdog = Watchdog(timeout, work.decodes_by_prompt, clock(), advice)
        self._quarantine = Quarantine()
        self._recycler = Recycler(growth)
        self._last_crash: Fault | None = None  # that ends the run, once its event was handled
        self.ready_at = 0.0  # when the model was first loaded, by time.perf_counter
        self.memory = Memory()  # peaks of the engine, and on the GPU

    def open(self, number: int, item: Item) -> None:
        """Have an item opened, under a number of its own."""
        self._items[number] = item
        self._submit(Open(number, item))

    def ask(self, number: int, slot: int, prompt: Prompt | PageRequest) -> None:
        """Have a request about an open item answered; `slot` tells it from the item's other ones."""
        self._submit(Ask(number, slot, prompt))

    def release(self, number: int) -> None:
        """Free what is held for an item that is done; no events come for it any more."""
        self._items.pop(number, None)
        self._contents.pop(number, None)
        unanswered = self._unanswered.pop(number, {})
        self._watchdog.release(number)
        if self._child is not None:
            self._child.release(number, unanswered)
        if self._quarantine.release(number):
            self._send_pending()
        self._replace_retiring()

    def hand_over(self, number: int, other: Engine) -> None:
        """Have another engine go on with an item, which it opens again."""
        item = other._items[number] = self._items[number]
        if number in self._contents:
            other._contents[number] = self._contents[number]
        other._unanswered[number] = {OPENING: Open(number, item), **self._unanswered.get(number, {})}
        self.release(number)
        for message in list(other._unanswered[number].values()):
            other._send(message)

    def flush(self) -> None:
        """Send what was asked for since the last call, together: each message wakes the child."""
        if self._child is not None:
            self._child.flush()

    @property
    def is_loaded(self) -> bool:
        """Whether there is a child that has loaded the model."""
        return self._child is not None and self._child.has_loaded

    @property
    def is_restarting(self) -> bool:
        """Whether there was such a child, and requests wait for the next one to load the model."""
        return bool(self.ready_at) and not self.is_loaded and any(self._unanswered.values())

    @property
    def is_idle(self) -> bool:
        """Whether the model is loaded, and every request is answered."""
        return self.is_loaded and not any(self._unanswered.values())

    @property
    def waiting_items(self) -> list[int]:
        """The items with requests that the child has not begun with, in order; without those that are tried alone."""
        begun = {suspect.number for suspect in self._quarantine.suspects} | self.items_in_progress
        if self._child is not None:
            begun |= {request.number for request in self._child.activity()}
        return sorted(number for number, requests in self._unanswered.items() if requests and number not in begun)

    @property
    def items_in_progress(self) -> set[int]:
        """The items whose prompts the model works on, or has answered without the reply being handled yet."""
        return set() if self._child is None else self._child.items_begun

    @property
    def seconds_until_check(self) -> float:
        """Seconds after which `check` is to be called."""
        return self._watchdog.seconds_until_check(self._clock())

    def handle(self, message: InboxMessage) -> list[Event]:
        """Turn a message from the inbox into events.

        Raises EngineError where the engine cannot go on, or the SmolError that ended the child's function.
        """
        if self._child is None or message.child != self._child.number:
            self._on_late_message(message)
            return []
        self._watchdog.note_contact(self._clock())
        match message.message:
            case Ready() as ready:
                return self._on_ready(self._child, ready)
            case DevicesFound() as found:
                return [found]
            case FunctionFailed(error):
                raise error
            case Exited():
                return self._on_exit(self._child)
            case ReplyMade() as made:
                return self._on_reply(self._child, made)
        if message.message.number not in self._items:
            return []  # it was released meanwhile
        match message.message:
            case ItemOpened() as opened:
                return self._on_opened(opened)
            case ItemNotOpened(number, fault, content):
                self._finish(RequestId(number, OPENING))
                return [Failed(number, fault, content)]
            case FramesDecoded(number, notices):
                return [Decoded(number, notices)]
            case PieceMade(number, slot, text):
                return [PieceReceived(number, slot, text)]

    def check(self) -> list[Event]:
        """Look whether anything takes too long, if it is time to. Call it after the events of `handle` are handled.

        Raises EngineError where the model is not loaded, or the last item that has failed was one crash too many.
        """
        if self._last_crash is not None:
            raise _too_many_crashes(self._last_crash)
        now, child = self._clock(), self._child
        if not self._watchdog.is_check_due(now):
            return []
        activity = {} if child is None else child.activity()
        is_loaded, has_requests = child is not None and child.has_loaded, child is not None and bool(child.unanswered)
        match self._watchdog.check(now, activity, is_loaded=is_loaded, has_requests=has_requests):
            case LoadTimeout(seconds):
                raise EngineError(f"the model was not loaded within {seconds:.0f} s", "try a smaller one")
            case RequestTimeout(request):
                fault = self._watchdog.timeout_fault(request, activity[request].has_output)
                prompts = [other for other in activity if not other.is_opening]
                self._stop_child()
                return self._follow(self._quarantine.timed_out(request, prompts), fault, [request])
            case IdleTimeout():
                fault = Fault(ErrorKind.HANG, "the engine did nothing with what it was given")
                self._stop_child()
                return self._follow(self._quarantine.child_exited([], was_loaded=True), fault, [])
        return []

    def stop(self) -> None:
        """Have the child end, at once if it is busy, and start no other one."""
        self._is_closed, self._last_crash = True, None
        self._stop_child()

    def close(self) -> None:
        """Do the same, and wait for the end."""
        self.stop()
        if self._ending is not None:
            self._on_stopped(self._ending)

    # ---- requests go out -----------------------------------------------------------------------------

    def _submit(self, message: Open | Ask) -> None:
        self._unanswered.setdefault(message.number, {})[message.request.slot] = message
        self._send(message)

    def _send_pending(self) -> None:
        """Send every unanswered request that may be sent now, in the order of the items."""
        for slots in list(self._unanswered.values()):
            for message in list(slots.values()):
                self._send(message)

    def _send(self, message: Open | Ask) -> None:
        """Send a request, unless it was sent, or has to wait for another child, its turn or the model."""
        if self._ending is not None or self._is_closed:
            return
        child = self._child or self._start_child()
        request = message.request
        if request in child.unanswered or child.phase is Phase.RETIRING:
            return
        if self._quarantine.admits(request, child.has_loaded):
            if not child.unanswered:
                self._watchdog.note_contact(self._clock())  # until now the child had nothing to do
            child.send(message)

    # ---- messages come in ----------------------------------------------------------------------------

    def _on_ready(self, child: EngineChild, ready: Ready) -> list[Event]:
        child.phase = Phase.READY
        self._quarantine.model_loaded()
        self.ready_at = self.ready_at or time.perf_counter()
        self._send_pending()
        return [ready]

    def _on_opened(self, opened: ItemOpened) -> list[Event]:
        """Tell the owner when the first child has opened an item; a later one must find the same content."""
        number, content = opened.number, opened.media.content
        before = self._contents.get(number)
        self._contents[number] = content
        self._finish(RequestId(number, OPENING))
        if before is None:
            return [Opened(number, opened.media)]
        if before.sha256 != content.sha256:
            return [Failed(number, Fault(ErrorKind.CHANGED, "was changed while it was read; run it again"), content)]
        return []

    def _on_reply(self, child: EngineChild, made: ReplyMade) -> list[Event]:
        self.memory = Memory(0, max(made.memory.engine, self.memory.engine), max(made.memory.gpu, self.memory.gpu))
        if made.is_from_model:
            self._recycler.count_reply()
        if made.number not in self._items:
            return []
        if made.reply.finish.fault is None and made.is_from_model:
            self._quarantine.reply_succeeded()
        if child.has_loaded and self._recycler.is_due and self._recycler.has_outgrown(child.private_bytes):
            child.phase = Phase.RETIRING
        self._finish(made.request)
        return [ReplyReceived(made.number, made.slot, made.reply)]

    def _finish(self, request: RequestId) -> None:
        """Note that a request was answered, and send what waited for that."""
        self._watchdog.request_done(request)
        self._unanswered.get(request.number, {}).pop(request.slot, None)
        if self._child is not None:
            self._child.request_done(request)
        if self._quarantine.request_done(request):
            self._send_pending()
        self._replace_retiring()

    # ---- children end, and others are started --------------------------------------------------------

    def _on_exit(self, child: EngineChild) -> list[Event]:
        fault, suspects = child.post_mortem(), sorted(child.activity())
        read_files = all(child.unanswered[request].reads_file for request in suspects)
        self._forget_child()
        return self._follow(self._quarantine.child_exited(suspects, child.has_loaded, read_files), fault, suspects)

    def _follow(self, verdict: Verdict, fault: Fault, requests: list[RequestId]) -> list[Event]:
        """Do what follows from the end of a child: from its `fault`, which came with these requests."""
        match verdict:
            case RunEnds():
                raise _too_many_crashes(fault)
            case GoOn():
                self._send_pending()
                return [Restarted(fault.kind, tuple(request.number for request in requests))]
            case RequestFails(request, ends_run):
                event = self._fail(request, fault)
                if ends_run:
                    self._last_crash = fault
                else:
                    self._send_pending()
                return [event]

    def _fail(self, request: RequestId, fault: Fault) -> Event:
        """Give up a request, and its item too unless that is a document, which has other pages."""
        number, slot = request
        if self._work.every_page and not request.is_opening:
            self._unanswered[number].pop(slot, None)
            return ReplyReceived(number, slot, Reply("", Finish("error", fault=fault)))
        self._unanswered.pop(number, None)
        self._items.pop(number, None)  # no child is to open it again
        self._quarantine.release(number)
        return Failed(number, fault, self._contents.get(number, Content()))

    def _start_child(self) -> EngineChild:
        self._child = EngineChild(next(self._child_numbers), self._start(self._work, self._verbose), self._inbox)
        self._watchdog.child_started(self._clock())
        return self._child

    def _stop_child(self) -> None:
        """Have the child end. Only when it has, and has freed the memory of its device, another one is started."""
        if self._child is not None:
            self._child.stop()
            self._ending = self._child
            self._forget_child()

    def _on_late_message(self, message: InboxMessage) -> None:
        """Handle a message of a child that is gone, or was told to end: nothing of it matters but its end."""
        if self._ending is not None and message == (self._ending.number, Exited()):
            self._on_stopped(self._ending)

    def _on_stopped(self, child: EngineChild) -> None:
        child.close()
        self._ending = None
        self._send_pending()

    def _forget_child(self) -> None:
        """Leave a child that has ended. Every item that is not done begins anew: the next child opens it first."""
        self._child = None
        self._watchdog.child_ended()
        self._recycler.child_ended()
        self._unanswered = {
            number: {OPENING: Open(number, item), **self._unanswered.get(number, {})}
            for number, item in sorted(self._items.items())
        }

    def _replace_retiring(self) -> None:
        """End a retiring child that has answered all its prompts; a new one goes on."""
        if self._child is not None and self._child.phase is Phase.RETIRING and not self._child.has_prompts:
            self._stop_child()


def _too_many_crashes(fault: Fault) -> EngineError:
    advice = "try the other --backend, or -v for what it printed"
    return EngineError(f"{CRASHES} times in a row {fault.message}", advice, kind=fault.kind)
