"""A backend without a model: it repeats the prompt. For dry runs and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.types import ModelLimits, Prompt

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer

STOP = 0  # the stop token; every other token is a word
CERTAIN, SECOND = 100.0, 50.0  # logits of the next word, and of the first word where the reply may not end yet


class Echo:
    """Replies with the last turn, one word a token, repeated as often as min_tokens asks.

    A picture of 640 x 480 pixels is the word `[640x480]`. It answers `jobs` prompts at once, 1 by default.
    """

    name = "echo"
    device_summary = "nothing"
    context_length = 2**31  # it reads prompts of any length
    stop_tokens = frozenset({STOP})

    def __init__(self, files: ModelFiles, options: Model) -> None:
        self._jobs = options.jobs or 1
        self._words = ["<stop>"]  # by token: those met so far
        self._tokens: dict[str, int] = {}  # the same the other way
        self._lock = Lock()  # guards both
        self._replies: dict[int, list[int]] = {}  # of each sequence: the tokens to repeat
        self._lengths: dict[int, int] = {}  # how many of them it has repeated

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """Return those of SmolVLM-256M."""
        return ModelLimits(8192, 512, 64)

    @property
    def max_sequences(self) -> int:
        return self._jobs

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        tokens = tuple(map(self._token, self.reply_words(prompt)))
        return PreparedPrompt((tokens,), len(tokens), len(prompt.frames))

    def fits(self, lengths: Sequence[int]) -> int:
        return len(lengths)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        for request in requests:
            self._replies[request.sequence] = [token for part in request.prompt.parts for token in part]
            self._lengths[request.sequence] = 0
        return PrefillResult({request.sequence: self._logits(request.sequence) for request in requests})

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        for sequence in tokens:
            self._lengths[sequence] += 1
        return {sequence: self._logits(sequence) for sequence in tokens}

    def release(self, sequence: int) -> None:
        self._replies.pop(sequence, None)
        self._lengths.pop(sequence, None)

    def detokenizer(self) -> Callable[[int], str]:
        separators = iter([""])
        return lambda token: next(separators, " ") + self._words[token]

    def grammar_tokenizer(self) -> LLTokenizer | None:
        return None

    @staticmethod
    def reply_words(prompt: Prompt) -> list[str]:
        """Return the words of the reply to `prompt`."""
        parts = (part if isinstance(part, str) else f"[{part.width}x{part.height}]" for part in prompt.turns[-1].parts)
        return " ".join(parts).split()

    def _token(self, word: str) -> int:
        with self._lock:
            if word not in self._tokens:
                self._tokens[word] = len(self._words)
                self._words.append(word)
            return self._tokens[word]

    def _logits(self, sequence: int) -> Logits:
        """The next word is certain, or after the last one the stop token, and then the first word again."""
        reply, length = self._replies[sequence], self._lengths[sequence]
        logits = np.zeros(len(self._words), np.float32)
        if reply:
            logits[reply[length % len(reply)]] = SECOND
        is_at_end = not reply or (length and length % len(reply) == 0)
        logits[STOP if is_at_end else reply[length % len(reply)]] = CERTAIN
        return logits

    def clear_cache(self) -> None:
        """Do nothing: there is no cache."""

    def gpu_peak(self) -> int:
        return 0

    def close(self) -> None:
        """Do nothing: there is no model."""
