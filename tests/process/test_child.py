"""process/child.py: one function, called in a child process."""

import os
import signal
from pathlib import Path

import pytest

from smolcli.engine.protocol import CELLS, FIRST_REPLY_CELL
from smolcli.errors import EngineError, ErrorKind, OutputError
from smolcli.options import MAX_JOBS
from smolcli.process.child import Child, call
from smolcli.process.spawn import SHARED_BYTES, Process


def add(a: int, b: int) -> int:
    print("chatter")
    return a + b


def fail() -> None:
    raise OutputError("out.gguf: disk full", "make room", kind=ErrorKind.OUTPUT)


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


def test_shared_memory_holds_every_progress_cell() -> None:
    assert SHARED_BYTES == 2 * CELLS * 8 and MAX_JOBS <= CELLS - FIRST_REPLY_CELL
