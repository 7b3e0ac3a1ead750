"""engine/client.py: what ends the child costs the input that did it, never the run, and stays in the child."""

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

import numpy  # noqa: F401 - whose library for matrices is looked for
import pytest

from smolcli.engine import client as engine_module
from smolcli.engine import watchdog as watchdog_module
from smolcli.engine.client import Engine
from smolcli.engine.protocol import (
    CELLS,
    DECODER_CELL,
    FIRST_REPLY_CELL,
    OPENERS,
    OPENING,
    Failed,
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
    """Does to itself what the prompt says."""

    name, computes = "trouble", "nothing"
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
    """Of the OpenBLAS that numpy's wheels bring; 0 where it is another library."""
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "scipy_openblas" in line}
    return sum(ctypes.CDLL(path).scipy_openblas_get_num_threads64_() for path in loaded)


class Preparing(Trouble):
    """Ends its process while it prepares `deadly`, beside whatever is being answered."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        def prepare(prompt: Prompt) -> str:
            word, mark = map(str, prompt.turns[0].parts)
            if word == "deadly":
                Path(mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return mark

        def reply(index: int, mark: str, penalty: float) -> Iterator[Piece]:
            while not os.path.exists(mark):
                yield Piece(index, "")  # another prompt is taken between two pieces; this one does not live to see it
            yield Piece(index, "fine")
            yield Piece(index, "", Finish("stop"))

        scheduler.SMALL = -1  # every prompt is worth a thread
        return scheduler.schedule(prompts, prepare, reply)


class Two(Trouble):
    """Begins two prompts before it says a word, in its first life; `hang` holds up whatever is under way."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        under_way: list[int] = []
        hangs = False
        index = 0
        for prompt in prompts:
            if prompt is not None:
                word, mark = map(str, prompt.turns[0].parts)
                yield Piece(index, "")
                under_way.append(index)
                hangs, index = hangs or word == "hang", index + 1
            if len(under_way) < 2 and not os.path.exists(mark):
                continue
            Path(mark).touch()
            if hangs:
                signal.pause()
            for each in under_way:
                yield Piece(each, "fine", Finish("stop"))
            under_way.clear()


class Long(Trouble):
    """Answers all but `long`, with which its process ends after `last`, and whenever that has been."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        index, marks = 0, []
        for prompt in prompts:
            if prompt is None:
                if os.path.exists(marks[0]):
                    os.kill(os.getpid(), signal.SIGSEGV)
                continue
            word, mark = map(str, prompt.turns[0].parts)
            marks.append(mark)
            yield Piece(index, "")
            if word != "long":
                yield Piece(index, "fine", Finish("stop"))
            if word == "last":
                Path(mark).touch()
                os.kill(os.getpid(), signal.SIGSEGV)
            index += 1


class Early(Trouble):
    """Ends its process with the prompt `deadly`, before it says that it has begun with it."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        for index, prompt in enumerate(prompts):
            assert prompt is not None
            if prompt.turns[0].parts[0] == "deadly":
                os.kill(os.getpid(), signal.SIGKILL)
            yield Piece(index, "fine")
            yield Piece(index, "", Finish("stop"))


def work(files: str = "fine", backend: str = "Trouble", **more: bool) -> Work:
    return Work(f"{__name__}:{backend}", ModelFiles(files), Model(), Input(), Generate(), **more)


def outcome(
    *words: object, files: str = "fine", items: list[Item] | None = None, **more: object
) -> list[tuple[int, str, str | None]]:
    """What becomes of a picture each with a prompt of each word, all given at once: number, text, kind of fault."""
    return [
        (number, text, fault and fault[0]) for number, text, fault in faults(*words, files=files, items=items, **more)
    ]


def faults(
    *words: object, files: str = "fine", items: list[Item] | None = None, verbose: bool = False, timeout: float = 60.0,
    growth: int = 2**30, backend: str = "Trouble",
) -> list[tuple[int, str, tuple[str, str] | None]]:  # fmt: skip
    inbox: SimpleQueue[object] = SimpleQueue()
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
            while asked in opened or asked in [number for number, *_ in ended]:  # in order, whatever is open first
                if asked in opened:
                    word = words[asked]
                    engine.ask(asked, 0, Prompt.user(*(word if isinstance(word, tuple) else (word,))))
                asked += 1
    return ended


def test_a_crash_costs_one_input_and_the_engine_goes_on() -> None:
    made = outcome("one", "SIGSEGV", "two", "SIGILL", "three")
    assert sorted(made) == [
        (0, "one!", None), (1, "", "crash"), (2, "two!", None), (3, "", "crash"), (4, "three!", None),
    ]  # fmt: skip


def test_a_kill_says_memory_and_a_crash_says_the_signal_and_the_last_words_of_this_crash() -> None:
    by_number = {number: fault for number, _, fault in faults("SIGKILL", "SIGSEGV", "one", "exit")}
    assert by_number[0][0] == "memory"
    assert "memory" in by_number[0][1]
    assert "SIGSEGV" in by_number[1][1] and "GGML_ASSERT failed" in by_number[1][1]
    assert "exit code 7" in by_number[3][1] and "GGML_ASSERT" not in by_number[3][1]


def test_an_engine_that_dies_between_two_inputs_costs_none() -> None:
    made = outcome("one", "the last", "two", "three")
    assert sorted(made) == [(0, "one!", None), (1, "the last!", None), (2, "two!", None), (3, "three!", None)]


def test_what_ends_the_engine_once_and_not_when_it_is_alone_is_answered(tmp_path: Path) -> None:
    """As a kill for want of memory, while another input was opened beside it."""
    fifo = tmp_path / "slow.png"
    os.mkfifo(fifo)  # its opening lasts until the engine has died
    made = outcome(
        ("once", str(tmp_path / "mark")), "two",
        items=[Item.of("0.png", PICTURE), Item.of(str(fifo))], timeout=3.0,
    )  # fmt: skip
    assert made == [(0, "once!", None), (1, "", "timeout")]


def test_after_a_crash_replies_come_in_the_order_of_asking(tmp_path: Path) -> None:
    inbox: SimpleQueue[object] = SimpleQueue()
    replied: list[int] = []
    with closing(Engine(work(), inbox)) as engine:
        for number in range(4):
            engine.open(number, Item.of("a.png", PICTURE))
        opened: set[int] = set()
        while len(opened) < 4:
            opened |= {event.number for event in engine.handle(inbox.get(timeout=60)) if isinstance(event, Opened)}
        cells = engine._child_state.cells
        while any(cells.values()[:OPENERS]):
            pass
        cells.begin(0, RequestId(3, OPENING))  # as when the child ends between sending that it is open and clearing it
        for number, word in enumerate([("once", str(tmp_path / "mark")), ("a",), ("b",), ("c",)]):
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
    said = {
        number: (text, fault) for number, text, fault in faults("hang", "", "endless", "one", items=items, timeout=1.0)
    }
    assert said[3] == ("one!", None)
    assert {said[number][1][0] for number in (0, 1, 2)} == {"timeout"}
    assert "no word of an answer within 1 s" in said[0][1][1]
    assert "could not be opened within 1 s" in said[1][1][1]
    assert "the answer had no end within 1 s" in said[2][1][1]


def test_who_waits_beside_an_input_that_hangs_is_not_blamed(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    made = outcome(("fine", mark), ("hang", mark), ("fine", mark), backend="Two", timeout=2.0)
    assert sorted(made) == [(0, "fine", None), (1, "", "timeout"), (2, "fine", None)]


def test_an_input_that_others_overtake_is_blamed_for_what_it_does(tmp_path: Path) -> None:
    words = [("long", str(tmp_path / "mark")), *[("other", str(tmp_path / "mark"))] * (CELLS + 9)]
    made = outcome(*words, ("last", str(tmp_path / "mark")), backend="Long")
    assert sorted(made) == [(0, "", "crash"), *((n, "fine", None) for n in range(1, CELLS + 11))]


def test_time_in_which_this_process_was_stopped_is_not_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Ctrl-Z, or because nobody read what it writes."""
    inbox: SimpleQueue[object] = SimpleQueue()
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
        monkeypatch.setattr(engine_module.time, "monotonic", lambda: now + 3600)
        assert engine.check() == []
        monkeypatch.setattr(engine_module.time, "monotonic", lambda: now + 3600.9)
        assert engine.check() == []
        ended = []
        for second in range(60):  # then it goes on
            monkeypatch.setattr(engine_module.time, "monotonic", lambda second=second: now + 3601 + second)
            ended += engine.check()
        assert [event.fault.kind for event in ended] == ["timeout"]


class Quiet:
    """In the place of a child: it is at what a test writes into its marks, and says nothing."""

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
    """An engine with prompts under way by a clock of its own; `prompts` are items and slots."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, prompts: list[tuple[int, int]], sampling: Sampling | None = None
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr(engine_module, "Child", Quiet)
        monkeypatch.setattr(engine_module.time, "monotonic", lambda: self.now)
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


def test_an_engine_that_had_nothing_to_do_is_not_taken_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, [(0, 0)])
    watched.reply(0, 0)
    watched.engine.release(0)
    assert watched.survives(3600)
    watched.engine.open(1, Item.of("b.png", PICTURE))
    assert watched.survives(590)
    assert not watched.survives(20)  # it never began with it


def test_pictures_are_let_go_at_once_while_others_wait_for_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else may be said to it for as long as they wait."""
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


def test_what_is_decoded_for_the_next_prompt_takes_no_time_of_the_one_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    film = Watched(monkeypatch, [(0, 0)], Sampling())
    film.engine.ask(0, 1, Prompt.user("a"))
    film.cells.begin(DECODER_CELL, RequestId(0, 1))
    assert film.survives(590) and not film.survives(20)


def test_an_items_questions_side_by_side_have_its_time_together(monkeypatch: pytest.MonkeyPatch) -> None:
    four = Watched(monkeypatch, [(0, slot) for slot in range(4)])
    assert four.survives(200)
    for slot in (0, 1):
        four.reply(0, slot)
    assert four.survives(390)
    assert not four.survives(20)


def test_three_crashes_in_a_row_end_the_run_and_one_answer_between_them_does_not() -> None:
    with pytest.raises(EngineError, match=r"3 times in a row the engine crashed \(SIGSEGV\)"):
        outcome("SIGSEGV", "SIGSEGV", "SIGSEGV", "never")
    assert len(outcome("SIGSEGV", "SIGSEGV", "one", "SIGSEGV", "SIGSEGV", "two")) == 6


def test_a_model_that_cannot_be_loaded_ends_the_run_and_blames_no_input() -> None:
    with pytest.raises(EngineError, match=r"3 times in a row the engine crashed \(SIGILL\)"):
        outcome("one", "two", files="deadly")


@pytest.fixture(scope="module")
def photo() -> bytes:
    """36 MB of pixels: seven are as much as the engine holds at a time."""
    return png((4000, 3000))


def test_large_pictures_ahead_do_not_keep_an_engine_from_being_renewed(photo: bytes) -> None:
    items = [Item.of(f"{number}.png", photo) for number in range(24)]
    made = outcome(*["one"] * 24, items=items, growth=-(10**12))  # renewed as soon as may be
    assert sorted(made) == [(number, "one!", None) for number in range(24)]


def test_large_pictures_ahead_do_not_keep_others_from_being_opened_after_a_crash(photo: bytes) -> None:
    items = [Item.of("0.png", PICTURE)] + [Item.of(f"{number}.png", photo) for number in range(1, 20)]
    made = outcome("SIGSEGV", *["one"] * 19, items=items)
    assert sorted(made) == [(0, "", "crash")] + [(number, "one!", None) for number in range(1, 20)]


def test_what_ends_the_engine_while_it_is_prepared_is_not_blamed_on_what_is_being_answered(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    made = outcome(("fine", mark), ("deadly", mark), ("fine", mark), backend="Preparing")
    assert sorted(made) == [(0, "fine", None), (1, "", "memory"), (2, "fine", None)]


def test_what_ends_the_engine_before_it_says_that_it_has_begun_is_found() -> None:
    made = outcome("deadly", "fine", "fine", backend="Early")
    assert sorted(made) == [(0, "", "memory"), (1, "fine", None), (2, "fine", None)]


def test_memory_that_grows_is_given_back_between_two_inputs() -> None:
    """800 inputs that leak a MiB each, 800 MB in all, in engines that stay under 200 MB; none is lost."""
    inbox: SimpleQueue[object] = SimpleQueue()
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
                        most = max(most, memory.own(state.child.pid))
        assert 5 < engine.restarts < 40  # 24 MiB and half of what it was: 800 / 40 leaks are 20 MiB at least
        assert most <= engine.memory.engine < 300e6  # with the files mapped
        assert engine.memory.gpu == 4711  # as the backend says
    assert 0 < most < 200e6


def test_a_file_that_changes_while_the_engine_starts_again_is_not_taken_for_what_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PICTURE)
    os.mkfifo(tmp_path / "slow.png")  # is being opened when the engine ends, so that both are tried again
    inbox: SimpleQueue[object] = SimpleQueue()
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


def test_pieces_are_told_where_the_work_streams() -> None:
    inbox: SimpleQueue[object] = SimpleQueue()
    said = []
    with closing(Engine(work(streams=True), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        while not any(isinstance(one, ReplyReceived) for one in said):
            said += engine.handle(inbox.get(timeout=60))
            if said and isinstance(said[-1], Opened):
                engine.ask(0, 0, Prompt.user("word"))
    assert [one.text for one in said if isinstance(one, PieceReceived)] == ["word!"]


def test_a_reply_on_its_way_is_under_way() -> None:
    inbox: SimpleQueue[object] = SimpleQueue()
    with closing(Engine(work(), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        engine.open(1, Item.of("a.png", PICTURE))
        while (message := inbox.get(timeout=60))[1][0] != "reply":
            if any(isinstance(event, Opened) and event.number == 0 for event in engine.handle(message)):
                engine.ask(0, 0, Prompt.user("word"))
        engine.ask(1, 0, Prompt.user("hang"))  # never begun before the reply is taken
        assert 0 in engine.items_in_progress
        engine.handle(message)
        assert 0 not in engine.items_in_progress


def test_no_log_is_left_even_by_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    inbox: SimpleQueue[object] = SimpleQueue()
    with closing(Engine(work(), inbox)) as engine:
        engine.open(0, Item.of("a.png", PICTURE))
        inbox.get(timeout=60)
        assert list(tmp_path.iterdir()) == []  # while it runs


def test_an_engine_that_cannot_be_started_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "pipe", lambda: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    monkeypatch.setattr("socket.socketpair", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    with pytest.raises(EngineError, match="cannot be started .Too many open files"):
        outcome("one")
    assert list(tmp_path.iterdir()) == []


def test_idle_threads_of_the_engine_do_not_spin_unless_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """libgomp's own default starves whatever else runs on the cores: two runs side by side took 50 times as long."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert outcome("GOMP_SPINCOUNT") == [(0, f"{worker_main.SPIN_COUNT}!", None)]
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert outcome("GOMP_SPINCOUNT") == [(0, "7!", None)]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is loaded")
def test_numpy_in_the_engine_has_one_thread_and_what_is_loaded_later_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if blas_threads() == 0:
        pytest.skip("this numpy has another library for matrices")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert outcome("blas", "OPENBLAS_NUM_THREADS") == [(0, "1!", None), (1, "!", None)]
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert outcome("OPENBLAS_NUM_THREADS") == [(0, "1!", None)]


def test_errors_of_the_child_arrive_as_they_are() -> None:
    with pytest.raises(ModelError, match="broken.gguf is not a GGUF; get another"):
        outcome("one", files="broken")
    with pytest.raises(EngineError, match="a fault of ours"):
        outcome("fault")


def test_chatter_of_the_child_reaches_neither_stream(capfd: pytest.CaptureFixture[str]) -> None:
    assert outcome("one") == [(0, "one!", None)]
    assert capfd.readouterr() == ("", "")


def test_with_verbose_chatter_goes_to_standard_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    outcome("one", verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "native chatter on standard output" in err
    assert "python chatter" in err


def test_a_model_that_takes_for_ever_to_load_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_module, "LOAD_SECONDS", 0.0)
    with pytest.raises(EngineError, match="was not loaded within"):
        outcome("one", timeout=0.01)
