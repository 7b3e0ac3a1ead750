"""backends/pytorch_sampler.py draws what generation/sampler.py draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smolcli.backends.base import Scores
from smolcli.backends.pytorch_sampler import summarize, uniform
from smolcli.generation import sampler
from smolcli.generation.sampler import Sampler
from smolcli.options import Generate

VOCABULARY = 5000
SEEDS, STEPS = [0, 1, 7, 2**31, 2**32 - 1], [0, 1, 500, 3, 8191]


def make_logits(seed: int, rows: int = len(SEEDS)) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 4


def test_the_random_numbers_are_those_of_numpy_bit_for_bit() -> None:
    ours = uniform(torch.tensor(SEEDS)[:, None], torch.tensor(STEPS)[:, None], VOCABULARY)
    for row, seed, step in zip(ours, SEEDS, STEPS, strict=True):
        assert row.tolist() == sampler.uniform(seed, step, np.arange(VOCABULARY)).tolist()


@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 0.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0, 1e-300])
def test_the_drawn_tokens_are_those_of_the_sampler(temperature: float, top_p: float) -> None:
    drawn = set()
    for number in range(10):
        logits = make_logits(number)
        settings = [(temperature, top_p, seed, step) for seed, step in zip(SEEDS, STEPS, strict=True)]
        summary = summarize(logits, torch.tensor(settings, dtype=torch.double).T, has_nucleus=top_p < 1)
        for row, seed, step, (*_, token, logit) in zip(logits.numpy(), SEEDS, STEPS, summary.tolist(), strict=True):
            options = Generate(temperature=temperature, top_p=top_p, seed=seed)
            assert int(token) == Sampler(options).sample(row, range(step))
            assert logit == row[int(token)]
            drawn.add(token)
    assert len(drawn) > 10


def test_rows_may_have_settings_of_their_own() -> None:
    logits = make_logits(1)
    settings = [(1.0, 1.0, 3, 1), (0.5, 0.5, 3, 2), (9.0, 0.9, 4, 3), (2.0, 0.1, 5, 4), (1.0, 0.7, 6, 0)]
    summary = summarize(logits, torch.tensor(settings, dtype=torch.double).T, has_nucleus=True)
    for row, (temperature, top_p, seed, step), numbers in zip(logits.numpy(), settings, summary.tolist(), strict=True):
        expected = Sampler(Generate(temperature=temperature, top_p=top_p, seed=int(seed))).sample(row, range(int(step)))
        assert numbers[3] == expected


def test_the_summary_of_a_row_is_what_scores_are_made_of() -> None:
    logits = make_logits(2)
    logits[0, 100:200] = -torch.inf  # as tokens that a model never says
    for row, numbers in zip(logits.numpy(), summarize(logits).tolist(), strict=True):
        expected = Scores.of(row)
        assert numbers == pytest.approx([expected.likeliest, expected.highest, expected.log_sum], abs=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_show_in_the_highest(bad: float) -> None:
    logits = make_logits(3)
    logits[1, 7] = bad
    assert [bool(np.isfinite(row[1])) for row in summarize(logits).tolist()] == [True, False, True, True, True]


def test_a_drawn_token_has_its_log_probability_without_a_fetch() -> None:
    logits = make_logits(4, 1)
    expected = logits.double().log_softmax(-1)[0]
    [[likeliest, highest, log_sum, token, logit]] = summarize(
        logits, torch.tensor([[2.0, 1.0, 0, 0]], dtype=torch.double).T
    ).tolist()
    scores = Scores(int(likeliest), highest, log_sum, lambda: pytest.fail("fetched"), (int(token), logit))
    assert token != likeliest
    for chosen in (int(token), int(likeliest)):
        assert scores.log_probability(chosen) == pytest.approx(float(expected[chosen]), abs=1e-4)
