"""JSON objects of a schema, enforced token by token with llguidance.

    grammar = Grammar(of_tokenizer(tokenizer.to_str(), vocabulary, stops), schema)
    following = grammar.follow()
    following.allowed()     # bool (vocabulary,): the tokens that may come next
    following.take(token)   # True: the object is complete

Both routes to a tokenizer give the same tokens, so the same schema and scores give the same text on every backend.
Between values there is no white space. Where the schema leaves one text, as in the names of properties, the tokens
are those that the tokenizer itself makes of it, which the model knows best.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from smolcli.errors import EngineError, UsageError


class Grammar:
    """What one schema allows one model to say.

    `schema` is JSON text, as schema.canonical makes it. Raises UsageError for one that llguidance cannot enforce.
    """

    def __init__(self, tokenizer: LLTokenizer, schema: str) -> None:
        try:
            compiled = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
        except ValueError as error:
            raise _refused(str(error)) from error
        self._start = LLMatcher(tokenizer, compiled, log_level=0)
        if self._start.is_error():
            raise _refused(self._start.get_error())
        self._size = tokenizer.vocab_size

    def follow(self) -> GrammarState:
        """The grammar at its beginning, for one reply."""
        return GrammarState(self._start.deep_copy(), self._size)


class GrammarState:
    """A place in a grammar, moved on token by token."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self._matcher, self._size = matcher, size

    def allowed(self) -> NDArray[np.bool_]:
        """bool (vocabulary,): the tokens that may come next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        return np.unpackbits(bits, count=self._size, bitorder="little").view(np.bool_)

    def take(self, token: int) -> bool:
        """Goes on with an allowed token; whether the object is then complete."""
        self._matcher.consume_token(token)
        self._check()
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            what = self._matcher.get_error().splitlines()[0]
            raise EngineError(f"the schema cannot be followed any further: {what}", "make it simpler")


def of_tokenizer(json: str, vocabulary: int, stops: Iterable[int]) -> LLTokenizer:
    """From the text of a tokenizer.json; `vocabulary` is the length of a vector of scores."""
    return LLTokenizer(json, n_vocab=vocabulary, eos_token=sorted(stops) or None)


def of_gguf(vocab: Any, vocabulary: int, stops: Iterable[int]) -> LLTokenizer:
    """From a llama_vocab, which must outlive it."""
    from llguidance.llamacpp import lltokenizer_from_vocab  # needs llama_cpp, which PyTorch's route does without

    return lltokenizer_from_vocab(vocab, n_vocab=vocabulary, eos_token=sorted(stops) or None)


def _refused(why: str) -> UsageError:
    return UsageError(f"the schema cannot be enforced: {why.splitlines()[0]}", "make it simpler")
