"""generation/sampler.py against transformers' own samplers and the arithmetic, and its decoding loop."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from smolcli.generation.sampler import Logits, Sampler, run_decoding
from smolcli.options import Generate
from smolcli.types import FinishReason, Piece

SIZE = 50
HOT = Generate(temperature=1.3)


def make_logits(seed: int, size: int = SIZE) -> Logits:
    return (3 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def draws(logits: Logits, count: int = 4000, **options: float) -> NDArray[np.float64]:
    """Return the share of draws of each token."""
    sampler = Sampler(Generate(**options))  # type: ignore[arg-type]
    return np.bincount([sampler.sample(logits) for _ in range(count)], minlength=len(logits)) / count


def reference_probabilities(logits: Logits, temperature: float, top_p: float = 1.0) -> NDArray[np.float64]:
    """Return the probabilities that transformers would draw from."""
    row = torch.from_numpy(logits)[None].double()
    none = torch.empty(1, 0, dtype=torch.long)
    row = TemperatureLogitsWarper(temperature)(none, row)
    row = TopPLogitsWarper(top_p)(none, row) if top_p < 1 else row
    return row.softmax(-1)[0].numpy()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (1.0, 0.9), (2.0, 0.6), (1.0, 1e-9), (1.0, 0.999)])
def test_draws_follow_the_probabilities_of_transformers(temperature: float, top_p: float) -> None:
    for seed in range(3):
        logits = make_logits(seed)
        expected = reference_probabilities(logits, temperature, top_p)
        shares = draws(logits, temperature=temperature, top_p=top_p, seed=seed)
        assert not shares[expected == 0].any()
        assert np.all(
            np.abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000) + 1e-3
        )  # five standard deviations


def test_the_smallest_nucleus_is_one_token() -> None:
    assert draws(make_logits(1), 50, temperature=5.0, top_p=0.0)[make_logits(1).argmax()] == 1


@pytest.mark.parametrize("penalty", [1.3, 2.0, 0.8])
def test_the_penalty_is_that_of_transformers(penalty: float) -> None:
    """Compare the token of each step; a token generated before may win again."""
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    sampler, tokens = Sampler(Generate(), penalty), list[int]()
    for step in range(60):
        logits = make_logits(step, 12)
        row = torch.from_numpy(logits)[None]
        processed = processor(torch.tensor([tokens]), row) if tokens else row
        tokens.append(sampler.sample(logits))
        assert tokens[-1] == int(processed.argmax())
    assert len(set(tokens)) > 5


class FixedGrammar:
    """A grammar that allows a few tokens and never ends."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = tokens

    def allowed_tokens(self) -> NDArray[np.bool_]:
        return np.isin(np.arange(SIZE), self.tokens)

    def accept_token(self, token: int) -> bool:
        return False


def test_only_allowed_tokens_are_sampled() -> None:
    grammar = FixedGrammar(3, 7, 20)
    for seed in range(20):
        logits = make_logits(seed)
        best = [3, 7, 20][int(logits[[3, 7, 20]].argmax())]
        assert Sampler(Generate(), 1.0, grammar).sample(logits) == best
        assert Sampler(Generate(temperature=9.0, top_p=0.99, seed=seed), 1.0, grammar).sample(logits) in (3, 7, 20)
        assert Sampler(HOT, 1.5, grammar).sample(logits) in (3, 7, 20)


def test_is_argmax_only_without_temperature_penalty_and_grammar() -> None:
    assert Sampler(Generate(top_p=0.5, seed=3)).is_argmax
    others = (Sampler(HOT), Sampler(Generate(), 1.3), Sampler(Generate(), 1.0, FixedGrammar(1)))
    assert not any(other.is_argmax for other in others)


def test_logits_are_not_written_to() -> None:
    logits = make_logits(1)
    logits.flags.writeable = False
    for options in (Generate(), HOT):
        sampler = Sampler(options, 1.3, FixedGrammar(1, 2, 3))
        for _ in range(3):
            sampler.sample(logits)


def test_the_first_of_equal_logits_wins() -> None:
    assert Sampler(Generate()).sample(np.array([1, 2, 2, 0], np.float32)) == 1


def test_logits_that_differ_in_the_last_digits_draw_the_same_tokens() -> None:
    """As those of two backends do. Near ties may be in either order."""
    near = np.repeat(make_logits(1, 25), 2)
    other = near + 1e-6 * np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    options = Generate(temperature=1.0, top_p=0.95, seed=3)
    first, second = Sampler(options), Sampler(options)
    assert [first.sample(near) for _ in range(500)] == [second.sample(other) for _ in range(500)]


def test_extreme_logits_and_temperatures_give_no_warnings() -> None:
    logits = np.array([-3e38, 3e38, 0, -np.inf], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in (1e-300, 1e-9, 1.0):
            assert Sampler(Generate(temperature=temperature)).sample(logits) == 1
        assert 0 <= Sampler(Generate(temperature=100.0, top_p=0.5)).sample(logits) < 3


def test_a_seed_draws_the_same_on_every_machine() -> None:
    """Also in another process, whatever its hash seed."""
    program = (
        "import numpy as np; from smolcli.generation.sampler import Sampler; from smolcli.options import Generate;"
        "s = Sampler(Generate(temperature=1.0, seed=7)); print(*(s.sample(np.zeros(1000, np.float32)) for _ in 'abc'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["483", "228", "834"]


class WordGrammar:
    """A grammar of lower-case words that end in a full stop; token n is the character n."""

    def allowed_tokens(self) -> NDArray[np.bool_]:
        return np.array([chr(n).islower() or chr(n) == "." for n in range(128)])

    def accept_token(self, token: int) -> bool:
        return token == ord(".")


def decode(
    text: str, max_tokens: int, is_looping: bool = False, grammar: WordGrammar | None = None, min_tokens: int = 0
) -> tuple[list[str], object, int]:
    """Decode with a model whose best tokens are `text` and then "!" without end; token n is the character n.

    "$" is the stop token and "_" has no text. Returns the texts of the pieces, what the loop returned, and the number
    of model steps.
    """
    steps = 0

    def logits_at(position: int) -> Logits:
        logits = np.zeros(128, np.float32)
        logits[ord(text[position] if position < len(text) else "!")] = 2
        logits[ord(".")] = 1
        return logits

    def compute_logits(token: int) -> Logits:
        nonlocal steps
        steps += 1
        return logits_at(steps)

    def detokenize(token: int) -> str | None:
        return None if chr(token) == "$" else "" if chr(token) == "_" else chr(token)

    sampler = Sampler(Generate(min_tokens=min_tokens), 1.0, grammar)
    decoding = run_decoding(sampler.decode(5, logits_at(0), max_tokens, detokenize, sampler.sample), compute_logits)
    pieces: list[Piece] = []
    try:
        pieces.append(next(decoding))
        while True:
            pieces.append(decoding.send(is_looping))
    except StopIteration as end:
        assert {piece.index for piece in pieces} <= {5}
        return [piece.text for piece in pieces], end.value, steps


@pytest.mark.parametrize(
    ("text", "max_tokens", "reply", "end", "steps"),
    [
        ("abc$", 9, "abc", ("stop", 3), 3),
        ("$", 9, "", ("stop", 0), 0),
        ("abcdef", 3, "abc", ("length", 3), 2),
        ("a_b_$", 9, "ab", ("stop", 4), 4),
    ],
)
def test_the_decoding_loop_ends_and_takes_no_step_too_many(
    text: str, max_tokens: int, reply: str, end: tuple[FinishReason, int], steps: int
) -> None:
    pieces, result, steps_taken = decode(text, max_tokens)
    assert ("".join(pieces), result, steps_taken) == (reply, end, steps)
    assert all(pieces)


@pytest.mark.parametrize(
    ("text", "min_tokens", "reply", "end"),
    [
        ("a$c$", 3, "a.c", ("stop", 3)),  # "." is the second best token
        ("a$c$", 2, "a.c", ("stop", 3)),
        ("a$c$", 1, "a", ("stop", 1)),
        ("$$$$$$$$$$$$", 9, ".........", ("length", 9)),
    ],
)
def test_before_min_tokens_the_next_best_token_replaces_a_stop_token(
    text: str, min_tokens: int, reply: str, end: tuple[FinishReason, int]
) -> None:
    pieces, result, _ = decode(text, 9, min_tokens=min_tokens)
    assert ("".join(pieces), result) == (reply, end)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
def test_min_tokens_is_that_of_transformers(options: dict[str, float]) -> None:
    stop_tokens, min_tokens, steps = [3, 7, 11], 20, 40
    rows = [make_logits(seed, 20) for seed in range(steps)]
    for row in rows[::2]:
        row[stop_tokens] += 9  # the best tokens
    processor = MinNewTokensLengthLogitsProcessor(0, min_tokens, stop_tokens, device="cpu")
    reference = Sampler(Generate(**options))  # type: ignore[arg-type]
    expected: list[int] = []
    while len(expected) < steps:
        row = processor(torch.tensor([expected], dtype=torch.long), torch.from_numpy(rows[len(expected)])[None].clone())
        token = reference.sample(row[0].numpy()) if options else int(row.argmax())
        if token in stop_tokens:
            break
        expected.append(token)
    tokens: list[int] = []

    def detokenize(token: int) -> str | None:
        if token in stop_tokens:
            return None
        tokens.append(token)
        return ""

    sampler = Sampler(Generate(min_tokens=min_tokens, **options))  # type: ignore[arg-type]
    decoding = sampler.decode(0, rows[0], steps, detokenize, sampler.sample)
    assert not list(run_decoding(decoding, lambda _: rows[len(tokens)]))
    assert len(expected) >= min_tokens
    # Sampled tokens differ, since drawing a suppressed token used up random numbers.
    assert tokens == expected if not options else len(tokens) >= min_tokens


def test_a_reply_that_is_sent_true_ends() -> None:
    assert decode("abc$", 9, is_looping=True) == (["a"], ("repetition", 1), 0)


def test_a_grammar_limits_the_tokens_and_ends_the_reply() -> None:
    assert decode("abC", 9, grammar=WordGrammar()) == (["a", "b", "."], ("stop", 3), 2)
    assert decode(".", 9, is_looping=True, grammar=WordGrammar()) == (
        ["."],
        ("stop", 1),
        0,
    )  # complete, so it cannot repeat itself


def test_max_tokens_may_be_0() -> None:
    assert decode("abc", 0) == ([], ("length", 0), 0)
