"""engine/client.py with real children: what they print stays in them, and how they are started."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue

import numpy  # noqa: F401 - its BLAS library is looked for
import pytest

from smolcli.engine.client import Engine
from smolcli.engine.engine_child import ChildProcess, start_process
from smolcli.engine.protocol import (
    Event,
    InboxMessage,
    Opened,
    PieceReceived,
    ReplyMade,
    ReplyReceived,
    Restarted,
    Work,
)
from smolcli.errors import EngineError, ErrorKind
from smolcli.process import spawn, worker_main
from smolcli.process.child import Child
from smolcli.process.pipe import PeerClosed
from smolcli.process.spawn import ENGINE
from smolcli.types import Item, Prompt
from tests.engine.troubled import PICTURE, blas_threads, outcomes_of, work


def test_pieces_are_events_where_the_work_streams() -> None:
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    events: list[Event] = []
    with closing(Engine(work(streams=True), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        while not any(isinstance(event, ReplyReceived) for event in events):
            engine.flush()
            events += engine.handle(inbox.get(timeout=60))
            if events and isinstance(events[-1], Opened):
                engine.ask(0, 0, Prompt.user("word"))
    assert [event.text for event in events if isinstance(event, PieceReceived)] == ["word!"]


def test_an_item_whose_reply_is_in_the_inbox_is_in_progress() -> None:
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    with closing(Engine(work(), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        engine.open(1, Item.of("a.png", PICTURE))
        engine.flush()
        while not isinstance((message := inbox.get(timeout=60)).message, ReplyMade):
            if any(isinstance(event, Opened) and event.number == 0 for event in engine.handle(message)):
                engine.ask(0, 0, Prompt.user("word"))
                engine.flush()
        engine.ask(1, 0, Prompt.user("hang"))  # not begun before the reply is handled
        assert 0 in engine.items_in_progress
        engine.handle(message)
        assert 0 not in engine.items_in_progress


def test_no_log_is_left_even_by_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    with closing(Engine(work(), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        engine.flush()
        inbox.get(timeout=60)
        assert list(tmp_path.iterdir()) == []  # while it runs


def test_a_child_that_cannot_be_started_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "pipe", lambda: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    monkeypatch.setattr("socket.socketpair", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    with pytest.raises(EngineError, match="cannot be started .Too many open files"):
        outcomes_of("one")
    assert list(tmp_path.iterdir()) == []


class Unreadable:
    """What pickle writes and cannot read."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("no number",)


def test_a_child_that_cannot_read_a_message_ends_and_says_why() -> None:
    process = Child(ENGINE, (work(),))
    process.pipe.send((Unreadable(),))
    with suppress(PeerClosed):
        while process.pipe.poll(60):
            process.pipe.receive()
        pytest.fail("it does not end")
    fault = process.post_mortem("")
    assert (
        fault.message
        == "the engine crashed (exit code 1): ValueError: invalid literal for int() with base 10: 'no number'"
    )


def test_a_child_that_reads_nothing_does_not_hold_up_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "EXIT_SECONDS", 0.1)
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    pids: list[int] = []
    now = 1000.0

    def start(work: Work, verbose: bool) -> ChildProcess:
        process = start_process(work, verbose)
        pids.append(process.pid)
        return process

    with closing(Engine(work(), inbox, timeout=2.0, clock=lambda: now, start=start)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        while not engine.ready_at or not inbox.empty():
            engine.flush()
            engine.handle(inbox.get(timeout=60))
        os.kill(pids[0], signal.SIGSTOP)
        engine.open(1, Item.of("-", bytes(2**20)))  # more than a pipe holds
        engine.flush()
        events: list[Event] = []
        for now in range(1001, 1020):  # noqa: B007 - the clock reads it
            events = events or engine.check()
        assert events in ([Restarted(ErrorKind.HANG, ())], [Restarted(ErrorKind.TIMEOUT, (0,))])
        while len(pids) == 1:  # until the first has ended
            engine.handle(inbox.get(timeout=60))


def test_idle_threads_of_the_engine_do_not_spin_unless_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """libgomp's default starves all else that runs on the cores: two runs at the same time took 50 times as long."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert outcomes_of("GOMP_SPINCOUNT") == [(0, f"{worker_main.SPIN_COUNT}!", None)]
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert outcomes_of("GOMP_SPINCOUNT") == [(0, "7!", None)]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what is loaded")
def test_numpy_in_the_engine_has_one_thread_and_libraries_loaded_later_keep_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if blas_threads() == 0:
        pytest.skip("this numpy has another library for matrices")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert outcomes_of("blas", "OPENBLAS_NUM_THREADS") == [(0, "1!", None), (1, "!", None)]
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert outcomes_of("OPENBLAS_NUM_THREADS") == [(0, "1!", None)]


def test_output_of_the_child_reaches_neither_stream(capfd: pytest.CaptureFixture[str]) -> None:
    assert outcomes_of("one") == [(0, "one!", None)]
    assert capfd.readouterr() == ("", "")


def test_with_verbose_output_of_the_child_goes_to_standard_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes_of("one", verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "native chatter on standard output" in err
    assert "python chatter" in err
