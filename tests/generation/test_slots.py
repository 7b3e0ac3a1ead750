"""generation/scheduler.py with sequence slots: several replies at once, with a backend made by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from smolcli.errors import EngineError
from smolcli.generation import scheduler
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.sampler import Logits
from smolcli.generation.scheduler import PrefillRequest, ReplySteps, schedule
from smolcli.types import Finish, Piece, Prompt


class CountingSlots:
    """Slots whose logits are the number of decode steps of the sequence; `log` has which were evaluated together."""

    def __init__(self, max_sequences: int, has_capacity: Callable[[set[int]], bool] = lambda others: True) -> None:
        self.max_sequences, self._has_capacity = max_sequences, has_capacity
        self.running: dict[int, int] = {}
        self.log: list[object] = []
        self.failing: set[int] = set()
        self.lost: set[int] = set()

    def can_prefill(self, index: int, max_length: int) -> bool:
        return self._has_capacity(set(self.running) - {index})

    def prefill(self, index: int, request: PrefillRequest[str], upcoming: Sequence[str]) -> Logits:
        self.log.append((request.prepared, list(upcoming)))
        others = set(self.running) - {index}
        assert self._has_capacity(others) or not others
        if request.prepared == "bad":
            raise EngineError("cannot begin")
        self.running[index] = 0
        assert len(self.running) <= self.max_sequences
        return np.zeros(1, np.float32)

    def decode(self, tokens: Mapping[int, int]) -> dict[int, Logits]:
        self.log.append(tuple(tokens))
        if self.failing & set(tokens):
            raise EngineError("cannot go on")
        for index in tokens:
            self.running[index] += 1
        return {index: np.array([self.running[index]], np.float32) for index in tokens if index not in self.lost}

    def release(self, index: int) -> None:
        self.running.pop(index, None)


def repeat_word(index: int, prepared: str, penalty: float) -> ReplySteps:
    """Reply with the word as often as it has letters."""
    logits = cast(Logits, (yield PrefillRequest(prepared, 9)))
    while logits[0] < len(prepared):
        yield Piece(index, prepared)
        logits = cast(Logits, (yield 7))
    yield Piece(index, "", Finish("stop"))


def first_word(prompt: Prompt) -> str:
    return str(prompt.turns[0].parts[0])


def run(words: Sequence[str], slots: CountingSlots) -> dict[int, Finish]:
    """Answer `words`, check the pieces, and return the finish of each."""
    prompts = [Prompt.user(word) for word in words]
    pieces = list(schedule(prompts, first_word, repeat_word, True, slots))
    assert not slots.running
    for index, word in enumerate(words):
        reply = [piece for piece in pieces if piece.index == index]
        assert reply[0] == Piece(index, "") and reply[-1].finish is not None
        if reply[-1].finish.fault is None:
            assert "".join(piece.text for piece in reply) == word * len(word)
    return {piece.index: piece.finish for piece in pieces if piece.finish}


def decode_steps(slots: CountingSlots) -> list[tuple[int, ...]]:
    """Which replies were decoded together, in each step."""
    tuples = [entry for entry in slots.log if isinstance(entry, tuple)]
    return [entry for entry in tuples if all(isinstance(index, int) for index in entry)]


def test_a_free_slot_is_used_at_once() -> None:
    slots = CountingSlots(2)
    run(["aaa", "b", "cc", "d"], slots)
    assert decode_steps(slots) == [(0,), (0, 1), (0, 2), (2, 3)]


def test_a_reply_that_does_not_fit_waits_unless_no_other_is_running() -> None:
    slots = CountingSlots(4, lambda others: len(others) < 2)
    run(["aaa", "b", "cc", "d"], slots)
    assert decode_steps(slots) == [(0,), (0, 1), (0, 2), (2, 3)]
    full = CountingSlots(4, lambda others: False)
    run(["aa", "b"], full)
    assert decode_steps(full) == [(0,), (0,), (1,)]


def test_a_failing_prefill_is_the_fault_of_one_reply_and_a_failing_decode_of_all_in_it() -> None:
    slots = CountingSlots(3)
    finishes = run(["aa", "bad", "cc"], slots)
    assert [finishes[index].fault is None for index in range(3)] == [True, False, True]
    slots = CountingSlots(2)
    slots.failing = {1}
    finishes = run(["aa", "b", "cc"], slots)
    assert [finishes[index].fault is None for index in range(3)] == [False, False, True]


@pytest.mark.parametrize("second_prompt", ["", "bad"])
def test_a_reply_that_is_prefilled_again_and_ends_at_once_frees_its_slot(second_prompt: str) -> None:
    def reply(index: int, prepared: str, penalty: float) -> ReplySteps:
        yield PrefillRequest(prepared, 9)
        yield 7
        if prepared == "again":
            yield 7  # now the other reply is waiting
            yield PrefillRequest(second_prompt, 9)
        yield Piece(index, "", Finish("stop"))

    prompts = [Prompt.user(word) for word in ("again", "b")]
    slots = CountingSlots(2, lambda others: not others)
    pieces = list(schedule(prompts, first_word, reply, True, slots))
    faults = {piece.index: piece.finish.fault for piece in pieces if piece.finish}
    assert [faults[index] is None for index in range(2)] == [not second_prompt, True]


def test_a_lost_sequence_is_the_fault_of_its_reply() -> None:
    slots = CountingSlots(3)
    slots.lost = {1}
    finishes = run(["aa", "bb", "cc"], slots)
    assert [finishes[index].fault is None for index in range(3)] == [True, False, True]
    assert "lost" in str(finishes[1].fault)


def test_closing_ends_every_reply() -> None:
    slots = CountingSlots(2)
    pieces = schedule([Prompt.user(word) for word in ("aaa", "bbb")], lambda _: "aaa", repeat_word, True, slots)
    assert isinstance(pieces, Generator)
    while len(slots.running) < 2:
        next(pieces)
    pieces.close()
    assert not slots.running


def test_a_looping_reply_is_retried_in_its_own_slot() -> None:
    penalties: list[float] = []

    def reply(index: int, prepared: str, penalty: float) -> ReplySteps:
        penalties.append(penalty)
        yield PrefillRequest(prepared, 9)
        while penalty == 1 and prepared == "loop":
            if (yield Piece(index, "It is a dog. ")):
                yield Piece(index, "", Finish("repetition"))
                return
            yield 7
        yield Piece(index, "fine")
        yield Piece(index, "", Finish("stop"))

    slots, collector = CountingSlots(2), ReplyCollector()
    prompts = [Prompt.user(word) for word in ("loop", "other", "third")]
    texts = {}
    for piece in schedule(prompts, first_word, reply, False, slots):
        if complete := collector.add(piece):
            texts[piece.index] = complete.text
    assert texts == {0: "fine", 1: "fine", 2: "fine"}
    assert len(penalties) == 4 and not slots.running


def test_a_prefill_is_given_the_next_prepared_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that their tiles can fill its batch."""
    monkeypatch.setattr(scheduler, "MIN_THREADED_PIXELS", -1)  # every prompt is prepared ahead, in the thread
    all_are_prepared = threading.Event()

    def prepare(prompt: Prompt) -> str:
        word = first_word(prompt)
        if word == "c":
            all_are_prepared.set()
        return word

    class WaitingSlots(CountingSlots):
        def prefill(self, index: int, request: PrefillRequest[str], upcoming: Sequence[str]) -> Logits:
            assert all_are_prepared.wait(30)
            while request.prepared == "a" and len(upcoming) < 2:  # the last result is stored after prepare returns
                upcoming = prefetchers[0].prepared()
            return super().prefill(index, request, upcoming)

    prefetchers: list[Any] = []
    init = scheduler.Prefetcher.__init__
    monkeypatch.setattr(
        scheduler.Prefetcher, "__init__", lambda self, *args: prefetchers.append(self) or init(self, *args)
    )
    slots = WaitingSlots(1)
    list(schedule([Prompt.user(word) for word in "abc"], prepare, repeat_word, True, slots))
    prefills: list[Any] = [entry for entry in slots.log if isinstance(entry, tuple) and isinstance(entry[0], str)]
    assert prefills == [("a", ["b", "c"]), ("b", ["c"]), ("c", [])]
