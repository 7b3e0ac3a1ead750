"""generation/sampler.py against transformers' own samplers and the arithmetic."""

from __future__ import annotations

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

from smolcli.backends.base import Logits
from smolcli.generation.sampler import AllowedTokens, LogitsFilter, MinTokens, RepetitionPenalty, Sampler, uniform
from smolcli.options import Generate

SIZE = 50
HOT = Generate(temperature=1.3)


def make_logits(seed: int, size: int = SIZE) -> Logits:
    return (3 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def draws(logits: Logits, count: int = 4000, **options: float) -> NDArray[np.float64]:
    """Return the share of draws of each token."""
    sampler = Sampler(Generate(**options))  # type: ignore[arg-type]
    drawn = [sampler.sample(logits, range(step)) for step in range(count)]
    return np.bincount(drawn, minlength=len(logits)) / count


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
    sampler, tokens = Sampler(Generate(), [RepetitionPenalty(penalty)]), list[int]()
    for step in range(60):
        logits = make_logits(step, 12)
        row = torch.from_numpy(logits)[None]
        processed = processor(torch.tensor([tokens]), row) if tokens else row
        tokens.append(sampler.sample(logits, tokens))
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
    allowed = AllowedTokens(FixedGrammar(3, 7, 20))
    for seed in range(20):
        logits = make_logits(seed)
        best = [3, 7, 20][int(logits[[3, 7, 20]].argmax())]
        assert Sampler(Generate(), [allowed]).sample(logits, []) == best
        hot = Generate(temperature=9.0, top_p=0.99, seed=seed)
        assert Sampler(hot, [allowed]).sample(logits, []) in (3, 7, 20)
        assert Sampler(HOT, [RepetitionPenalty(1.5), allowed]).sample(logits, [1]) in (3, 7, 20)


def test_logits_are_not_written_to() -> None:
    logits = make_logits(1)
    logits.flags.writeable = False
    for options in (Generate(), HOT):
        filters: list[LogitsFilter] = [
            RepetitionPenalty(1.3),
            AllowedTokens(FixedGrammar(1, 2, 3)),
            MinTokens(2, frozenset({2})),
        ]
        sampler, tokens = Sampler(options, filters), list[int]()
        for _ in range(3):
            tokens.append(sampler.sample(logits, tokens))


def test_the_first_of_equal_logits_wins() -> None:
    assert Sampler(Generate()).sample(np.array([1, 2, 2, 0], np.float32), []) == 1


def test_logits_that_differ_in_the_last_digits_draw_the_same_tokens() -> None:
    """As those of two backends do. Near ties may be in either order."""
    near = np.repeat(make_logits(1, 25), 2)
    other = near + 1e-6 * np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    options = Generate(temperature=1.0, top_p=0.95, seed=3)
    first, second = ([Sampler(options).sample(row, range(step)) for step in range(500)] for row in (near, other))
    assert first == second and len(set(first)) > 9


def test_extreme_logits_and_temperatures_give_no_warnings() -> None:
    logits = np.array([-3e38, 3e38, 0, -np.inf], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in (1e-300, 1e-9, 1.0):
            assert Sampler(Generate(temperature=temperature)).sample(logits, []) == 1
        assert 0 <= Sampler(Generate(temperature=100.0, top_p=0.5)).sample(logits, []) < 3


def splitmix64(state: int, number: int) -> int:
    """The generator of Steele, Lea and Flood (2014), in Python's integers."""
    bits = (state + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
    return bits ^ bits >> 31


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_seed_draws_the_same_on_every_machine(seed: int) -> None:
    """Among equal logits the largest random number wins. These are the published outputs for the state 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [splitmix64(1234567, number) for number in range(4)] == published
    sampler = Sampler(Generate(temperature=1.0, seed=seed))
    for step in range(5):
        bits = [splitmix64(splitmix64(splitmix64(0, seed), step), token) >> 12 for token in range(1000)]
        assert sampler.sample(np.zeros(1000, np.float32), range(step)) == bits.index(max(bits))
        assert uniform(seed, step, np.arange(1000)).tolist() == [(number + 0.5) / 2**52 for number in bits]


def test_steps_seeds_and_tokens_have_unrelated_numbers() -> None:
    numbers = np.stack([uniform(seed, step, np.arange(400)) for seed in range(20) for step in range(50)])
    assert len(np.unique(numbers)) == numbers.size
    assert np.bincount((numbers * 100).astype(int).ravel()) == pytest.approx(4000, rel=0.1)
    for axis in (0, 1):
        neighbors = np.stack([np.delete(numbers, 0, axis), np.delete(numbers, -1, axis)]).reshape(2, -1)
        one, other = neighbors - 0.5
        assert abs((one * other).mean() * 12) < 0.01  # the variance is a twelfth


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
def test_min_tokens_is_that_of_transformers(options: dict[str, float]) -> None:
    stop_tokens, min_tokens, steps = [3, 7, 11], 20, 40
    rows = [make_logits(seed, 20) for seed in range(steps)]
    for row in rows[::2]:
        row[stop_tokens] += 9  # the best tokens
    processor = MinNewTokensLengthLogitsProcessor(0, min_tokens, stop_tokens, device="cpu")
    reference = Sampler(Generate(**options))  # type: ignore[arg-type]
    sampler = Sampler(Generate(**options), [MinTokens(min_tokens, frozenset(stop_tokens))])  # type: ignore[arg-type]
    expected: list[int] = []
    tokens: list[int] = []
    while len(expected) < steps and (not expected or expected[-1] not in stop_tokens):
        logits = rows[len(expected)]
        row = processor(torch.tensor([expected], dtype=torch.long), torch.from_numpy(logits)[None].clone())
        expected.append(reference.sample(row[0].numpy(), expected))
        tokens.append(sampler.sample(logits, tokens))
    assert tokens == expected
    assert len(tokens) > min_tokens


def test_a_sampler_that_takes_the_likeliest_token_would_sample_it() -> None:
    """Over logits with ties, and with every filter."""
    filters: list[list[LogitsFilter]] = [
        [], [RepetitionPenalty(1.3)], [RepetitionPenalty(0.7)], [MinTokens(3, frozenset({1, 2, 3}))],
        [AllowedTokens(FixedGrammar(*range(0, SIZE, 2)))],
        [RepetitionPenalty(2.0), AllowedTokens(FixedGrammar(*range(40))), MinTokens(9, frozenset({5, 6}))],
    ]  # fmt: skip
    rng = np.random.default_rng(8)
    for chosen in filters:
        sampler, taken = Sampler(Generate(), chosen), 0
        for step in range(200):
            logits = rng.integers(-6, 6, SIZE).astype(np.float32)
            generated = rng.integers(0, SIZE, step % 30).tolist()
            likeliest = int(logits.argmax())
            if sampler.takes_likeliest(likeliest, generated):
                taken += 1
                assert sampler.sample(logits, generated) == likeliest
            elif chosen == []:
                pytest.fail("nothing changes the logits")
        assert (taken > 20) == (not chosen or chosen is not filters[2])
    assert not Sampler(HOT).takes_likeliest(1, [])
