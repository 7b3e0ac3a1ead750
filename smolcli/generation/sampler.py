"""Chooses each token of a reply from the model's scores, and runs the loop that does so, for every backend.

numpy alone, so that the same scores and seed give the same answer whichever backend made the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from smolcli import registry
from smolcli.options import Generate
from smolcli.types import FinishReason, Piece

Scores = NDArray[np.float32]
Made = TypeVar("Made")  # scores as a backend has them
Ended = TypeVar("Ended")


class GrammarState(Protocol):
    """What a reply may say, followed token by token; generation/grammar.py has it."""

    def allowed(self) -> NDArray[np.bool_]:
        """bool (vocabulary,): the tokens that may come next, at least one."""
        ...

    def take(self, token: int) -> bool:
        """Goes on with one of them; whether the reply is then complete."""
        ...


class Sampler:
    """Chooses the tokens of one reply, from one vector of scores each.

    In this order: tokens said before are less likely by `penalty`; what the grammar does not allow goes; temperature 0
    takes the highest score, the first of equals; else scores are divided by the temperature, the smallest set of
    tokens whose probability is at least top_p stays, and one is drawn.

    >>> Sampler(Generate()).choose(np.float32([0, 3, 1]))
    1
    >>> penalised = Sampler(Generate(), penalty=2.0)
    >>> [penalised.choose(np.float32([0, 3, 2])) for _ in range(3)]
    [1, 2, 1]
    """

    def __init__(self, options: Generate, penalty: float = 1.0, grammar: GrammarState | None = None) -> None:
        """A `penalty` of 1 is none; `grammar` is at its beginning."""
        self.options, self._penalty, self._grammar = options, penalty, grammar
        self._bits = np.random.PCG64(options.seed)  # its raw stream is the same in every release of numpy
        self._said: set[int] = set()
        self._barred: set[int] = set()  # tokens that would end the reply before options.min_tokens

    @property
    def takes_highest(self) -> bool:
        """Whether the highest score is all that counts, so that a backend may find it where the scores are."""
        return self.options.temperature == 0 and self._penalty == 1 and self._grammar is None and not self._barred

    def choose(self, scores: Scores) -> int:
        """The next token; `scores` is float32 (vocabulary,) and not written to."""
        if self._penalty != 1:
            scores = self._penalised(scores)
        if self._grammar is not None:
            scores = np.where(self._grammar.allowed(), scores, np.float32(-np.inf))
        if self._barred:
            scores = scores.copy()
            scores[list(self._barred)] = -np.inf
        token = int(scores.argmax()) if self.options.temperature == 0 else self._drawn(scores)
        self._said.add(token)
        return token

    def decode(
        self,
        index: int,
        scores: Made,
        most: int,
        says: Callable[[int], str | None],
        choose: Callable[[Made], int],
    ) -> Generator[Piece | int, Any, tuple[FinishReason, int]]:
        """The pieces of reply number `index`; returns why it ended and its count of tokens, at most `most`.

        `scores` are those of the first token; for a token that is given out come those of the next. `choose` is this
        sampler's, for scores as a backend has them. A token `says` what it adds to the text, nothing while a character
        is incomplete, and None where it ends the reply and is no part of it; before options.min_tokens the next best is
        taken instead. A true value sent for a piece ends the reply: it repeats itself.
        """
        for count in range(1, most + 1):
            token = choose(scores)
            while (text := says(token)) is None and count <= self.options.min_tokens:
                self._barred.add(token)
                token = choose(scores)
            self._said -= self._barred
            self._barred.clear()
            if text is None:
                return "stop", count - 1
            complete = self._grammar is not None and self._grammar.take(token)
            loops = bool(text) and (yield Piece(index, text))
            if complete or loops:
                return "stop" if complete else "repetition", count
            if count < most:
                scores = yield token
        return "length", most

    def _penalised(self, scores: Scores) -> Scores:
        """CTRL's penalty, as transformers has it, but never for the prompt: OCR and questions copy words of it."""
        scores = scores.copy()
        said = list(self._said)
        scores[said] *= np.where(scores[said] > 0, np.float32(1 / self._penalty), np.float32(self._penalty))
        return scores

    def _drawn(self, scores: Scores) -> int:
        """By the highest score after noise, which draws each token as often as its probability (the Gumbel-max trick).

        Each token has noise of its own, so that scores that differ in the last digits, as those of two backends, draw
        the same token but for near ties; a draw from sums of probabilities would differ far more often.
        """
        exact = scores.astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the highest to minus infinity
            exact = (exact - exact.max()) / self.options.temperature
        uniform = ((self._bits.random_raw(len(exact)) >> np.uint64(11)) + 0.5) * 2.0**-53  # never 0, never 1
        kept = np.arange(len(exact)) if self.options.top_p == 1 else _nucleus(np.exp(exact), self.options.top_p)
        return int(kept[(exact[kept] - np.log(-np.log(uniform[kept]))).argmax()])


def evaluated(
    decoding: Generator[Piece | int, Any, Ended], after: Callable[[int], Made]
) -> Generator[Piece, bool, Ended]:
    """The pieces of Sampler.decode alone; the scores `after` a token are computed here."""
    given: Any = None
    try:
        while True:
            item = decoding.send(given)
            given = after(item) if isinstance(item, int) else (yield item)
    except StopIteration as end:
        ended: Ended = end.value
        return ended


def samplers(options: Generate, vocabulary: Callable[[], Any]) -> Callable[[float], Sampler]:
    """What makes the sampler of each attempt at a reply, of its penalty.

    `vocabulary` gives the model's tokens as grammar.py makes them; it is asked only where there is a schema. Raises
    UnavailableError where llguidance is not installed, UsageError for a schema that cannot be enforced.
    """
    if options.schema is None:
        return lambda penalty: Sampler(options, penalty)
    make = registry.load(registry.LIBRARIES, "--schema")
    grammar = make(vocabulary(), options.schema)
    return lambda penalty: Sampler(options, penalty, grammar.follow())


def _nucleus(chances: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """The fewest most likely tokens whose chances sum to at least `top_p` of all; never none."""
    total = chances.sum()
    likely = np.flatnonzero(chances >= (1 - top_p) * total / len(chances))  # the others sum to less than 1 - top_p
    order = likely[np.argsort(-chances[likely], kind="stable")]
    return order[: np.searchsorted(np.cumsum(chances[order]), top_p * total, side="left") + 1]
