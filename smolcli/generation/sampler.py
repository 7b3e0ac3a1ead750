"""The sampler: chooses each token of a reply from the model's logits, and the decoding loop that all backends share.

It computes with numpy alone, so that equal logits and an equal seed give the same reply on every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from smolcli import registry
from smolcli.options import Generate
from smolcli.types import FinishReason, Piece

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer

Logits = NDArray[np.float32]  # (vocab_size,)
BackendLogits = TypeVar("BackendLogits")  # logits as a backend holds them: Logits, or a torch.Tensor on its device
Result = TypeVar("Result")


class GrammarState(Protocol):
    """What a reply may say next; generation/grammar.py implements it."""

    def allowed_tokens(self) -> NDArray[np.bool_]:
        """Return the tokens that may come next, at least one: bool (vocab_size,)."""
        ...

    def accept_token(self, token: int) -> bool:
        """Continue with an allowed token; return whether the reply is then complete."""
        ...


class Sampler:
    """Chooses the tokens of one reply, from one vector of logits each.

    In this order: the penalty makes tokens generated before less likely; tokens that the grammar does not allow are
    removed. With temperature 0 the highest logit wins, the first of equal ones. Otherwise logits are divided by the
    temperature, the smallest set of tokens whose probability is at least top_p is kept, and one of them is drawn.

    >>> Sampler(Generate()).sample(np.float32([0, 3, 1]))
    1
    >>> penalised = Sampler(Generate(), penalty=2.0)
    >>> [penalised.sample(np.float32([0, 3, 2])) for _ in range(3)]
    [1, 2, 1]
    """

    def __init__(self, options: Generate, penalty: float = 1.0, grammar: GrammarState | None = None) -> None:
        """A `penalty` of 1 changes nothing; `grammar` is at its start."""
        self.options, self._penalty, self._grammar = options, penalty, grammar
        self._generator = np.random.PCG64(options.seed)  # its raw stream is the same in every release of numpy
        self._generated: set[int] = set()
        self._suppressed: set[int] = set()  # tokens that would end the reply before options.min_tokens

    @property
    def is_argmax(self) -> bool:
        """Whether the next token is the highest logit, so that a backend may find it on its own device."""
        return self.options.temperature == 0 and self._penalty == 1 and self._grammar is None and not self._suppressed

    def sample(self, logits: Logits) -> int:
        """Return the next token. `logits` is float32 (vocab_size,) and is not written to."""
        if self._penalty != 1:
            logits = self._apply_penalty(logits)
        if self._grammar is not None:
            logits = np.where(self._grammar.allowed_tokens(), logits, np.float32(-np.inf))
        if self._suppressed:
            logits = logits.copy()
            logits[list(self._suppressed)] = -np.inf
        token = int(logits.argmax()) if self.options.temperature == 0 else self._draw(logits)
        self._generated.add(token)
        return token

    def decode(
        self,
        index: int,
        logits: BackendLogits,
        max_tokens: int,
        detokenize: Callable[[int], str | None],
        sample: Callable[[BackendLogits], int],
    ) -> Generator[Piece | int, bool | BackendLogits | None, tuple[FinishReason, int]]:
        """Generate reply number `index`, at most `max_tokens` tokens; return its finish reason and its token count.

        The generator yields a Piece for each bit of text, and is sent whether the reply repeats itself without end:
        True ends it. It yields each token after which it needs the next logits, and is sent those.

        `logits` are those of the first token. `sample` is `self.sample` for logits as the backend holds them.
        `detokenize` returns the text that a token adds: "" while a character is incomplete, None for a token that ends
        the reply and is no part of it. Before options.min_tokens, the next best token replaces one that ends the reply.
        """
        for count in range(1, max_tokens + 1):
            token = sample(logits)
            while (text := detokenize(token)) is None and count <= self.options.min_tokens:
                self._suppressed.add(token)
                token = sample(logits)
            self._generated -= self._suppressed
            self._suppressed.clear()
            if text is None:
                return "stop", count - 1
            is_complete = self._grammar is not None and self._grammar.accept_token(token)
            is_looping = bool(text) and (yield Piece(index, text))
            if is_complete or is_looping:
                return "stop" if is_complete else "repetition", count
            if count < max_tokens:
                logits = cast(BackendLogits, (yield token))
        return "length", max_tokens

    def _apply_penalty(self, logits: Logits) -> Logits:
        """CTRL's penalty as in transformers, without the prompt's tokens: OCR and answers copy words of the prompt."""
        logits = logits.copy()
        tokens = list(self._generated)
        logits[tokens] *= np.where(logits[tokens] > 0, np.float32(1 / self._penalty), np.float32(self._penalty))
        return logits

    def _draw(self, logits: Logits) -> int:
        """Add noise and take the highest, which draws each token with its probability (the Gumbel-max trick).

        Each token has noise of its own, so logits that differ in the last digits, as those of two backends, draw the
        same token except for near ties. A draw from cumulative probabilities would differ far more often.
        """
        scaled = logits.astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the highest to minus infinity
            scaled = (scaled - scaled.max()) / self.options.temperature
        uniform = ((self._generator.random_raw(len(scaled)) >> np.uint64(11)) + 0.5) * 2.0**-53  # never 0, never 1
        kept = np.arange(len(scaled)) if self.options.top_p == 1 else _nucleus(np.exp(scaled), self.options.top_p)
        return int(kept[(scaled[kept] - np.log(-np.log(uniform[kept]))).argmax()])


def run_decoding(
    decoding: Generator[Piece | int, bool | BackendLogits | None, Result],
    compute_logits: Callable[[int], BackendLogits],
) -> Generator[Piece, bool, Result]:
    """Yield the pieces of Sampler.decode; get the logits after each token from `compute_logits`.

    For a backend that evaluates one sequence at a time.
    """
    value: bool | BackendLogits | None = None
    try:
        while True:
            item = decoding.send(value)
            value = compute_logits(item) if isinstance(item, int) else (yield item)
    except StopIteration as end:
        result: Result = end.value
        return result


def sampler_factory(options: Generate, load_tokenizer: Callable[[], LLTokenizer]) -> Callable[[float], Sampler]:
    """Return a function that makes the sampler of one attempt at a reply, given its penalty.

    `load_tokenizer` returns the model's tokenizer as grammar.py makes it; it is called only if there is a schema.
    Raises UnavailableError if llguidance is not installed, UsageError if the schema cannot be enforced.
    """
    if options.schema is None:
        return lambda penalty: Sampler(options, penalty)
    grammar_class = registry.load(registry.ON_DEMAND, "--schema")
    grammar = grammar_class(load_tokenizer(), options.schema)
    return lambda penalty: Sampler(options, penalty, grammar.start())


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Return the fewest most likely tokens whose weights sum to at least `top_p` of the total; at least one."""
    total = weights.sum()
    likely = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))  # the others sum to less than 1 - top_p
    order = likely[np.argsort(-weights[likely], kind="stable")]
    return order[: np.searchsorted(np.cumsum(weights[order]), top_p * total, side="left") + 1]
