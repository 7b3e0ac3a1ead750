"""process/child.py: one function, called in a child process."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smolcli.engine.progress_cells import FIELDS
from smolcli.engine.protocol import OPENERS
from smolcli.errors import EngineError, ErrorKind, OutputError, SmolError
from smolcli.options import MAX_JOBS
from smolcli.process.child import Child, call, stream
from smolcli.process.spawn import SHARED_BYTES, Process
from smolcli.process.worker_main import BATCH_VALUES


def add(a: int, b: int) -> int:
    print("chatter")
    return a + b


def fail() -> None:
    raise OutputError("out.gguf: disk full", "make room", kind=ErrorKind.OUTPUT)


class Lockable(SmolError):
    """An error that pickle cannot write."""


def fail_with_a_lock() -> None:
    error = Lockable("the file is locked", "wait", kind=ErrorKind.UNREADABLE)
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def count_and_fail(values: int) -> Iterator[int]:
    yield from range(values)
    raise OutputError("disk full")


def crash() -> None:
    os.write(2, b"GGML_ASSERT failed\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def test_the_value_comes_back_and_the_output_does_not(capfd: pytest.CaptureFixture[str]) -> None:
    assert call("tests.process.test_child:add", 2, 3) == 5
    assert capfd.readouterr() == ("", "")


def test_errors_of_the_function_are_raised_here() -> None:
    with pytest.raises(OutputError, match="disk full; make room"):
        call("tests.process.test_child:fail")
    with pytest.raises(EngineError, match="TypeError"):
        call("tests.process.test_child:add", 1)


def test_an_error_that_cannot_be_pickled_arrives_as_its_text() -> None:
    with pytest.raises(EngineError, match="^the file is locked; wait$") as failed:
        call("tests.process.test_child:fail_with_a_lock")
    assert failed.value.kind == "unreadable"


def test_values_of_a_generator_come_before_its_error() -> None:
    values = stream("tests.process.test_child:count_and_fail", BATCH_VALUES)
    assert [next(values) for _ in range(BATCH_VALUES)] == list(range(BATCH_VALUES))
    with pytest.raises(OutputError, match="disk full"):
        next(values)


def test_ctrl_c_while_a_process_is_started_reaches_this_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn, started = os.posix_spawn, []

    def press_ctrl_c(*args: Any, **options: Any) -> int:
        started.append(spawn(*args, **options))
        for pid in (started[0], os.getpid()):
            os.kill(pid, signal.SIGINT)
        return started[0]

    monkeypatch.setattr(os, "posix_spawn", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        call("tests.process.test_child:add", 2, 3)
    assert os.waitstatus_to_exitcode(os.waitpid(started[0], 0)[1]) == 0  # it ended because its pipe was closed


def test_a_crash_is_an_error() -> None:
    with pytest.raises(EngineError, match="SIGSEGV.*GGML_ASSERT failed"):
        call("tests.process.test_child:crash")


def wait() -> None:
    signal.pause()


def test_a_child_that_hangs_is_ended_after_the_timeout() -> None:
    with pytest.raises(EngineError, match="no answer in 0.5 seconds") as given_up:
        call("tests.process.test_child:wait", seconds=0.5)
    assert given_up.value.kind == "timeout"
    assert call("tests.process.test_child:add", 2, 3, seconds=60) == 5


def test_a_function_ends_with_the_parent_of_its_process() -> None:
    child = Child("smolcli.process.worker_main:run_function", ("tests.process.test_child:wait", ()))
    child.pipe.close()  # as the system does when the parent is killed
    assert os.waitpid(child.pid, 0)[1] != 0
    child.close(at_once=True)


def test_a_child_can_be_ended_where_sigchld_is_ignored() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = Process("tests.process.test_child:add", verbose=False)
        os.close(process.outgoing)  # it ends
        while Path(f"/proc/{process.pid}").exists():
            pass
        assert process.end(at_once=True) == 0
        os.close(process.incoming)
        process.close_log()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_child_whose_interpreter_prints_at_start_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello', flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert call("builtins:abs", -3) == 3


def test_a_child_has_one_malloc_arena_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert call("os:getenv", "MALLOC_ARENA_MAX") == "1"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert call("os:getenv", "MALLOC_ARENA_MAX") == "4"


def test_shared_memory_holds_a_progress_cell_for_every_request_under_way() -> None:
    """Of each reply, of as many prompts that are prepared ahead, and of the items that are being opened."""
    assert SHARED_BYTES % (FIELDS * 8) == 0
    assert 2 * MAX_JOBS + OPENERS <= SHARED_BYTES // (FIELDS * 8)
