"""Replies that are JSON objects of a schema, enforced token by token with llguidance.

    grammar = Grammar(tokenizer_from_json(tokenizer.to_str(), vocab_size, stop_tokens), schema)
    state = grammar.start()
    state.allowed_tokens()      # bool (vocab_size,): the tokens that may come next
    state.accept_token(token)   # True: the object is complete

Both ways to make a tokenizer give the same tokens, so the same schema and logits give the same text on every backend.
There is no white space between values. Where the schema allows a single text, as for property names, the tokens
are those that the tokenizer itself makes of it, which the model knows best.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from smolcli.errors import EngineError, UsageError

if TYPE_CHECKING:
    from llama_cpp import llama_vocab_p


class Grammar:
    """The replies that a schema allows a model to give.

    `schema` is JSON text, as json_schema.canonicalize makes it. Raises UsageError if llguidance cannot enforce it.
    """

    def __init__(self, tokenizer: LLTokenizer, schema: str) -> None:
        try:
            compiled = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
        except ValueError as error:
            raise _cannot_enforce(str(error)) from error
        self._start = LLMatcher(tokenizer, compiled, log_level=0)
        if self._start.is_error():
            raise _cannot_enforce(self._start.get_error())
        self._vocab_size = tokenizer.vocab_size

    def start(self) -> GrammarState:
        """Return the state at the start of a reply."""
        return GrammarState(self._start.deep_copy(), self._vocab_size)


class GrammarState:
    """The state of a grammar after some tokens of a reply."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def allowed_tokens(self) -> NDArray[np.bool_]:
        """Return the tokens that may come next: bool (vocab_size,). Raises EngineError if llguidance gives up."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        return np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)

    def accept_token(self, token: int) -> bool:
        """Continue with an allowed token; return whether the object is then complete.

        Raises EngineError if the token is not allowed.
        """
        self._matcher.consume_token(token)
        self._check()
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            message = self._matcher.get_error().splitlines()[0]
            raise EngineError(f"the schema cannot be followed any further: {message}", "make it simpler")


def tokenizer_from_json(tokenizer_json: str, vocab_size: int, stop_tokens: Iterable[int]) -> LLTokenizer:
    """Make a tokenizer from the text of a tokenizer.json; `vocab_size` is the length of a vector of logits."""
    return LLTokenizer(tokenizer_json, n_vocab=vocab_size, eos_token=sorted(stop_tokens) or None)


def tokenizer_from_llama_vocab(vocab: llama_vocab_p, vocab_size: int, stop_tokens: Iterable[int]) -> LLTokenizer:
    """Make a tokenizer from a llama_vocab, whose model must not be freed before the tokenizer."""
    from llguidance.llamacpp import lltokenizer_from_vocab  # needs llama_cpp, which the PyTorch backend does not

    return lltokenizer_from_vocab(vocab, n_vocab=vocab_size, eos_token=sorted(stop_tokens) or None)


def _cannot_enforce(reason: str) -> UsageError:
    return UsageError(f"the schema cannot be enforced: {reason.splitlines()[0]}", "make it simpler")
