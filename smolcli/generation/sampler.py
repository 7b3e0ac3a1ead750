"""The sampler: chooses each token of a reply from the model's logits.

Equal logits and an equal seed give the same reply on every backend: random numbers depend on the seed, the step and the
token alone. What is here computes with numpy; a backend may draw on its device by the same rules (Scores.drawn).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smolcli.backends.base import Draw, Logits
from smolcli.options import Generate

# The generator splitmix64: what its state grows by, and the shifts and factors by which a state is mixed.
GAMMA = 0x9E3779B97F4A7C15
MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
UNIFORM_BITS = 52  # of a uniform random number; with one more, half a unit above the last would be rounded to 1


class LogitsFilter(Protocol):
    """What changes the logits before a token is chosen, as a penalty or a grammar does."""

    def apply(self, logits: Logits, generated: Sequence[int]) -> Logits:
        """Return the logits to choose from, after the tokens `generated` of the reply; `logits` is not written to."""
        ...

    def keeps_highest(self, token: int, generated: Sequence[int]) -> bool:
        """Return whether `token`, if its logit is the first of the highest, certainly is that after `apply` too."""
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

    def keeps_highest(self, token: int, generated: Sequence[int]) -> bool:
        return bool(self._penalty >= 1) and token not in generated


class AllowedTokens:
    """Leaves only the tokens that a grammar allows next."""

    def __init__(self, grammar: GrammarState) -> None:
        self._grammar = grammar

    def apply(self, logits: Logits, generated: Sequence[int]) -> Logits:
        return np.where(self._grammar.allowed_tokens(), logits, np.float32(-np.inf))

    def keeps_highest(self, token: int, generated: Sequence[int]) -> bool:
        return bool(self._grammar.allowed_tokens()[token])


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

    def keeps_highest(self, token: int, generated: Sequence[int]) -> bool:
        return token not in self._stop_tokens or len(generated) >= self._min_tokens


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

    def takes_likeliest(self, likeliest: int, generated: Sequence[int]) -> bool:
        """Return whether `sample` would choose the likeliest token, so that the logits need not be fetched."""
        is_greedy = self._options.temperature == 0
        return is_greedy and all(logits_filter.keeps_highest(likeliest, generated) for logits_filter in self._filters)

    @property
    def draw(self) -> Draw | None:
        """What `sample` draws by, for a backend that can do it itself; None if it does something else too."""
        if self._options.temperature == 0 or self._filters:
            return None
        return Draw(self._options.temperature, self._options.top_p, self._options.seed)

    def sample(self, logits: Logits, generated: Sequence[int]) -> int:
        """Return the next token after those `generated`. `logits` is float32 (vocab_size,) and is not written to."""
        for logits_filter in self._filters:
            logits = logits_filter.apply(logits, generated)
        return int(logits.argmax()) if self._options.temperature == 0 else self._draw(logits, len(generated))

    def _draw(self, logits: Logits, step: int) -> int:
        """Add noise and take the highest, which draws each token with its probability (the Gumbel-max trick).

        Each token has noise of its own, so logits that differ in the last digits, as those of two backends, draw the
        same token except for near ties. A draw from cumulative probabilities would differ far more often.
        """
        scaled = logits.astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the highest to minus infinity
            scaled = (scaled - scaled.max()) / self._options.temperature
        top_p = self._options.top_p
        kept = np.arange(len(scaled)) if top_p == 1 else _nucleus(np.exp(scaled), top_p)
        noise = -np.log(-np.log(uniform(self._options.seed, step, kept)))
        return int(kept[(scaled[kept] + noise).argmax()])


def uniform(seed: int, step: int, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return a random number between 0 and 1, never either, for each of `tokens` in a step of a reply.

    It depends on nothing but the three numbers, so that it needs no state, on whatever device it is computed.
    """
    start = splitmix64(splitmix64(np.zeros(1, np.uint64), np.array([seed])), np.array([step]))
    bits = splitmix64(start, tokens) >> np.uint64(64 - UNIFORM_BITS)
    numbers: NDArray[np.float64] = (bits.astype(np.float64) + 0.5) * 2.0**-UNIFORM_BITS
    return numbers


def splitmix64(state: NDArray[np.uint64], number: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return the outputs of these numbers, from 0, of the generator splitmix64 that begins at `state`, an array.

    >>> splitmix64(np.array([1234567], np.uint64), np.arange(2)).tolist()
    [6457827717110365317, 3203168211198807973]
    """
    bits: NDArray[np.uint64] = state + (number.astype(np.uint64) + np.uint64(1)) * np.uint64(GAMMA)
    for shift, factor in MIXING:
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    return bits


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Return the fewest most likely tokens whose weights sum to at least `top_p` of the total; at least one."""
    total = weights.sum()
    likely = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))  # the others sum to less than 1 - top_p
    order = likely[np.argsort(-weights[likely], kind="stable")]
    return order[: np.searchsorted(np.cumsum(weights[order]), top_p * total, side="left") + 1]
