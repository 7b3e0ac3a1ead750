"""backends/worker.py: what happens in the child costs the replies under way, never the run, and stays in the child."""

import os
import signal
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from smolcli import child, registry
from smolcli.backends.worker import Worker
from smolcli.errors import EngineError, ModelError
from smolcli.models import ModelFiles
from smolcli.options import Generate, Model
from smolcli.registry import Entry
from smolcli.types import Finish, Piece, Prompt


class Trouble:
    """Does to itself what the prompt says."""

    name = "trouble"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        if files.name == "broken":
            raise ModelError("broken.gguf is not a GGUF", "get another")
        os.write(1, b"native chatter on standard output\n")
        os.write(2, b"native chatter on standard error\n")

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        for index, prompt in enumerate(prompts):
            word = str(prompt.turns[0].parts[0])
            if word.startswith("SIG"):
                os.write(2, b"GGML_ASSERT failed\n")
                os.kill(os.getpid(), getattr(signal, word))
            if word.isupper():
                word = os.environ.get(word, "")
            if word == "exit":
                os._exit(7)
            if word == "fault":
                raise ZeroDivisionError("a fault of ours")
            print("python chatter", flush=True)
            yield Piece(index, f"{word}!")
            yield Piece(index, "", Finish("stop"))
            if word == "the last":
                os.kill(os.getpid(), signal.SIGKILL)  # after it has answered, before it takes another

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BACKENDS, "trouble", Entry(f"{__name__}:Trouble"))


def answers(*words: str, files: str = "fine", verbose: bool = False) -> list[tuple[int, str, str | None]]:
    worker = Worker("trouble", ModelFiles(files), Model(), verbose)
    try:
        said = list(worker.generate((Prompt.user(word) for word in words), Generate()))
    finally:
        worker.close()
    texts = {p.index: "".join(q.text for q in said if q.index == p.index) for p in said}
    return [(p.index, texts[p.index], p.finish.fault and p.finish.fault.kind) for p in said if p.finish]


def test_a_crash_costs_one_reply_and_the_engine_starts_again() -> None:
    assert answers("one", "SIGSEGV", "two", "SIGILL", "three") == [
        (0, "one!", None), (1, "", "crash"), (2, "two!", None), (3, "", "crash"), (4, "three!", None),
    ]  # fmt: skip


def test_a_kill_says_memory_and_a_crash_says_the_signal_and_the_last_words() -> None:
    worker = Worker("trouble", ModelFiles("fine"), Model())
    prompts = [Prompt.user(word) for word in ("SIGKILL", "SIGSEGV")]
    faults = [piece.finish.fault for piece in worker.generate(prompts, Generate()) if piece.finish]
    worker.close()
    assert "memory" in faults[0].message
    assert "SIGSEGV" in faults[1].message
    assert "GGML_ASSERT failed" in faults[1].message


def test_an_engine_that_dies_between_two_prompts_gives_every_prompt_one_end() -> None:
    """The parent may notice when it sends the next prompt or when it waits for its answer."""
    for _ in range(5):
        made = answers("one", "the last", "two", "three")
        assert [index for index, *_ in made] == [0, 1, 2, 3]
        assert made[:2] == [(0, "one!", None), (1, "the last!", None)]
        assert made[3] == (3, "three!", None)


def test_a_prompt_that_cannot_be_sent_has_one_end(monkeypatch: pytest.MonkeyPatch) -> None:
    send, sent = child.Pipe.send, []

    def failing(pipe: child.Pipe, value: object) -> None:
        sent.append(value)
        if len(sent) == 3:  # options, the first prompt, the second
            raise child.Gone
        send(pipe, value)

    monkeypatch.setattr(child.Pipe, "send", failing)
    made = answers("one", "two", "three")
    assert [(index, text, bool(fault)) for index, text, fault in made] == [
        (0, "one!", False), (1, "", True), (2, "three!", False),
    ]  # fmt: skip


def test_no_log_is_left_even_by_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    worker = Worker("trouble", ModelFiles("fine"), Model())
    next(worker.generate([Prompt.user("one")], Generate()))
    assert list(tmp_path.iterdir()) == []  # while it runs
    worker.close()


def test_an_engine_that_cannot_be_started_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "pipe", lambda: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    monkeypatch.setattr("socket.socketpair", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    with pytest.raises(EngineError, match="cannot be started .Too many open files"):
        answers("one")
    assert list(tmp_path.iterdir()) == []


def test_idle_threads_of_the_engine_do_not_spin_unless_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """libgomp's own default starves whatever else runs on the cores: two runs side by side took 50 times as long."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert answers("GOMP_SPINCOUNT") == [(0, "1000!", None)]
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert answers("GOMP_SPINCOUNT") == [(0, "7!", None)]


def test_last_words_are_those_of_this_crash() -> None:
    worker = Worker("trouble", ModelFiles("fine"), Model())
    prompts = [Prompt.user(word) for word in ("SIGSEGV", "exit")]
    faults = [piece.finish.fault for piece in worker.generate(prompts, Generate()) if piece.finish]
    worker.close()
    assert "GGML_ASSERT" in faults[0].message
    assert "GGML_ASSERT" not in faults[1].message
    assert "exit code 7" in faults[1].message


def test_three_crashes_in_a_row_end_the_run() -> None:
    with pytest.raises(EngineError, match="SIGSEGV"):
        answers("SIGSEGV", "SIGSEGV", "SIGSEGV", "never")


def test_errors_of_the_child_arrive_as_they_are() -> None:
    with pytest.raises(ModelError, match="broken.gguf is not a GGUF; get another"):
        answers("one", files="broken")
    with pytest.raises(EngineError, match="a fault of ours"):
        answers("fault")


def test_nothing_is_started_without_a_prompt() -> None:
    worker = Worker("trouble", ModelFiles("broken"), Model())
    assert list(worker.generate([], Generate())) == []
    worker.close()


def test_chatter_of_the_child_reaches_neither_stream(capfd: pytest.CaptureFixture[str]) -> None:
    assert answers("one") == [(0, "one!", None)]
    assert capfd.readouterr() == ("", "")


def test_with_verbose_chatter_goes_to_standard_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    answers("one", verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "native chatter on standard output" in err
    assert "python chatter" in err


def test_one_child_serves_several_calls() -> None:
    worker = Worker("echo", ModelFiles("echo"), Model())
    for word in ("a", "b"):
        [*_, last] = worker.generate([Prompt.user(word)], Generate())
        assert last.finish.reason == "stop"
    worker.close()
