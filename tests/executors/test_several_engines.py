"""executors/local.py with an engine on each of two devices: one that is slow, lost or not loaded holds up no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import pytest

from smolcli.engine import engines
from smolcli.engine.client import Engine
from smolcli.engine.progress_cells import RequestId
from smolcli.engine.protocol import (
    DevicesFound,
    InboxMessage,
    ItemOpened,
    Ready,
    ReplyMade,
    Work,
)
from smolcli.errors import UnavailableError
from smolcli.executors.base import RunSpec
from smolcli.executors.local import LocalExecutor
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model
from smolcli.process.inbox import Inbox
from smolcli.process.pipe import FunctionFailed
from smolcli.tasks.caption import Caption
from smolcli.types import Content, FrameRef, Item, Media
from tests.engine.scripted import ScriptedChild, reply_made
from tests.executors.paths import Paths
from tests.helpers import IDENTITY

SECONDS = 20.0  # after which a run that does not end has failed its test
ITEMS = 24  # half of them are fewer than a scripted child has progress cells
PATHS = [f"{number}.png" for number in range(ITEMS)]
Script = Callable[["Child", RequestId], None]


class Child(ScriptedChild):
    """A child that follows a script, and knows its device."""

    def __init__(self, number: int, device: str, script: Script) -> None:
        super().__init__(number)
        self.device, self._script = device, script

    def post(self, value: Any) -> None:
        super().post(value)
        for message in value:
            if hasattr(message, "request"):
                self._script(self, message.request)

    def do(self, request: RequestId) -> None:
        """Open an item, or answer a prompt."""
        self.clear(request)
        number = request.number
        if request.is_opening:
            self.say(ItemOpened(number, Media((FrameRef(0, 2, 1),), Content(f"{number:064x}"))))
        else:
            self.say(reply_made(number))


class Run:
    """A run over ITEMS items. `script` is called for each request that a child was sent.

    The devices are known before the second item comes, and from then on each has items.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, script: Script, loads: Callable[[Child], bool]) -> None:
        self.children: list[Child] = []
        self.sink = Paths()
        self.notices: list[str] = []
        self.replies: Counter[int] = Counter()
        self._know_devices = Event()
        monkeypatch.setattr(self.sink, "notice", self.notices.append)
        monkeypatch.setattr(engines, "ENOUGH", 1)

        def start(work: Work, verbose: bool) -> Child:
            child = Child(len(self.children), work.model.device, script)
            self.children.append(child)
            if work.lists_devices:
                child.say(DevicesFound(("one:0", "one:1")))
            if loads(child):
                child.say(Ready())
            return child

        def engine(work: Work, inbox: Inbox[InboxMessage], timeout: float, verbose: bool, **more: Any) -> Engine:
            return Engine(work, inbox, timeout, verbose, start=start, **more)

        monkeypatch.setattr(engines, "Engine", engine)
        work = Work("a:b", ModelFiles("none"), Model(device="cuda"), Input(), Generate(), lists_devices="a:b")
        self.executor = LocalExecutor(RunSpec(Caption(prompt="Hm?"), IDENTITY, work), self.sink)
        handle = self.executor._engine.handle

        def watched(message: InboxMessage) -> Any:
            events = handle(message)
            if isinstance(message.message, DevicesFound):
                self._know_devices.set()
            if isinstance(message.message, ReplyMade) and events:
                self.replies[message.message.number] += 1
            return events

        monkeypatch.setattr(self.executor._engine, "handle", watched)

    def _items(self) -> Iterator[Item]:
        for number, path in enumerate(PATHS):
            if number == 1:
                self._know_devices.wait(SECONDS)
            yield Item.of(path)

    def run(self) -> None:
        """Run to the end: every item has one reply, and its record comes in its turn."""
        thread = Thread(target=self.executor.run, args=(self._items(),), daemon=True)
        thread.start()
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert self.sink.paths == PATHS
        assert self.replies == Counter(range(ITEMS))


def test_an_engine_that_opens_nothing_delays_only_what_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens its items when all others are answered."""
    begun: list[RequestId] = []
    answered: set[int] = set()

    def script(child: Child, request: RequestId) -> None:
        if child.device == "one:1" or not request.is_opening:
            child.do(request)
            answered.update(() if request.is_opening else {request.number})
        else:
            child.begin(request.number)
            begun.append(request)
        if begun and len(begun) + len(answered) == ITEMS:
            waiting, begun[:] = list(begun), []
            for other in waiting:
                run.children[0].do(other)

    run = Run(monkeypatch, script, loads=lambda child: True)
    run.run()
    assert {child.device for child in run.children} == {"cuda", "one:1"} and not run.notices


def test_what_a_lost_engine_had_not_begun_is_answered_while_it_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second child loads the model when everything is answered but the prompt with which the first one ended."""
    answered: set[int] = set()

    def script(child: Child, request: RequestId) -> None:
        if child.device == "one:1" or request.is_opening:
            child.do(request)
            answered.update(() if request.is_opening else {request.number})
        elif child.pid == 0 and request.number == 0:
            child.begin(0, 0)
            child.exit()
        if len(answered) == ITEMS - 1:
            [second] = [other for other in run.children if other.device == "cuda" and other.pid > 0]
            second.say(Ready())
            second.do(RequestId(0, 0))

    run = Run(monkeypatch, script, loads=lambda child: child.pid == 0 or child.device == "one:1")
    run.run()
    assert Counter(child.device for child in run.children) == {"cuda": 2, "one:1": 1}
    assert run.notices == ["the engine was killed (out of memory?) on 0.png and started again"]


@pytest.mark.parametrize("error", ["raised", "too late"])
def test_an_engine_whose_model_is_not_loaded_is_left_out(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """The first one answers nothing before that."""
    waiting: list[RequestId] = []

    def script(child: Child, request: RequestId) -> None:
        if child.device == "cuda" and (request.is_opening or run.notices):
            child.do(request)
        elif child.device == "cuda":
            waiting.append(request)
            child.begin(*request)
        elif error == "raised":
            child.say(FunctionFailed(UnavailableError("tiny does not fit in memory")))

    run = Run(monkeypatch, script, loads=lambda child: child.device == "cuda")
    notice = run.notices.append

    def answer(message: str) -> None:
        notice(message)
        for request in waiting:
            run.children[0].do(request)

    monkeypatch.setattr(run.sink, "notice", answer)
    if error == "too late":
        monkeypatch.setattr("smolcli.engine.watchdog.LOAD_SECONDS", 0.0)
        monkeypatch.setattr(run.executor._engine, "_timeout", 0.2)
    run.run()
    reason = "tiny does not fit in memory" if error == "raised" else "the model was not loaded within 0 s"
    assert run.notices == [f"one:1 is left out: {reason}"]
