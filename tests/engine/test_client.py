"""engine/client.py: an input that ends the child fails alone, and what the child prints stays in it."""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy  # noqa: F401 - its BLAS library is looked for
import pytest

from smolcli.engine import client as client_module
from smolcli.engine import watchdog as watchdog_module
from smolcli.engine.client import Engine
from smolcli.engine.protocol import (
    CELLS,
    DECODER_CELL,
    FIRST_REPLY_CELL,
    OPENERS,
    OPENING,
    Event,
    Failed,
    InboxMessage,
    Opened,
    PieceReceived,
    ReplyReceived,
    RequestId,
    Work,
)
from smolcli.errors import EngineError, ModelError
from smolcli.generation import scheduler
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model, Sampling
from smolcli.process import pipe, worker_main
from smolcli.system import memory
from smolcli.types import Finish, Item, Media, Memory, Piece, Prompt, Reply
from tests.helpers import png

PICTURE = png()


class Trouble:
    """A backend that does to its process what the prompt says."""

    name, device_summary = "trouble", "nothing"
    leaked: list[bytes] = []  # noqa: RUF012

    def __init__(self, files: ModelFiles, options: Model) -> None:
        if files.name == "broken":
            raise ModelError("broken.gguf is not a GGUF", "get another")
        if files.name == "deadly":
            os.kill(os.getpid(), signal.SIGILL)
        os.write(1, b"native chatter on standard output\n")
        os.write(2, b"native chatter on standard error\n")

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        for index, prompt in enumerate(prompts):
            assert prompt is not None
            yield Piece(index, "")
            word = str(prompt.turns[0].parts[0])
            if word.startswith("SIG"):
                os.write(2, b"GGML_ASSERT failed\n")
                os.kill(os.getpid(), getattr(signal, word))
            if word == "once" and not os.path.exists(str(prompt.turns[0].parts[1])):
                Path(str(prompt.turns[0].parts[1])).touch()
                os.kill(os.getpid(), signal.SIGSEGV)
            if word.isupper():
                word = os.environ.get(word, "")
            if word == "blas":
                word = str(blas_threads())
            if word == "exit":
                os._exit(7)
            if word == "fault":
                raise ZeroDivisionError("a fault of ours")
            if word == "hang":
                signal.pause()
            if word == "leak":
                self.leaked.append(os.urandom(1) * 2**20)
            while word == "endless":
                yield Piece(index, "on and on ")
            print("python chatter", flush=True)
            yield Piece(index, f"{word}!")
            yield Piece(index, "", Finish("stop"))
            if word == "the last":
                os.kill(os.getpid(), signal.SIGKILL)  # after it has answered, before it takes another

    def gpu_peak(self) -> int:
        return 4711

    def close(self) -> None: ...


def blas_threads() -> int:
    """The threads of the OpenBLAS in numpy's wheels; 0 where numpy has another library."""
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "scipy_openblas" in line}
    return sum(ctypes.CDLL(path).scipy_openblas_get_num_threads64_() for path in loaded)


class Preparing(Trouble):
    """Ends its process while it prepares the prompt `deadly`, though it is answering another."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        def prepare(prompt: Prompt) -> str:
            word, flag = map(str, prompt.turns[0].parts)
            if word == "deadly":
                Path(flag).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return flag

        def reply(index: int, flag: str, penalty: float) -> scheduler.ReplySteps:
            while not os.path.exists(flag):
                yield Piece(index, "")  # the next prompt is taken between two pieces; it ends the process
            yield Piece(index, "fine")
            yield Piece(index, "", Finish("stop"))

        scheduler.MIN_THREADED_PIXELS = -1  # every prompt is worth a thread
        return scheduler.schedule(prompts, prepare, reply)


class Two(Trouble):
    """In its first process, begins two prompts before it answers any; `hang` holds up all that are under way."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        under_way: list[int] = []
        hangs = False
        index = 0
        for prompt in prompts:
            if prompt is not None:
                word, flag = map(str, prompt.turns[0].parts)
                yield Piece(index, "")
                under_way.append(index)
                hangs, index = hangs or word == "hang", index + 1
            if len(under_way) < 2 and not os.path.exists(flag):
                continue
            Path(flag).touch()
            if hangs:
                signal.pause()
            for begun in under_way:
                yield Piece(begun, "fine", Finish("stop"))
            under_way.clear()


class Long(Trouble):
    """Answers every prompt but `long`; its process ends after `last`, and after that whenever `long` is under way."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        index = 0
        flags: list[str] = []
        for prompt in prompts:
            if prompt is None:
                if os.path.exists(flags[0]):
                    os.kill(os.getpid(), signal.SIGSEGV)
                continue
            word, flag = map(str, prompt.turns[0].parts)
            flags.append(flag)
            yield Piece(index, "")
            if word != "long":
                yield Piece(index, "fine", Finish("stop"))
            if word == "last":
                Path(flag).touch()
                os.kill(os.getpid(), signal.SIGSEGV)
            index += 1


class Early(Trouble):
    """Ends its process with the prompt `deadly`, before the first piece says that it has begun."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        for index, prompt in enumerate(prompts):
            assert prompt is not None
            if prompt.turns[0].parts[0] == "deadly":
                os.kill(os.getpid(), signal.SIGKILL)
            yield Piece(index, "fine")
            yield Piece(index, "", Finish("stop"))


def work(files: str = "fine", backend: str = "Trouble", **more: Any) -> Work:
    return Work(f"{__name__}:{backend}", ModelFiles(files), Model(), Input(), Generate(), **more)


def outcomes_of(
    *words: object, files: str = "fine", items: list[Item] | None = None, **more: Any
) -> list[tuple[int, str, str | None]]:
    """Ask each word about a picture of its own, all at once. Returns the number, text and kind of fault of each."""
    return [
        (number, text, fault and fault[0]) for number, text, fault in faults(*words, files=files, items=items, **more)
    ]


def faults(
    *words: object, files: str = "fine", items: list[Item] | None = None, verbose: bool = False, timeout: float = 60.0,
    growth: int = 2**30, backend: str = "Trouble",
) -> list[tuple[int, str, tuple[str, str] | None]]:  # fmt: skip
    """The same with the kind and the message of each fault."""
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    ended: list[tuple[int, str, tuple[str, str] | None]] = []
    opened: set[int] = set()
    asked = 0
    with closing(Engine(work(files, backend), inbox, timeout, verbose, growth)) as engine:
        for number in range(len(words)):
            engine.open(number, items[number] if items else Item.of(f"{number}.png", PICTURE))
        while len(ended) < len(words):
            try:
                events = engine.handle(inbox.get(timeout=engine.seconds_until_check))
            except Empty:
                events = []
            for event in events + engine.check():
                if isinstance(event, Opened):
                    opened.add(event.number)
                elif isinstance(event, ReplyReceived):
                    ended.append((event.number, event.reply.text, None))
                    engine.release(event.number)
                elif isinstance(event, Failed):
                    ended.append((event.number, "", (event.fault.kind, event.fault.message)))
                    engine.release(event.number)
            while asked in opened or asked in [number for number, *_ in ended]:  # in order, whichever is open first
                if asked in opened:
                    word = words[asked]
                    engine.ask(asked, 0, Prompt.user(*(word if isinstance(word, tuple) else (word,))))
                asked += 1
    return ended


def test_a_crash_fails_one_input_and_the_engine_goes_on() -> None:
    outcomes = outcomes_of("one", "SIGSEGV", "two", "SIGILL", "three")
    assert sorted(outcomes) == [
        (0, "one!", None), (1, "", "crash"), (2, "two!", None), (3, "", "crash"), (4, "three!", None),
    ]  # fmt: skip


def test_a_kill_says_memory_and_a_crash_says_the_signal_and_the_last_words_of_this_crash() -> None:
    by_number = {number: fault or ("", "") for number, _, fault in faults("SIGKILL", "SIGSEGV", "one", "exit")}
    assert by_number[0][0] == "memory"
    assert "memory" in by_number[0][1]
    assert "SIGSEGV" in by_number[1][1] and "GGML_ASSERT failed" in by_number[1][1]
    assert "exit code 7" in by_number[3][1] and "GGML_ASSERT" not in by_number[3][1]


def test_a_child_that_dies_between_two_inputs_fails_none() -> None:
    outcomes = outcomes_of("one", "the last", "two", "three")
    assert sorted(outcomes) == [(0, "one!", None), (1, "the last!", None), (2, "two!", None), (3, "three!", None)]


def test_an_input_that_ends_the_engine_once_and_not_when_it_is_tried_alone_is_answered(tmp_path: Path) -> None:
    """As after a kill for want of memory, while another input was being opened."""
    fifo = tmp_path / "slow.png"
    os.mkfifo(fifo)  # its opening lasts until the engine has died
    outcomes = outcomes_of(
        ("once", str(tmp_path / "flag")), "two",
        items=[Item.of("0.png", PICTURE), Item.of(str(fifo))], timeout=3.0,
    )  # fmt: skip
    assert outcomes == [(0, "once!", None), (1, "", "timeout")]


def test_after_a_crash_replies_come_in_the_order_of_asking(tmp_path: Path) -> None:
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    replied: list[int] = []
    with closing(Engine(work(), inbox)) as engine:
        for number in range(4):
            engine.open(number, Item.of("a.png", PICTURE))
        opened: set[int] = set()
        while len(opened) < 4:
            opened |= {event.number for event in engine.handle(inbox.get(timeout=60)) if isinstance(event, Opened)}
        cells = engine._child_state.cells
        assert cells is not None
        while any(cells.values()[:OPENERS]):
            pass
        cells.begin(0, RequestId(3, OPENING))  # as when the child ends between sending that it is open and clearing it
        for number, word in enumerate([("once", str(tmp_path / "flag")), ("a",), ("b",), ("c",)]):
            engine.ask(number, 0, Prompt.user(*word))
        while len(replied) < 4:
            for event in engine.handle(inbox.get(timeout=60)):
                if isinstance(event, ReplyReceived):
                    replied.append(event.number)
                    engine.release(event.number)
    assert replied == [0, 1, 2, 3]


def test_an_input_that_hangs_and_one_without_end_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.png")
    items = [Item.of("0.png", PICTURE), Item.of(str(tmp_path / "never.png")), *[Item.of("x", PICTURE)] * 2]
    outcomes = {
        number: (text, fault or ("", ""))
        for number, text, fault in faults("hang", "", "endless", "one", items=items, timeout=1.0)
    }
    assert outcomes[3] == ("one!", ("", ""))
    assert {outcomes[number][1][0] for number in (0, 1, 2)} == {"timeout"}
    assert "no word of an answer within 1 s" in outcomes[0][1][1]
    assert "could not be opened within 1 s" in outcomes[1][1][1]
    assert "the answer had no end within 1 s" in outcomes[2][1][1]


def test_an_input_that_waits_beside_one_that_hangs_is_not_blamed(tmp_path: Path) -> None:
    flag = str(tmp_path / "flag")
    outcomes = outcomes_of(("fine", flag), ("hang", flag), ("fine", flag), backend="Two", timeout=2.0)
    assert sorted(outcomes) == [(0, "fine", None), (1, "", "timeout"), (2, "fine", None)]


def test_an_input_that_others_overtake_is_blamed_for_what_it_does(tmp_path: Path) -> None:
    words = [("long", str(tmp_path / "flag")), *[("other", str(tmp_path / "flag"))] * (CELLS + 9)]
    outcomes = outcomes_of(*words, ("last", str(tmp_path / "flag")), backend="Long")
    assert sorted(outcomes) == [(0, "", "crash"), *((n, "fine", None) for n in range(1, CELLS + 11))]


def test_time_in_which_this_process_was_stopped_does_not_count_as_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ctrl-Z, or because nobody read what it writes."""
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    with closing(Engine(work(), inbox, timeout=50.0)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        while not any(state.is_in_model for state in engine._activity().values()):  # until it has begun
            with suppress(Empty):
                for event in engine.handle(inbox.get(timeout=0.01)):
                    if isinstance(event, Opened):
                        engine.ask(0, 0, Prompt.user("hang"))
        while engine.seconds_until_check > 0.01:
            pass
        now = time.monotonic()
        engine.check()
        monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
        assert engine.check() == []
        monkeypatch.setattr(time, "monotonic", lambda: now + 3600.9)
        assert engine.check() == []
        ended: list[Event] = []
        for second in range(60):  # then this process goes on
            monkeypatch.setattr(time, "monotonic", lambda second=second: now + 3601 + second)
            ended += engine.check()
        assert [event.fault.kind for event in ended if isinstance(event, Failed)] == ["timeout"]
        assert len(ended) == 1


class QuietChild:
    """Stands in for a child, and its pipe: it sends nothing, and works on what a test writes into its cells."""

    pid = 0

    def __init__(self, *_: object) -> None:
        self.pipe, self.shared = self, memoryview(bytearray(8 * 2 * CELLS)).cast("q")
        self.sent: list[object] = []

    def send(self, messages: Iterable[object]) -> None:
        self.sent += messages

    def receive(self) -> None:
        raise pipe.PeerClosed

    def end(self, at_once: bool) -> None:
        pass

    close = end


class Watched:
    """An engine whose child works on `prompts`, items and slots, with a clock of its own."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, prompts: list[tuple[int, int]], sampling: Sampling | None = None
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr(client_module, "Child", QuietChild)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.engine = Engine(replace(work(), sampling=sampling), SimpleQueue(), timeout=600.0)
        for number in {number for number, _ in prompts}:
            self.engine.open(number, Item.of("a.png", PICTURE))
            self.engine._on_opened(number, Media(()))
        self.engine._on_ready()
        self.state = self.engine._child_state
        assert self.state.cells is not None
        self.cells = self.state.cells
        for place, (number, slot) in enumerate(prompts):
            self.engine.ask(number, slot, Prompt.user("a"))
            self.cells.begin(FIRST_REPLY_CELL + place, RequestId(number, slot))

    def reply(self, number: int, slot: int) -> None:
        """The child answers a prompt."""
        self.engine._on_reply(RequestId(number, slot), Reply("a", Finish("stop")), Memory())

    def survives(self, seconds: int, makes_progress: bool = True) -> bool:
        """Whether the child is left running for so long, while the first reply gets a piece each second, or none."""
        for _ in range(seconds):
            self.now += 1.0
            if makes_progress:
                self.cells.count_piece(FIRST_REPLY_CELL)
            if self.engine.check() or self.engine._child_state is not self.state:
                return False
        return True


def test_replies_side_by_side_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    eight = Watched(monkeypatch, [(number, 0) for number in range(8)])
    assert eight.survives(8 * 590)
    assert not eight.survives(8 * 20)
    stuck = Watched(monkeypatch, [(number, 0) for number in range(8)])
    assert stuck.survives(590, makes_progress=False) and not stuck.survives(20, makes_progress=False)
    assert list(stuck.engine._quarantine.suspects) == [(number, 0) for number in range(8)]


def test_a_child_that_had_nothing_to_do_is_not_taken_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, [(0, 0)])
    watched.reply(0, 0)
    watched.engine.release(0)
    assert watched.survives(3600)
    watched.engine.open(1, Item.of("b.png", PICTURE))
    assert watched.survives(590)
    assert not watched.survives(20)  # it did not begin with it


def test_an_item_is_released_at_once_while_others_wait_for_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other message may be sent for as long as they wait."""
    watched = Watched(monkeypatch, [(0, 0)])
    watched.reply(0, 0)
    sent = watched.state.child.sent  # type: ignore[union-attr]
    watched.engine.release(0)
    assert ("release", 0) not in sent  # it goes with the next message
    for number in (1, 2):
        watched.engine.open(number, Item.of("b.png", PICTURE))
    assert sent[-3:] == [("release", 0), ("open", 1, Item.of("b.png", PICTURE)), ("open", 2, Item.of("b.png", PICTURE))]
    watched.engine._on_opened(1, Media(()))
    watched.engine.release(1)
    assert sent[-1] == ("release", 1)


def test_decoding_for_the_next_prompt_takes_no_time_from_the_one_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    film = Watched(monkeypatch, [(0, 0)], Sampling())
    film.engine.ask(0, 1, Prompt.user("a"))
    film.cells.begin(DECODER_CELL, RequestId(0, 1))
    assert film.survives(590) and not film.survives(20)


def test_prompts_of_one_item_share_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    four = Watched(monkeypatch, [(0, slot) for slot in range(4)])
    assert four.survives(200)
    for slot in (0, 1):
        four.reply(0, slot)
    assert four.survives(390)
    assert not four.survives(20)


def test_three_crashes_in_a_row_end_the_run_and_one_answer_between_them_does_not() -> None:
    with pytest.raises(EngineError, match=r"3 times in a row the engine crashed \(SIGSEGV\)"):
        outcomes_of("SIGSEGV", "SIGSEGV", "SIGSEGV", "never")
    assert len(outcomes_of("SIGSEGV", "SIGSEGV", "one", "SIGSEGV", "SIGSEGV", "two")) == 6


def test_a_model_that_cannot_be_loaded_ends_the_run_and_blames_no_input() -> None:
    with pytest.raises(EngineError, match=r"3 times in a row the engine crashed \(SIGILL\)"):
        outcomes_of("one", "two", files="deadly")


@pytest.fixture(scope="module")
def photo() -> bytes:
    """36 MB of pixels: the engine holds at most seven such at a time."""
    return png((4000, 3000))


@pytest.mark.slow
def test_large_pictures_ahead_do_not_keep_a_child_from_being_replaced(photo: bytes) -> None:
    items = [Item.of(f"{number}.png", photo) for number in range(24)]
    outcomes = outcomes_of(*["one"] * 24, items=items, growth=-(10**12))  # replaced at the first measure
    assert sorted(outcomes) == [(number, "one!", None) for number in range(24)]


@pytest.mark.slow
def test_large_pictures_ahead_do_not_keep_others_from_being_opened_after_a_crash(photo: bytes) -> None:
    items = [Item.of("0.png", PICTURE)] + [Item.of(f"{number}.png", photo) for number in range(1, 20)]
    outcomes = outcomes_of("SIGSEGV", *["one"] * 19, items=items)
    assert sorted(outcomes) == [(0, "", "crash")] + [(number, "one!", None) for number in range(1, 20)]


def test_a_prompt_that_ends_the_engine_while_it_is_prepared_is_blamed_not_the_one_being_answered(
    tmp_path: Path,
) -> None:
    flag = str(tmp_path / "flag")
    outcomes = outcomes_of(("fine", flag), ("deadly", flag), ("fine", flag), backend="Preparing")
    assert sorted(outcomes) == [(0, "fine", None), (1, "", "memory"), (2, "fine", None)]


def test_a_prompt_that_ends_the_engine_before_its_first_piece_is_found() -> None:
    outcomes = outcomes_of("deadly", "fine", "fine", backend="Early")
    assert sorted(outcomes) == [(0, "", "memory"), (1, "fine", None), (2, "fine", None)]


@pytest.mark.slow
def test_memory_that_grows_is_given_back_between_two_inputs() -> None:
    """800 inputs leak a MiB each, 800 MB in all; no child grows beyond 200 MB, and no input is lost."""
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    most, done, asked = 0, 0, 0
    with closing(Engine(work(), inbox, growth=24 * 2**20)) as engine:
        while done < 800:
            while asked < min(800, done + 8):
                engine.open(asked, Item.of("a.png", PICTURE))
                asked += 1
            for event in engine.handle(inbox.get(timeout=60)):
                if isinstance(event, Opened):
                    engine.ask(event.number, 0, Prompt.user("leak"))
                elif isinstance(event, ReplyReceived):
                    assert event.reply.text == "leak!"
                    done += 1
                    engine.release(event.number)
                    state = engine._child_state
                    if state.child is not None and state.is_loaded:  # before, it may still be a copy of this process
                        most = max(most, memory.private_bytes(state.child.pid))
        assert 5 < engine.restarts < 40  # each leaks more than 24 MiB, so 40 are too many
        assert most <= engine.memory.engine < 300e6  # with mapped files
        assert engine.memory.gpu == 4711  # what the backend reports
    assert 0 < most < 200e6


def test_a_file_that_changes_before_a_new_child_opens_it_fails(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PICTURE)
    os.mkfifo(tmp_path / "slow.png")  # being opened when the child ends, so that both are tried again
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    with closing(Engine(work(), inbox)) as engine:
        engine.open(0, Item.of(str(file)))
        engine.open(1, Item.of(str(tmp_path / "slow.png")))
        failed = None
        while failed is None:
            for event in engine.handle(inbox.get(timeout=60)):
                if isinstance(event, Opened):
                    file.write_bytes(png((3, 3)))
                    engine.ask(0, 0, Prompt.user("SIGKILL"))
                failed = event if isinstance(event, Failed) else None
    assert (failed.number, failed.fault.kind) == (0, "changed")


def test_pieces_are_events_where_the_work_streams() -> None:
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    events: list[Event] = []
    with closing(Engine(work(streams=True), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        while not any(isinstance(event, ReplyReceived) for event in events):
            events += engine.handle(inbox.get(timeout=60))
            if events and isinstance(events[-1], Opened):
                engine.ask(0, 0, Prompt.user("word"))
    assert [event.text for event in events if isinstance(event, PieceReceived)] == ["word!"]


def test_an_item_whose_reply_is_in_the_inbox_is_in_progress() -> None:
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    with closing(Engine(work(), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        engine.open(1, Item.of("a.png", PICTURE))
        while (message := inbox.get(timeout=60))[1][0] != "reply":
            if any(isinstance(event, Opened) and event.number == 0 for event in engine.handle(message)):
                engine.ask(0, 0, Prompt.user("word"))
        engine.ask(1, 0, Prompt.user("hang"))  # not begun before the reply is handled
        assert 0 in engine.items_in_progress
        engine.handle(message)
        assert 0 not in engine.items_in_progress


def test_no_log_is_left_even_by_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    with closing(Engine(work(), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        inbox.get(timeout=60)
        assert list(tmp_path.iterdir()) == []  # while it runs


def test_a_child_that_cannot_be_started_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "pipe", lambda: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    monkeypatch.setattr("socket.socketpair", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    with pytest.raises(EngineError, match="cannot be started .Too many open files"):
        outcomes_of("one")
    assert list(tmp_path.iterdir()) == []


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


def test_errors_of_the_child_are_raised_as_themselves() -> None:
    with pytest.raises(ModelError, match="broken.gguf is not a GGUF; get another"):
        outcomes_of("one", files="broken")
    with pytest.raises(EngineError, match="a fault of ours"):
        outcomes_of("fault")


def test_output_of_the_child_reaches_neither_stream(capfd: pytest.CaptureFixture[str]) -> None:
    assert outcomes_of("one") == [(0, "one!", None)]
    assert capfd.readouterr() == ("", "")


def test_with_verbose_output_of_the_child_goes_to_standard_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes_of("one", verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "native chatter on standard output" in err
    assert "python chatter" in err


def test_a_model_that_takes_too_long_to_load_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_module, "LOAD_SECONDS", 0.0)
    with pytest.raises(EngineError, match="was not loaded within"):
        outcomes_of("one", timeout=0.01)
