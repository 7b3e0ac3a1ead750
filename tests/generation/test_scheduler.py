"""generation/scheduler.py: the order of events, groups of prompts, faults, seconds; with replies written by hand."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from weakref import ref

import numpy as np
import pytest

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt, Scores
from smolcli.backends.echo import Echo
from smolcli.errors import DeviceLostError, EngineError, ErrorKind
from smolcli.generation import prefetcher, scheduler
from smolcli.generation.prefetcher import Prefetcher
from smolcli.generation.scheduler import Scheduler, generate
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Frame, Piece, Prompt, Seconds
from tests.generation.scripted_backend import ScriptedBackend, collect, first_word, to_prompts, word_of

FREE = Generate()
TIMEOUT = 30  # seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that time.perf_counter tells, to be moved on by hand."""
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


@pytest.fixture
def every_prompt_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetcher, "MIN_THREADED_PIXELS", -1)


def run(words: Iterable[str], backend: ScriptedBackend) -> dict[int, str]:
    """Answer `words`; the texts of the replies, or the kinds of their faults."""
    pieces, replies = collect(generate(backend, to_prompts(words), FREE))
    assert not backend.running
    for index, reply in replies.items():
        own = [piece for piece in pieces if piece.index == index]
        assert own[0] == Piece(index, "")
        assert [piece for piece in own if piece.finish] == own[-1:]
        assert reply.finish.text is not None or reply.text == "".join(piece.text for piece in own).strip()
    return {index: reply.finish.fault.kind if reply.finish.fault else reply.text for index, reply in replies.items()}


# ---- the order of events -------------------------------------------------------------------------


def test_the_first_piece_comes_before_the_model_runs() -> None:
    backend = ScriptedBackend(lambda word, _: ["x", "y"])
    events: list[object] = []
    for piece in generate(backend, to_prompts(["a", "b"]), FREE):
        events += [*backend.prefills(), f"{piece.index}{piece.text}"]
        backend.log.clear()
    assert events == ["0", ["a"], "0x", "0y", "0", "1", ["b"], "1x", "1y", "1"]


def test_one_prompt_is_taken_ahead_of_a_single_slot() -> None:
    log: list[str] = []

    def source() -> Iterator[Prompt]:
        for word in "abc":
            log.append(f"take {word}")
            yield Prompt.user(word)

    for piece in generate(ScriptedBackend(lambda word, _: [word]), source(), FREE):
        log.append(f"{piece.index}{piece.text}{'.' if piece.finish else ''}")
    assert log == ["take a", "0", "take b", "0a", "0.", "1", "take c", "1b", "1.", "2", "2c", "2."]


def test_the_source_is_asked_again_at_each_step_and_may_yield_none_while_a_reply_is_running() -> None:
    running: set[int] = set()
    script = iter(["a", None, None, "b", None, None, None, "c"])
    taken = 0

    def source() -> Iterator[Prompt | None]:
        nonlocal taken
        for word in script:
            if word is None:
                if running:
                    yield None
                continue
            running.add(taken)
            taken += 1
            yield Prompt.user(word)

    log = []
    for piece in generate(ScriptedBackend(lambda word, _: [word] * 3), source(), FREE):
        log.append(piece.text)
        if piece.finish:
            running.remove(piece.index)
    assert log == ["", *"aaa", "", "", *"bbb", "", "", *"ccc", ""]
    assert taken == 3


def test_none_while_no_reply_is_running_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="yielded None while no reply was running"):
        list(generate(ScriptedBackend(), iter([None]), FREE))


def test_an_exception_of_the_source_is_raised_and_not_a_fault_of_the_running_reply() -> None:
    def source() -> Iterator[Prompt]:
        yield Prompt.user("a")
        raise OSError("the pipe is gone")

    with pytest.raises(OSError, match="the pipe is gone"):
        list(generate(ScriptedBackend(), source(), FREE))


def test_closing_frees_every_slot() -> None:
    backend = ScriptedBackend(max_sequences=2)
    pieces = generate(backend, to_prompts(["aaa", "bbb"]), FREE)
    assert isinstance(pieces, Generator)
    while len(backend.running) < 2:
        next(pieces)
    pieces.close()
    assert not backend.running


# ---- preparing ahead -----------------------------------------------------------------------------


@pytest.mark.usefixtures("every_prompt_in_a_thread")
def test_a_prompt_is_prepared_in_a_thread_while_a_reply_is_running() -> None:
    """The reply to a goes on only after b is prepared."""
    prepared, threads = threading.Event(), set()

    class WaitingBackend(ScriptedBackend):
        def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
            assert prepared.wait(TIMEOUT)
            return super().decode(tokens)

    backend = WaitingBackend(lambda word, _: [word, word])

    def prepare(index: int, prompt: Prompt) -> PreparedPrompt:
        threads.add(threading.current_thread())
        if first_word(prompt) == "b":
            prepared.set()
        return backend.prepare(prompt)

    _, replies = collect(generate(backend, to_prompts("ab"), FREE, prepare=prepare))
    assert [replies[index].text for index in range(2)] == ["aa", "bb"]
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.usefixtures("every_prompt_in_a_thread")
def test_several_prompts_are_prepared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other, so one thread alone would never end."""
    monkeypatch.setattr(prefetcher, "usable_cores", lambda: 2)
    both = threading.Barrier(2, timeout=TIMEOUT)
    backend = ScriptedBackend(max_sequences=2)

    def prepare(index: int, prompt: Prompt) -> PreparedPrompt:
        both.wait()
        return backend.prepare(prompt)

    _, replies = collect(generate(backend, to_prompts(["a", "b"]), FREE, prepare=prepare))
    assert [replies[index].text for index in range(2)] == ["a", "b"]


def test_prepare_is_given_the_index_of_the_prompt() -> None:
    backend = ScriptedBackend(max_sequences=3)
    indices = {}

    def prepare(index: int, prompt: Prompt) -> PreparedPrompt:
        indices[first_word(prompt)] = index
        return backend.prepare(prompt)

    list(generate(backend, to_prompts("abc"), FREE, prepare=prepare))
    assert indices == {"a": 0, "b": 1, "c": 2}


def test_no_prompt_is_taken_while_those_that_wait_hold_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt holds its pixels before it is prepared, and its tiles afterwards."""
    monkeypatch.setattr(prefetcher, "MAX_PREFETCHED_BYTES", 2 * 12)
    backend = ScriptedBackend(lambda word, _: ["x"] * 3, max_sequences=4)
    backend.has_memory = lambda running: running < 1
    taken = []

    def source() -> Iterator[Prompt]:
        for word in "abcdefgh":
            taken.append(word)
            yield Prompt.user(word, Frame(bytes(12), 2, 2))

    most_waiting = 0
    for piece in generate(backend, source(), FREE):
        most_waiting = max(most_waiting, len(taken) - piece.index)
    assert len(taken) == 8
    assert most_waiting <= 4


@pytest.mark.usefixtures("every_prompt_in_a_thread")
def test_few_prompts_are_taken_before_it_is_known_how_many_tiles_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without a known size, for example, may become hundreds."""
    monkeypatch.setattr(prefetcher, "usable_cores", lambda: 1)
    monkeypatch.setattr(prefetcher, "MAX_UNPREPARED", 3)
    backend, taken, taken_at_first = ScriptedBackend(max_sequences=50), [], []

    def source() -> Iterator[Prompt]:
        for number in range(50):
            taken.append(number)
            yield Prompt.user(f"{number}")

    def prepare(index: int, prompt: Prompt) -> PreparedPrompt:
        taken_at_first.append(len(taken))
        return backend.prepare(prompt)

    list(generate(backend, source(), FREE, prepare=prepare))
    assert len(taken) == 50
    assert max(waiting - number for number, waiting in enumerate(taken_at_first)) <= 3


def test_a_prompt_that_cannot_be_prepared_does_not_affect_the_others() -> None:
    backend = ScriptedBackend(max_sequences=2)

    def prepare(index: int, prompt: Prompt) -> PreparedPrompt:
        if first_word(prompt) in ("bad", "worse"):
            raise {"bad": ValueError("a\nb"), "worse": MemoryError()}[first_word(prompt)]
        return backend.prepare(prompt)

    _, replies = collect(generate(backend, to_prompts(["a", "bad", "worse", "b"]), FREE, prepare=prepare))
    faults = [replies[index].finish.fault for index in range(4)]
    assert [replies[index].text for index in range(4)] == ["a", "", "", "b"]
    assert [fault and fault.kind for fault in faults] == [None, "engine", "memory", None]
    assert "ValueError: a b" in str(faults[1])


@pytest.mark.usefixtures("every_prompt_in_a_thread")
def test_closing_waits_for_the_prompt_that_is_being_prepared() -> None:
    started, release, log = threading.Event(), threading.Event(), []
    backend = ScriptedBackend()

    def prepare(index: int, prompt: Prompt) -> PreparedPrompt:
        if first_word(prompt) == "b":
            started.set()
            release.wait(TIMEOUT)
            log.append("prepared")
        return backend.prepare(prompt)

    pieces = generate(backend, to_prompts(["aa", "b"]), FREE, prepare=prepare)
    assert isinstance(pieces, Generator)
    assert [next(pieces).text for _ in range(2)] == ["", "aa"]
    assert started.wait(TIMEOUT)
    closer = threading.Thread(target=lambda: (pieces.close(), log.append("closed")))
    closer.start()
    release.set()
    closer.join(TIMEOUT)
    assert log == ["prepared", "closed"]


@pytest.mark.usefixtures("every_prompt_in_a_thread")
def test_a_prefill_is_given_the_next_prepared_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that their tiles can fill its batch."""
    prepared, waiting = Prefetcher.prepared, [1, 1, 0]  # how many prompts wait, in each prefill

    def wait_for_all(self: Prefetcher) -> list[PreparedPrompt]:
        while len(prompts := prepared(self)) < waiting[0]:
            pass
        waiting.pop(0)
        return prompts

    monkeypatch.setattr(Prefetcher, "prepared", wait_for_all)
    backend = ScriptedBackend()
    list(generate(backend, to_prompts("abc"), FREE))
    assert [entry for entry in backend.log if entry[0] == "prefill"] == [
        ("prefill", ["a"], ["b"]), ("prefill", ["b"], ["c"]), ("prefill", ["c"], []),
    ]  # fmt: skip


# ---- slots ---------------------------------------------------------------------------------------


def test_every_free_slot_is_filled_before_a_step() -> None:
    backend = ScriptedBackend(max_sequences=2)
    assert run(["aaa", "b", "cc", "d"], backend) == {0: "aaa" * 3, 1: "b", 2: "cccc", 3: "d"}
    assert backend.prefills() == [["aaa", "b"], ["cc"], ["d"]]
    assert backend.decode_steps() == [(0, 1), (0, 2), (0, 2), (3,)]


@pytest.mark.parametrize("slots", [8, 64])
def test_a_step_has_nearly_as_many_rows_as_there_are_slots(slots: int) -> None:
    """With replies of 5 tokens: the first is chosen after the prefill, the stop token after the last of 5 steps."""
    backend = ScriptedBackend(lambda word, _: "abcde", max_sequences=slots)
    scheduler = Scheduler(backend, FREE)
    finishes = [piece.finish for piece in scheduler.run(to_prompts(["x"] * 20 * slots)) if piece.finish]
    assert [finish.tokens.new for finish in finishes] == [5] * 20 * slots
    assert scheduler.rows == 5 * 20 * slots
    assert scheduler.rows / scheduler.steps >= 0.9 * slots
    assert scheduler.steps == len(backend.decode_steps())


def test_echo_fills_its_slots_too() -> None:
    scheduler = Scheduler(Echo(ModelFiles("echo"), Model(jobs=16)), FREE)
    list(scheduler.run(Prompt.user(f"{number} b c d e") for number in range(320)))
    assert scheduler.rows / scheduler.steps >= 0.9 * 16


def test_a_sequence_without_memory_waits_unless_no_other_is_running() -> None:
    backend = ScriptedBackend(max_sequences=4)
    backend.has_memory = lambda running: running < 2
    run(["aaa", "b", "cc", "d"], backend)
    assert backend.decode_steps() == [(0, 1), (0, 2), (0, 2), (3,)]
    full = ScriptedBackend(max_sequences=4)
    full.has_memory = lambda running: False
    run(["aa", "b"], full)
    assert full.decode_steps() == [(0,), (0,), (1,)]


def test_prompts_whose_prefill_fails_together_are_prefilled_in_halves() -> None:
    backend = ScriptedBackend(max_sequences=3)
    backend.failing_prefills = {"bad"}
    assert run(["aa", "bad", "cc"], backend) == {0: "aaaa", 1: "engine", 2: "cccc"}
    assert backend.prefills() == [["aa", "bad", "cc"], ["aa", "bad"], ["aa"], ["bad"], ["cc"]]


def test_the_tiles_of_a_group_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a single prompt are not. One group after the other fills the free slots before the next step."""
    monkeypatch.setattr(scheduler, "MAX_GROUP_TILES", 2)
    backend = ScriptedBackend(max_sequences=4)
    assert run(["aaa", "b", "cc", "d"], backend) == {0: "aaa" * 3, 1: "b", 2: "cccc", 3: "d"}
    assert backend.prefills() == [["aaa", "b"], ["cc", "d"]]
    assert backend.decode_steps()[0] == (0, 1, 2, 3)
    monkeypatch.setattr(scheduler, "MAX_GROUP_TILES", 0)
    many = ScriptedBackend(max_sequences=4)
    assert run(["a", "b"], many) == {0: "a", 1: "b"}
    assert many.prefills() == [["a"], ["b"]]


def test_a_long_reply_goes_on_beside_many_that_end_with_their_first_token() -> None:
    backend = ScriptedBackend(lambda word, _: ["x"] * 3 if word == "long" else [], max_sequences=2)
    ends = [piece.index for piece in generate(backend, to_prompts(["long", *["short"] * 9]), FREE) if piece.finish]
    assert ends.index(0) == 3  # after as many steps as it has tokens, with one other reply before each
    assert sorted(ends) == list(range(10))


@pytest.mark.usefixtures("every_prompt_in_a_thread")
def test_a_prompt_that_fails_beside_tiles_of_the_next_ones_is_prefilled_without_them() -> None:
    class NarrowBackend(ScriptedBackend):
        def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
            if len(requests) + len(upcoming) > 1:
                raise MemoryError
            return super().prefill(requests, upcoming)

    for slots in (1, 3):
        assert set(run("abcdefghi", NarrowBackend(max_sequences=slots)).values()) == set("abcdefghi")


def test_one_that_no_longer_fits_after_its_group_has_failed_waits() -> None:
    """As where the first of the group, alone, gets a context that is too short for the others."""
    backend = ScriptedBackend(max_sequences=3)
    backend.failing_prefills = {"bad"}
    backend.has_memory = lambda running: running < (1 if backend.log else 3)
    assert run(["aa", "bad", "cc"], backend) == {0: "aaaa", 1: "engine", 2: "cccc"}
    assert backend.prefills() == [["aa", "bad", "cc"], ["aa"], ["bad"], ["cc"]]
    assert backend.decode_steps() == [(0,), (0,), (2,), (2,)]


class SmallBackend(ScriptedBackend):
    """Has less memory than it says: for `prefills` sequences when one is prefilled, and for `decodes` in a step."""

    prefills_at_most = decodes_at_most = 10**6
    failures = 0

    def fail_above(self, limit: int, count: int) -> None:
        if count > limit:
            self.failures += 1
            assert self.failures < 1000, "it tries without end"
            raise EngineError("no memory", kind=ErrorKind.MEMORY)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        words = [word_of(request.prompt) for request in requests]
        self.fail_above(self.prefills_at_most, sum(self.weight(word) for word in words) + len(self.running))
        return super().prefill(requests, upcoming)

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        self.fail_above(self.decodes_at_most, len(tokens))
        return super().decode(tokens)

    @staticmethod
    def weight(word: str) -> int:
        return int(word[-1]) if word[-1].isdigit() else 1


WORDS = [letter * length for length, letter in zip([3, 1, 2, 5, 4, 1, 1, 3] * 5, "abcdefgh" * 5, strict=True)]
ANSWERS = {index: word * len(word) for index, word in enumerate(WORDS)}


@pytest.mark.parametrize("limit", [1, 3, 7])
@pytest.mark.parametrize("when", ["prefills_at_most", "decodes_at_most"])
def test_where_memory_is_short_sequences_wait_and_all_are_answered(when: str, limit: int) -> None:
    backend = SmallBackend(max_sequences=8)
    setattr(backend, when, limit)
    assert run(WORDS, backend) == ANSWERS
    assert 0 < backend.failures < 5 * len(WORDS)
    assert max(map(len, backend.decode_steps())) == limit


def test_a_prompt_that_needs_much_memory_waits_for_the_others_and_they_run_together_again() -> None:
    words = ["aaa", "big4", *WORDS]
    backend = SmallBackend(max_sequences=4)
    backend.prefills_at_most = 4
    assert run(words, backend) == dict(enumerate(["aaa" * 3, "big4" * 4, *ANSWERS.values()]))
    assert max(map(len, backend.decode_steps()[20:])) == 4


def test_a_prompt_that_never_has_memory_fails_alone() -> None:
    backend = SmallBackend(max_sequences=4)
    backend.prefills_at_most = 4
    assert run(["aaa", "huge9", "b", "cc", "dddd"], backend) == {
        0: "aaa" * 3, 1: "memory", 2: "b", 3: "cccc", 4: "dddd" * 4,
    }  # fmt: skip


def test_a_reply_for_whose_step_there_never_is_memory_fails_alone() -> None:
    backend = SmallBackend(max_sequences=4)
    backend.decodes_at_most = 0
    assert set(run(["aa", "bb", "cc"], backend).values()) == {"memory"}


def test_a_preempted_reply_has_the_text_and_the_tokens_of_one_that_was_not() -> None:
    """Its prompt counts once, and each piece of its text is yielded once."""
    ample, small = ScriptedBackend(max_sequences=4), SmallBackend(max_sequences=4)
    small.decodes_at_most = 2
    answers = []
    for backend in (ample, small):
        pieces, replies = collect(generate(backend, to_prompts(["aaa", "bb", "cccc", "d"]), FREE))
        texts = {index: [piece.text for piece in pieces if piece.index == index] for index in replies}
        answers.append({index: (texts[index], reply.finish.tokens) for index, reply in replies.items()})
    assert small.failures and answers[0] == answers[1]


def test_while_a_prefill_is_tried_again_nothing_holds_what_the_failed_one_allocated() -> None:
    class Allocating(ScriptedBackend):
        allocated: ref[np.ndarray] | None = None

        def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
            activations = np.zeros(10)
            assert self.allocated is None or self.allocated() is None
            self.allocated = ref(activations)
            if len(requests) > 1:
                raise MemoryError
            return super().prefill(requests, upcoming)

    assert run(["aa", "bb"], Allocating(max_sequences=2)) == {0: "aaaa", 1: "bbbb"}


@pytest.mark.parametrize("method", ["prefill", "decode", "fetch"])
def test_the_loss_of_the_device_is_not_the_fault_of_a_reply(method: str) -> None:
    def lose(*_: object) -> None:
        raise DeviceLostError("the GPU has failed")

    backend = ScriptedBackend(max_sequences=2)
    if method == "fetch":
        scores = {index: Scores(1, 1.0, 1.0, lose) for index in range(2)}  # type: ignore[arg-type]
        backend.prefill = lambda *_: PrefillResult(scores)  # type: ignore[method-assign]
    else:
        setattr(backend, method, lose)
    with pytest.raises(DeviceLostError):
        list(generate(backend, to_prompts(["aa", "bb"]), Generate(temperature=1.0)))
    assert not backend.running


def test_a_failing_step_is_the_fault_of_all_replies_in_it_and_of_no_other() -> None:
    backend = ScriptedBackend(max_sequences=2)
    backend.failing_decodes = {1}
    assert run(["aa", "b", "cc"], backend) == {0: "engine", 1: "engine", 2: "cccc"}


def test_a_lost_sequence_is_the_fault_of_its_reply() -> None:
    backend = ScriptedBackend(max_sequences=3)
    backend.lost = {1}
    _, replies = collect(generate(backend, to_prompts(["aa", "bb", "cc"]), FREE))
    assert [replies[index].finish.fault is None for index in range(3)] == [True, False, True]
    assert "lost" in str(replies[1].finish.fault)


def test_a_reply_ends_where_the_context_is_full() -> None:
    backend = ScriptedBackend(lambda word, _: "abcdefgh", context_length=8)
    backend.lengths = {"long": 8, "short": 5}
    _, replies = collect(generate(backend, to_prompts(["short", "long"]), FREE))
    assert (replies[0].text, replies[0].finish.reason) == ("abc", "length")
    assert replies[1].finish.fault is not None and replies[1].finish.fault.kind == "too-long"
    assert (replies[1].finish.tokens.prompt, len(backend.prefills())) == (8, 1)


# ---- seconds -------------------------------------------------------------------------------------


def test_the_seconds_of_preparing_are_the_media_of_its_own_reply(clock: list[float]) -> None:
    backend = ScriptedBackend()

    def prepare(index: int, prompt: Prompt) -> PreparedPrompt:
        clock[0] += {"slow": 5.0, "quick": 0.25}[first_word(prompt)]
        return backend.prepare(prompt)

    _, replies = collect(generate(backend, to_prompts(["slow", "quick"]), FREE, load_seconds=2.0, prepare=prepare))
    assert [replies[index].finish.seconds for index in range(2)] == [Seconds(2.0, 5.0), Seconds(0.0, 0.25)]


class SlowBackend(ScriptedBackend):
    """Takes 1 second to encode tiles and 3 to evaluate prompts in each prefill, and 0.5 in each step."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__(max_sequences=2)
        self._clock = clock

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        self._clock[0] += 4.0
        return PrefillResult(super().prefill(requests, upcoming).logits, encode_seconds=1.0)

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        self._clock[0] += 0.5
        return super().decode(tokens)


def test_the_replies_of_a_group_share_its_seconds_by_their_tokens(clock: list[float]) -> None:
    backend = SlowBackend(clock)
    backend.lengths, backend.image_tokens = {"a": 40, "bb": 20}, {"a": 30, "bb": 10}
    started = clock[0]
    _, replies = collect(generate(backend, to_prompts(["a", "bb"]), FREE))
    first, second = (replies[index].finish.seconds for index in range(2))
    assert first == Seconds(encode=0.75, prefill=2.0, decode=0.25)
    assert second == Seconds(encode=0.25, prefill=1.0, decode=0.25 + 0.5)
    parts = [first.encode, first.prefill, first.decode, second.encode, second.prefill, second.decode]
    assert sum(parts) == clock[0] - started


def test_prompts_without_pictures_share_their_seconds_too(clock: list[float]) -> None:
    _, replies = collect(generate(SlowBackend(clock), to_prompts(["a", "b"]), FREE))
    assert [replies[index].finish.seconds.encode for index in range(2)] == [0.5, 0.5]
    assert [replies[index].finish.seconds.prefill for index in range(2)] == [1.5, 1.5]


def test_the_fake_backend_keeps_its_words() -> None:
    assert word_of(ScriptedBackend().prepare(Prompt.user("word"))) == "word"
