"""The tokenizer with which llguidance enforces a schema, made from one of the library tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer


def grammar_tokenizer(tokenizer: Tokenizer, vocabulary: int, stop_tokens: frozenset[int]) -> LLTokenizer:
    """Make the tokenizer for a model of `vocabulary` tokens. This takes some tenths of a second."""
    from smolcli.generation.grammar import tokenizer_from_json

    return tokenizer_from_json(tokenizer.to_str(), vocabulary, stop_tokens)
