"""The tokens of a llama_model: text to ids, ids to bytes, and which of them end a reply."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import llama_cpp as llama

from smolcli.models.chat_template import DOCTAG, is_markup
from smolcli.models.gguf_header import Header
from smolcli.models.tokenizer import configured_stops, stop_tokens

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer

NORMAL_TOKEN = 1  # enum llama_token_type


class LlamaVocabulary:
    """The vocabulary of a llama_model, whose GGUF has the header `header`.

    `stop_tokens` are the same as on every backend if the model `is_own`, of smolcli's own family, and those of
    llama.cpp for any other.
    """

    def __init__(self, model: Any, header: Header, is_own: bool) -> None:
        self._vocab = llama.llama_model_get_vocab(model)
        self.size = int(llama.llama_vocab_n_tokens(self._vocab))
        self._writes_doctags = self.has_token(DOCTAG)
        if is_own:
            self.stop_tokens = stop_tokens(self.token_id, configured_stops(header.keys), self.size)
        else:
            self.stop_tokens = self._llama_stop_tokens(header)

    @property
    def adds_start(self) -> bool:
        """Whether llama.cpp puts the start token before a text."""
        return bool(llama.llama_vocab_get_add_bos(self._vocab))

    @property
    def start(self) -> str:
        """The text of the start token (BOS); empty if there is none."""
        return self._text(llama.llama_vocab_bos(self._vocab))

    @property
    def end(self) -> str:
        """The text of the end token (EOS); empty if there is none."""
        return self._text(llama.llama_vocab_eos(self._vocab))

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text, in which special tokens are recognized."""
        encoded = text.encode()
        buffer = (ctypes.c_int32 * (len(encoded) + 1))()
        count = llama.llama_tokenize(self._vocab, encoded, len(encoded), buffer, len(buffer), False, True)
        if count < 0:
            raise RuntimeError(f"llama_tokenize wants {-count} tokens")
        return buffer[:count]

    def token_id(self, token: str) -> int | None:
        """Return the id of a token by its text; None if no token has it."""
        ids = self.tokenize(token)
        return ids[0] if len(ids) == 1 else None

    def has_token(self, token: str) -> bool:
        """Whether a text is a token of its own."""
        return self.token_id(token) is not None

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token as a part of a reply; those of chat_template.hidden_tokens are none."""
        if self._writes_doctags and llama.llama_vocab_get_attr(self._vocab, token) & llama.LLAMA_TOKEN_ATTR_CONTROL:
            text = self._text(token)
            return text.encode() if is_markup(text) else b""
        buffer = ctypes.create_string_buffer(64)
        count = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[:count]

    def detokenizer(self) -> Callable[[int], str]:
        """Return a function for one reply, as Backend.detokenizer does."""
        decoder = Utf8Decoder()
        return lambda token: decoder.add(self.token_bytes(token))

    @cached_property
    def grammar_tokenizer(self) -> LLTokenizer:
        """The tokenizer with which llguidance enforces a schema."""
        from smolcli.generation.grammar import tokenizer_from_llama_vocab

        return tokenizer_from_llama_vocab(self._vocab, self.size, self.stop_tokens)

    def _text(self, token: int) -> str:
        return llama.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace") if token >= 0 else ""

    def _llama_stop_tokens(self, header: Header) -> frozenset[int]:
        """The tokens that end a generation for llama.cpp, which takes names like <reponame> for some too.

        llama.cpp is not asked about normal tokens: the call for each of 49,280 takes 20 ms in all.
        """
        types = header.keys.get("tokenizer.ggml.token_type") or [None] * self.size
        special = [token for token, kind in enumerate(types) if kind != NORMAL_TOKEN]
        ends = (int(llama.llama_vocab_eos(self._vocab)), int(llama.llama_vocab_eot(self._vocab)))
        return frozenset(
            token for token in (*special, *ends) if token >= 0 and llama.llama_vocab_is_eog(self._vocab, token)
        )


class Utf8Decoder:
    """Decodes the bytes of tokens as characters become complete, by the rule of tokenizers' DecodeStream."""

    def __init__(self) -> None:
        self._pending = b""

    def add(self, token_bytes: bytes) -> str:
        """Return the text that is complete; "" while a character is incomplete."""
        self._pending += token_bytes
        text = self._pending.decode("utf-8", "replace")
        if text.endswith("\ufffd"):
            return ""
        self._pending = b""
        return text
