"""How a reply ends, is tried again, and how sure the model was of it: generation/sequence.py through the scheduler."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from smolcli.backends.base import Logits, Scores
from smolcli.generation import sampler
from smolcli.generation.sampler import Sampler
from smolcli.generation.scheduler import RETRY_PENALTY, generate
from smolcli.generation.sequence import Attempt
from smolcli.options import Generate
from smolcli.types import FinishReason, Piece, Prompt, Reply, Tokens
from tests.generation.scripted_backend import STOP, Script, ScriptedBackend, collect, to_prompts

FREE = Generate()
LOOP = ["I see a dog. "] + ["It is a dog. "] * 1000


def answer(script: Script, options: Generate = FREE, **slots: int) -> tuple[list[Piece], Reply]:
    """Answer one prompt; its pieces and its reply."""
    pieces, replies = collect(generate(ScriptedBackend(script, **slots), to_prompts(["a"]), options))
    return pieces, replies[0]


# ---- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "max_tokens", "text", "reason", "new"),
    [
        ("abc", 9, "abc", "stop", 3),
        ("", 9, "", "stop", 0),
        ("abcdef", 3, "abc", "length", 3),
        (["a", "", "b", ""], 9, "ab", "stop", 4),  # half of a character has no text
    ],
)
def test_a_reply_ends_at_a_stop_token_or_at_max_tokens_and_takes_no_step_too_many(
    texts: str, max_tokens: int, text: str, reason: FinishReason, new: int
) -> None:
    backend = ScriptedBackend(lambda word, _: texts)
    pieces, replies = collect(generate(backend, to_prompts(["a"]), Generate(max_tokens=max_tokens)))
    assert (replies[0].text, replies[0].finish.reason, replies[0].finish.tokens.new) == (text, reason, new)
    assert len(backend.decode_steps()) == (new if reason == "stop" else new - 1)
    assert all(piece.text for piece in pieces[1:-1])


class WordGrammar:
    """A grammar of lower-case words that end in a full stop; token n is the character n."""

    def allowed_tokens(self) -> NDArray[np.bool_]:
        return np.array([chr(n).islower() or chr(n) == "." for n in range(128)])

    def accept_token(self, token: int) -> bool:
        return token == ord(".")


def spell(text: str, min_tokens: int = 0, max_tokens: int = 9, grammar: WordGrammar | None = None) -> Attempt:
    """An attempt with a model whose best tokens are `text` and then "!" without end; token n is the character n.

    "$" is the stop token, and "." the second best of all.
    """
    filters: list[sampler.LogitsFilter] = [sampler.AllowedTokens(grammar)] if grammar else []
    stops = frozenset({ord("$")})
    filters += [sampler.MinTokens(min_tokens, stops)] if min_tokens else []
    attempt = Attempt(Sampler(FREE, filters), chr, stops, max_tokens, False, grammar)
    while attempt.reason is None:
        logits = np.zeros(128, np.float32)
        position = len(attempt.tokens)
        logits[ord(text[position] if position < len(text) else "!")] = 2
        logits[ord(".")] = 1
        attempt.add_token(logits)
    return attempt


@pytest.mark.parametrize(
    ("text", "min_tokens", "reply", "reason"),
    [
        ("a$c$", 3, "a.c", "stop"),
        ("a$c$", 2, "a.c", "stop"),
        ("a$c$", 1, "a", "stop"),
        ("$$$$$$$$$$$$", 9, "." * 9, "length"),
    ],
)
def test_before_min_tokens_the_next_best_token_replaces_a_stop_token(
    text: str, min_tokens: int, reply: str, reason: FinishReason
) -> None:
    attempt = spell(text, min_tokens)
    assert (attempt.guard.text, attempt.reason) == (reply, reason)


def test_a_grammar_limits_the_tokens_and_ends_the_reply() -> None:
    attempt = spell("abC", grammar=WordGrammar())
    assert (attempt.guard.text, attempt.reason) == ("ab.", "stop")
    complete = spell("." * 9, grammar=WordGrammar())
    assert (complete.guard.text, complete.has_looped) == (".", False)


# ---- loops ---------------------------------------------------------------------------------------


def test_a_loop_that_the_second_attempt_does_not_have_is_replaced_by_it() -> None:
    attempts: list[int] = []

    def script(word: str, attempt: int) -> list[str]:
        attempts.append(attempt)
        return ["One dog, ", "on a lawn."] if attempt else LOOP

    pieces, reply = answer(script)
    assert attempts == [0, 1]
    assert (reply.text, reply.finish.reason) == ("One dog, on a lawn.", "stop")
    shown = "".join(piece.text for piece in pieces)
    assert "".join(LOOP).startswith(shown)
    assert 200 < len(shown) < 400  # stopped soon after the loop was long enough
    new = sum(bool(piece.text) for piece in pieces) + 2
    assert reply.finish.tokens == Tokens(2 * 5, 0, new)
    assert sum(piece.finish is not None for piece in pieces) == 1
    assert [piece.text for piece in pieces[-3:]] == ["", "", ""]  # an empty piece for each piece of the second attempt


def test_the_second_attempt_has_a_penalty_on_tokens_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    penalties: list[float] = []
    penalty_class = sampler.RepetitionPenalty
    monkeypatch.setattr(
        "smolcli.generation.scheduler.RepetitionPenalty",
        lambda penalty: penalties.append(penalty) or penalty_class(penalty),
    )
    answer(lambda word, attempt: ["fine"] if attempt else LOOP)
    assert penalties == [RETRY_PENALTY]


def test_the_finish_reason_is_that_of_the_second_attempt() -> None:
    _, reply = answer(lambda word, attempt: "half an answer" * 9 if attempt else LOOP, Generate(max_tokens=30))
    assert (reply.text, reply.finish.reason) == (("half an answer" * 9)[:30], "length")


def test_a_loop_that_the_penalty_does_not_break_is_cut() -> None:
    backend = ScriptedBackend(lambda word, _: LOOP if word == "a" else ["fine"], max_sequences=2)
    _, replies = collect(generate(backend, to_prompts("ab"), FREE))
    assert (replies[0].text, replies[0].finish.reason) == ("I see a dog. It is a dog.", "repetition")
    assert (replies[1].text, replies[1].finish.reason, replies[1].finish.text) == ("fine", "stop", None)


def test_a_second_attempt_keeps_its_place_among_the_slots() -> None:
    def script(word: str, attempt: int) -> list[str]:
        return LOOP if word == "loop" and not attempt else ["fine"]

    backend = ScriptedBackend(script, max_sequences=2)
    _, replies = collect(generate(backend, to_prompts(["loop", *"abcdefgh"]), FREE))
    assert {reply.text for reply in replies.values()} == {"fine"}
    again = [words for words in backend.prefills() if words == ["loop"] or "loop" in words]  # type: ignore[operator]
    assert len(again) == 2 and not backend.running


@pytest.mark.parametrize("length", [200, 201, 215, 223])
def test_a_text_cut_off_by_max_tokens_may_be_a_loop_and_one_that_ends_by_itself_is_not(length: int) -> None:
    """Where the last check was at 192 characters."""
    unit = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
    text = ("." + unit * 9)[:length]
    endings: list[tuple[FinishReason, int, bool]] = [("length", length, length > 200), ("stop", 999, False)]
    for reason, max_tokens, is_loop in endings:
        attempts: list[int] = []

        def script(word: str, attempt: int, attempts: list[int] = attempts) -> str:
            attempts.append(attempt)
            return text

        _, reply = answer(script, Generate(max_tokens=max_tokens))
        assert len(attempts) == 1 + is_loop
        assert (reply.finish.reason, reply.text == text) == ("repetition" if is_loop else reason, not is_loop)


def test_a_reply_of_a_fixed_length_is_not_stopped() -> None:
    _, reply = answer(lambda word, _: LOOP, Generate(max_tokens=60, min_tokens=60))
    assert (reply.finish.reason, reply.finish.tokens.new) == ("length", 60)


def test_an_exception_in_the_second_attempt_is_the_fault_of_the_reply() -> None:
    def script(word: str, attempt: int) -> list[str]:
        if attempt:
            raise MemoryError
        return LOOP

    _, reply = answer(script)
    assert reply.finish.fault is not None and reply.finish.fault.kind == "memory"


def test_the_next_prompt_is_taken_during_a_second_attempt() -> None:
    log: list[str] = []

    def source() -> Iterator[Prompt | None]:
        yield Prompt.user("a")
        while log.count("attempt") < 2:
            yield None
        log.append("take b")
        yield Prompt.user("b")

    def script(word: str, attempt: int) -> list[str]:
        log.append("attempt")
        return LOOP if word == "a" else ["b"]

    _, replies = collect(generate(ScriptedBackend(script), source(), FREE))
    assert [replies[index].finish.reason for index in range(2)] == ["repetition", "stop"]
    assert log == ["attempt", "attempt", "take b", "attempt"]


# ---- confidence ----------------------------------------------------------------------------------


def test_confidence_is_the_geometric_mean_of_the_probabilities_of_the_tokens_and_the_stop_token() -> None:
    attempt = Attempt(Sampler(FREE), str, frozenset({STOP}), 9, False)
    for token, probability in ((1, 0.9), (2, 0.5), (STOP, 0.6)):
        row = np.full(4, (1 - probability) / 3)
        row[token] = probability
        attempt.add_token(np.log(row).astype(np.float32))
    assert attempt.confidence == pytest.approx((0.9 * 0.5 * 0.6) ** (1 / 3), rel=1e-6)


def test_confidence_is_of_the_models_own_distribution() -> None:
    """Neither a grammar, which leaves one token, nor the temperature makes the model any surer."""
    for grammar in (None, WordGrammar()):
        filters = [sampler.AllowedTokens(grammar)] if grammar else []
        attempt = Attempt(Sampler(Generate(temperature=0.01), filters), chr, frozenset(), 1, False, grammar)
        row = np.full(128, 1e-6)
        row[ord("a")], row[ord("!")] = 0.25, 0.7
        attempt.add_token(np.log(row).astype(np.float32))
        expected = 0.25 if grammar else 0.7
        assert attempt.confidence == pytest.approx(expected / row.sum(), rel=1e-4)


def test_a_reply_has_the_confidence_of_the_attempt_that_it_shows() -> None:
    backend = ScriptedBackend(lambda word, attempt: ["x"] * 4 if word == "plain" else LOOP, max_sequences=2)
    backend.probability = 0.8
    _, replies = collect(generate(backend, to_prompts(["plain", "loop"]), FREE))
    assert replies[0].finish.confidence == pytest.approx(0.8, rel=1e-4)
    assert replies[1].finish.confidence == pytest.approx(0.8, rel=1e-4)
    _, failed = answer(lambda word, _: [], context_length=5)
    assert failed.finish.fault is not None and failed.finish.confidence is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_a_fault_and_no_answer(value: float) -> None:
    class BrokenBackend(ScriptedBackend):
        def _logits(self, sequence: int) -> Logits:
            logits = super()._logits(sequence)
            logits[7] = value
            return logits

    _, replies = collect(generate(BrokenBackend(), to_prompts(["a"]), FREE))
    assert replies[0].finish.fault is not None and "not finite" in replies[0].finish.fault.message
    assert replies[0].finish.confidence is None


def test_an_empty_reply_has_the_confidence_of_its_end() -> None:
    _, reply = answer(lambda word, _: [])
    assert reply.text == "" and reply.finish.confidence == pytest.approx(0.999, rel=1e-4)


def test_a_certain_token_has_probability_one() -> None:
    logits = np.array([0, 500, -500], np.float32)
    scores = Scores.of(logits)
    assert scores.log_probability(1) == 0
    assert math.isclose(scores.log_probability(2), -1000)
