"""executors/local.py: Ctrl-C and --fail-fast, in the order of messages that each test writes down."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from smolcli.engine import engines
from smolcli.engine.client import Engine
from smolcli.engine.progress_cells import OPENING, RequestId
from smolcli.engine.protocol import Ask, Event, InboxMessage, ItemOpened, Open, Ready, ReplyMade, Work
from smolcli.errors import ErrorKind
from smolcli.executors.answers import Answers, KnownAnswers, Skip
from smolcli.executors.base import RunSpec
from smolcli.executors.duplicates import OpenItem
from smolcli.executors.local import LocalExecutor
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model
from smolcli.process.inbox import Inbox
from smolcli.tasks.caption import Caption
from smolcli.types import Content, Fault, Finish, FrameRef, Item, Media, Memory, Record, Reply
from tests.engine.scripted import ScriptedChild, reply_made
from tests.executors.paths import Paths
from tests.helpers import IDENTITY

SECONDS = 30.0  # after which a run that does not end has failed its test


class Scene:
    """A run over items 0.png, 1.png ... whose engine has scripted children.

    `script` is called in the run's thread after each request that a child was sent. The first `opened` items are opened
    at once.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, script: Callable[[ScriptedChild, RequestId], None],
        opened: int = 10, fail_fast: bool = False, answers: Answers | None = None,
    ) -> None:  # fmt: skip
        self.children: list[ScriptedChild] = []
        self.sink = Paths(fail_fast)

        class Child(ScriptedChild):
            def post(self, value: Any) -> None:
                for message in value:
                    super().post((message,))
                    if isinstance(message, Open) and message.number < opened:
                        media = Media((FrameRef(0, 2, 1),), Content(f"{message.number:064x}"))
                        self.say(ItemOpened(message.number, media))
                    if isinstance(message, (Open, Ask)):
                        script(self, message.request)

        def start(work: Work, verbose: bool) -> ScriptedChild:
            self.children.append(Child(len(self.children)))
            self.children[-1].say(Ready())
            return self.children[-1]

        def engine(work: Work, inbox: Inbox[InboxMessage], timeout: float, verbose: bool, **more: Any) -> Engine:
            return Engine(work, inbox, timeout, verbose, start=start, **more)

        monkeypatch.setattr(engines, "Engine", engine)
        work = Work("none:None", ModelFiles("none"), Model(), Input(), Generate())
        self.executor = LocalExecutor(RunSpec(Caption(prompt="Hm?"), IDENTITY, work), self.sink, answers=answers)

    def run(self, items: int) -> list[str]:
        """Run over so many items. Returns the paths of the records."""
        source = [Item.of(f"{number}.png") for number in range(items)]
        thread = Thread(target=self.executor.run, args=(source,), daemon=True)
        thread.start()
        thread.join(SECONDS)
        assert not thread.is_alive()
        return self.sink.paths


def failed(number: int) -> ReplyMade:
    """The failed reply to an item's prompt."""
    return ReplyMade(number, 0, Reply("", Finish("error", fault=Fault(ErrorKind.MODEL, "no"))), Memory())


def test_a_failure_after_ctrl_c_ends_a_run_with_fail_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has begun two prompts when Ctrl-C comes, and the first of them fails."""

    def script(child: ScriptedChild, request: RequestId) -> None:
        if request.is_opening:
            return
        child.begin(*request)
        if request.number == 1:
            scene.executor.stop()
            child.say(failed(0))
            child.say(reply_made(1))

    scene = Scene(monkeypatch, script, fail_fast=True)
    assert scene.run(items=4) == ["0.png"]


def test_ctrl_c_after_a_crash_writes_the_records_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 is done behind 0, which waits for the model, when the opening of 2 ends the child."""
    were_idle: list[bool] = []

    def script(child: ScriptedChild, request: RequestId) -> None:
        if child.pid == 0:
            if request == (1, 0):
                child.say(reply_made(1))
            elif request == (2, OPENING):
                child.begin(*request)
            if {(1, 0), (2, OPENING)} <= set(child.requests):
                child.exit()
        else:
            assert request == (2, OPENING)  # the only suspect, which is tried alone
            were_idle.append(scene.executor.is_idle)
            scene.executor.stop()

    scene = Scene(monkeypatch, script, opened=2)
    assert scene.run(items=3) == ["1.png"]
    assert were_idle == [False]
    assert scene.executor.is_idle


def test_a_run_is_not_idle_until_the_record_of_a_reply_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the calls another thread, or a signal, may ask whether it is."""

    def script(child: ScriptedChild, request: RequestId) -> None:
        if not request.is_opening:
            child.say(reply_made(request.number))

    scene = Scene(monkeypatch, script)
    engine, sink, were_idle = scene.executor._engine, scene.sink, []
    handle, release, write_record = engine.handle, engine.release, sink.write_record

    def watched_handle(message: InboxMessage) -> list[Event]:
        events = handle(message)
        if isinstance(message.message, ReplyMade):
            were_idle.append(scene.executor.is_idle)
        return events

    def watched_release(number: int) -> None:
        release(number)
        if not sink.paths:
            were_idle.append(scene.executor.is_idle)

    def watched_write(record: Record) -> bool:
        were_idle.append(scene.executor.is_idle)
        return write_record(record)

    monkeypatch.setattr(engine, "handle", watched_handle)
    monkeypatch.setattr(engine, "release", watched_release)
    monkeypatch.setattr(sink, "write_record", watched_write)
    assert scene.run(items=1) == ["0.png"]
    assert were_idle == [False] * 3
    assert scene.executor.is_idle


def test_a_run_is_not_idle_while_the_sidecars_of_a_skipped_item_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    were_idle: list[bool] = []

    class Skipping(KnownAnswers):
        def decide(self, item: OpenItem) -> Skip:
            return Skip()

    scene = Scene(monkeypatch, lambda child, request: None, answers=Skipping(Paths(), None, False))
    monkeypatch.setattr(scene.sink, "skip", lambda *_: were_idle.append(scene.executor.is_idle))
    assert scene.run(items=1) == []
    assert were_idle == [False]
    assert scene.executor.is_idle
