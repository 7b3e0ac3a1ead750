"""A backend whose replies are written by hand, for the engines of the executors' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock

import numpy as np

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.backends.echo import Echo
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.types import ModelLimits, Prompt

STOP, VOCABULARY = 0, 2048
NOTHING = ""  # the text of a token that adds none to the reply


class Replying:
    """Replies with the texts that `reply` yields for a prompt, one a token; it answers `slots` prompts at once."""

    name = "replying"
    device_summary = "nothing"
    context_length = 2**31
    stop_tokens = frozenset({STOP})
    slots = 1
    logit = 100.0  # of each next text; those of the others are 0

    def __init__(self, files: ModelFiles, options: Model) -> None:
        self.files, self.options = files, options
        self.replies: dict[int, Iterator[str]] = {}
        self._texts, self._lock = ["<stop>"], Lock()  # by token, and what guards them

    def reply(self, words: list[str]) -> Iterator[str]:
        """Yield the texts of the reply to a prompt of these words; a picture of 2 x 1 pixels is `[2x1]`."""
        raise NotImplementedError

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        return ModelLimits(8192, 512, 64)

    @property
    def max_sequences(self) -> int:
        return self.slots

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        return PreparedPrompt((tuple(map(self._token, Echo.reply_words(prompt))),), 7, 3)

    def fits(self, lengths: Sequence[int]) -> int:
        return len(lengths)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        for request in requests:
            words = [self._texts[token] for part in request.prompt.parts for token in part]
            self.replies[request.sequence] = self.reply(words)
        return PrefillResult({request.sequence: self._logits(request.sequence) for request in requests})

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        return {sequence: self._logits(sequence) for sequence in tokens}

    def release(self, sequence: int) -> None:
        self.replies.pop(sequence, None)

    def detokenizer(self) -> Callable[[int], str]:
        return lambda token: self._texts[token]

    def grammar_tokenizer(self) -> None:
        return None

    def clear_cache(self) -> None: ...

    def gpu_peak(self) -> int:
        return 0

    def close(self) -> None: ...

    def _token(self, text: str) -> int:
        with self._lock:
            if text not in self._texts:
                self._texts.append(text)
            return self._texts.index(text)

    def _logits(self, sequence: int) -> Logits:
        logits = np.zeros(VOCABULARY, np.float32)
        text = next(self.replies[sequence], None)
        logits[STOP if text is None else self._token(text)] = self.logit
        return logits
