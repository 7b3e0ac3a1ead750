"""The sampler: chooses each token of a reply from the model's logits.

It computes with numpy alone, so that equal logits and an equal seed give the same reply on every backend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smolcli.backends.base import Logits
from smolcli.options import Generate


class LogitsFilter(Protocol):
    """What changes the logits before a token is chosen, as a penalty or a grammar does."""

    def apply(self, logits: Logits, generated: Sequence[int]) -> Logits:
        """Return the logits to choose from, after the tokens `generated` of the reply; `logits` is not written to."""
        ...


class GrammarState(Protocol):
    """What a reply may say next; generation/grammar.py implements it."""

    def allowed_tokens(self) -> NDArray[np.bool_]:
        """Return the tokens that may come next, at least one: bool (vocab_size,)."""
        ...

    def accept_token(self, token: int) -> bool:
        """Continue with an allowed token; return whether the reply is then complete."""
        ...


class RepetitionPenalty:
    """Makes tokens that the reply has already less likely.

    It is CTRL's penalty as in transformers, but without the prompt's tokens: OCR and answers copy words of the prompt.
    """

    def __init__(self, penalty: float) -> None:
        self._penalty = np.float32(penalty)

    def apply(self, logits: Logits, generated: Sequence[int]) -> Logits:
        logits = logits.copy()
        tokens = list(set(generated))
        logits[tokens] *= np.where(logits[tokens] > 0, 1 / self._penalty, self._penalty)
        return logits


class AllowedTokens:
    """Leaves only the tokens that a grammar allows next."""

    def __init__(self, grammar: GrammarState) -> None:
        self._grammar = grammar

    def apply(self, logits: Logits, generated: Sequence[int]) -> Logits:
        return np.where(self._grammar.allowed_tokens(), logits, np.float32(-np.inf))


class MinTokens:
    """Leaves out the tokens that would end the reply before it has `min_tokens` tokens."""

    def __init__(self, min_tokens: int, stop_tokens: frozenset[int]) -> None:
        self._min_tokens, self._stop_tokens = min_tokens, list(stop_tokens)

    def apply(self, logits: Logits, generated: Sequence[int]) -> Logits:
        if len(generated) >= self._min_tokens:
            return logits
        logits = logits.copy()
        logits[self._stop_tokens] = -np.inf
        return logits


class Sampler:
    """Chooses the tokens of one reply, from one vector of logits each, after the filters have changed it in order.

    With temperature 0 the highest logit wins, the first of equal ones. Otherwise logits are divided by the
    temperature, the smallest set of tokens whose probability is at least top_p is kept, and one of them is drawn.

    >>> Sampler(Generate()).sample(np.float32([0, 3, 1]), [])
    1
    >>> Sampler(Generate(), [RepetitionPenalty(2.0)]).sample(np.float32([0, 3, 2]), generated=[1])
    2
    """

    def __init__(self, options: Generate, filters: Sequence[LogitsFilter] = ()) -> None:
        self._options, self._filters = options, filters
        self.takes_likeliest = options.temperature == 0 and not filters  # whether `sample` does no more than argmax

    def sample(self, logits: Logits, generated: Sequence[int]) -> int:
        """Return the next token after those `generated`. `logits` is float32 (vocab_size,) and is not written to."""
        for logits_filter in self._filters:
            logits = logits_filter.apply(logits, generated)
        return int(logits.argmax()) if self._options.temperature == 0 else self._draw(logits)

    @cached_property
    def _generator(self) -> np.random.PCG64:
        """The source of random numbers, whose raw stream is the same in every release of numpy; slow to make."""
        return np.random.PCG64(self._options.seed)

    def _draw(self, logits: Logits) -> int:
        """Add noise and take the highest, which draws each token with its probability (the Gumbel-max trick).

        Each token has noise of its own, so logits that differ in the last digits, as those of two backends, draw the
        same token except for near ties. A draw from cumulative probabilities would differ far more often.
        """
        scaled = logits.astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the highest to minus infinity
            scaled = (scaled - scaled.max()) / self._options.temperature
        uniform = ((self._generator.random_raw(len(scaled)) >> np.uint64(11)) + 0.5) * 2.0**-53  # never 0, never 1
        top_p = self._options.top_p
        kept = np.arange(len(scaled)) if top_p == 1 else _nucleus(np.exp(scaled), top_p)
        return int(kept[(scaled[kept] - np.log(-np.log(uniform[kept]))).argmax()])


def log_probability(logits: Logits, token: int, highest: np.float32) -> float:
    """Return the natural logarithm of the probability of `token`: the softmax of `logits`, in float64 sums.

    `highest` is the highest of the logits.

    >>> logits = np.log(np.float32([0.5, 1.5]))
    >>> float(np.exp(log_probability(logits, 1, logits.max())).round(6))
    0.75
    """
    above = logits - highest
    chosen = float(above[token])
    return chosen - math.log(np.add.reduce(np.exp(above, out=above), dtype=np.float64))


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Return the fewest most likely tokens whose weights sum to at least `top_p` of the total; at least one."""
    total = weights.sum()
    likely = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))  # the others sum to less than 1 - top_p
    order = likely[np.argsort(-weights[likely], kind="stable")]
    return order[: np.searchsorted(np.cumsum(weights[order]), top_p * total, side="left") + 1]
