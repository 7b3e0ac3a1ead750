"""A backend whose replies are written by hand, for tests of the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.errors import EngineError
from smolcli.generation.replies import ReplyCollector
from smolcli.models.files import ModelFiles
from smolcli.types import ModelLimits, Piece, Prompt, Reply

if TYPE_CHECKING:
    from llguidance import LLTokenizer

VOCAB_SIZE = 1000
STOP = 0
Script = Callable[[str, int], Iterable[str]]  # of the prompt's word and the attempt, from 0: the texts of the tokens


def repeat_by_length(word: str, attempt: int) -> list[str]:
    """Reply with the word as often as it has letters."""
    return [word] * len(word)


def first_word(prompt: Prompt) -> str:
    return str(prompt.turns[0].parts[0])


def to_prompts(words: Iterable[str]) -> list[Prompt]:
    return [Prompt.user(word) for word in words]


class ScriptedBackend:
    """Replies with the texts of `script`, one a token, each with the probability `probability`, and then stops.

    `log` has what the scheduler asked for, in order: ("prefill", words, upcoming words) and ("decode", sequences).
    A prompt is its word; `lengths` are the tokens of those that have not 5, `image_tokens` those of their pictures.
    """

    name = device_summary = "scripted"
    stop_tokens = frozenset({STOP})

    def __init__(
        self, script: Script = repeat_by_length, max_sequences: int = 1, context_length: int = 100_000
    ) -> None:
        self._script, self.max_sequences, self.context_length = script, max_sequences, context_length
        self.probability = 0.999
        self.lengths: dict[str, int] = {}
        self.image_tokens: dict[str, int] = {}
        self.failing_prefills: set[str] = set()  # words
        self.failing_decodes: set[int] = set()  # sequences
        self.lost: set[int] = set()  # sequences
        self.has_memory: Callable[[int], bool] = lambda running: True  # for one more beside so many
        self.log: list[tuple[object, ...]] = []
        self.running: dict[int, list[int]] = {}  # of each sequence the tokens that are still to come
        self._texts = [""]  # by token
        self._words: dict[int, str] = {}  # by the length of the prompt's tokens
        self._attempts: dict[int, int] = {}  # of each sequence

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        return ModelLimits(1000, 64, 1)

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        word = first_word(prompt)
        return PreparedPrompt((word.encode(),), self.lengths.get(word, 5), self.image_tokens.get(word, 0))

    def fits(self, lengths: Sequence[int]) -> int:
        running, count = len(self.running), 0
        while count < len(lengths) and self.has_memory(running + count):
            count += 1
        return count if running else max(1, count)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        words = [word_of(request.prompt) for request in requests]
        self.log.append(("prefill", words, [word_of(prompt) for prompt in upcoming]))
        for request in requests:
            assert request.sequence not in self.running, "released before it is prefilled again"
        if self.failing_prefills & set(words):
            raise EngineError("cannot begin")
        for request, word in zip(requests, words, strict=True):
            [_, *chosen] = request.prompt.parts  # the tokens of a sequence that goes on after it was preempted
            attempt = self._attempts[request.sequence] = self._attempts.get(request.sequence, -1) + (not chosen)
            tokens = [*map(self._token, self._script(word, attempt)), STOP]
            for token in chosen[0] if chosen else ():
                assert tokens.pop(0) == token, "the tokens that were chosen come back"
            self.running[request.sequence] = tokens
        assert len(self.running) <= self.max_sequences
        return PrefillResult({request.sequence: self._logits(request.sequence) for request in requests})

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        self.log.append(("decode", *tokens))
        if self.failing_decodes & set(tokens):
            raise EngineError("cannot go on")
        for sequence, token in tokens.items():
            assert self.running[sequence].pop(0) == token, "the token that was chosen comes back"
        return {sequence: self._logits(sequence) for sequence in tokens if sequence not in self.lost}

    def release(self, sequence: int) -> None:
        self.running.pop(sequence, None)

    def detokenizer(self) -> Callable[[int], str]:
        return self._texts.__getitem__

    def grammar_tokenizer(self) -> LLTokenizer | None:
        return None

    def clear_cache(self) -> None:
        pass

    def gpu_peak(self) -> int:
        return 0

    def close(self) -> None:
        pass

    def decode_steps(self) -> list[tuple[object, ...]]:
        """The sequences that were decoded together, of each step."""
        return [entry[1:] for entry in self.log if entry[0] == "decode"]

    def prefills(self) -> list[object]:
        """The words that were prefilled together, of each call."""
        return [entry[1] for entry in self.log if entry[0] == "prefill"]

    def _token(self, text: str) -> int:
        if text not in self._texts[1:]:
            self._texts.append(text)
        return self._texts.index(text, 1)

    def _logits(self, sequence: int) -> Logits:
        """The next token has its probability, and the others share the rest."""
        logits = np.full(VOCAB_SIZE, np.log((1 - self.probability) / (VOCAB_SIZE - 1)), np.float32)
        logits[self.running[sequence][0]] = np.log(self.probability)
        return logits + np.float32(9)  # a constant changes no probability


def word_of(prompt: PreparedPrompt) -> str:
    return prompt.tiles[0].decode()


def collect(pieces: Iterable[Piece]) -> tuple[list[Piece], dict[int, Reply]]:
    """All pieces, and the replies by their index."""
    collector, replies = ReplyCollector(), {}
    kept = []
    for piece in pieces:
        kept.append(piece)
        if reply := collector.add(piece):
            replies[piece.index] = reply
    return kept, replies
