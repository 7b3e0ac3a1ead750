"""The seam between the models and everything that uses them: what a backend computes.

A backend opens a model's files and evaluates sequences of tokens. It does not know what a reply is:
generation/scheduler.py decides which prompts are evaluated together, chooses the tokens, ends and retries replies, and
counts their tokens and seconds, for all backends alike.

    backend = Echo(ModelFiles("echo"), Model())
    prompt = backend.prepare(Prompt.user("Hello there"))                    # in any thread
    logits = backend.prefill([PrefillRequest(7, prompt, 20)], []).logits[7]  # sequence 7 now has a slot
    logits = backend.decode({7: int(logits.argmax())})[7]                   # one more token for each sequence
    backend.release(7)

The constructor takes `(files: ModelFiles, options: Model)` and raises ModelError if the model cannot be loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from smolcli.models.files import ModelFiles
from smolcli.types import ModelLimits, Prompt

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer

Logits = NDArray[np.float32]  # (vocab_size,)


@dataclass(frozen=True)
class Scores:
    """The logits after a sequence, of which a reply mostly needs three numbers; the others may stay on a device.

    `likeliest` is the first token of the highest logit, and that of a NaN where there is one. `log_sum` is the natural
    logarithm of the sum of exp(logit - highest). `fetch` returns the logits; only before the backend's next call.
    `drawn` is a token that the backend has drawn and its logit, if the sequence has a Draw and the backend can.
    """

    likeliest: int
    highest: float
    log_sum: float
    fetch: Callable[[], Logits]
    drawn: tuple[int, float] | None = None

    @classmethod
    def of(cls, logits: Logits) -> Scores:
        """Return those of an array, summed in float64."""
        likeliest = int(logits.argmax())
        highest = logits[likeliest]
        if not math.isfinite(highest):
            return cls(likeliest, float(highest), math.nan, lambda: logits)
        above = logits - highest
        log_sum = math.log(np.add.reduce(np.exp(above, out=above), dtype=np.float64))
        return cls(likeliest, float(highest), log_sum, lambda: logits)

    def log_probability(self, token: int) -> float:
        """Return the natural logarithm of the probability of `token`.

        >>> scores = Scores.of(np.log(np.float32([0.5, 1.5])))
        >>> [round(math.exp(scores.log_probability(token)), 6) for token in (0, 1)]
        [0.25, 0.75]
        """
        if token == self.likeliest:
            logit = self.highest
        elif self.drawn is not None and token == self.drawn[0]:
            logit = self.drawn[1]
        else:
            logit = float(self.fetch()[token])
        return logit - self.highest - self.log_sum


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt as a model takes it: `parts` are token ids of text, and the RGB bytes of one tile each, in order.

    `length` is its number of tokens, `image_tokens` how many of them stand for tiles. `notice` is what the user should
    know of how it was made, mostly nothing.
    """

    parts: tuple[tuple[int, ...] | bytes, ...]
    length: int
    image_tokens: int
    notice: str = ""

    @property
    def tiles(self) -> list[bytes]:
        """The RGB bytes of each tile."""
        return [part for part in self.parts if isinstance(part, bytes)]


@dataclass(frozen=True)
class Draw:
    """How the tokens of a sequence are drawn from its logits: Sampler says what these options do.

    `step` counts the tokens that were drawn before; they are at the end of the prompt.
    """

    temperature: float  # more than 0
    top_p: float
    seed: int
    step: int = 0


@dataclass(frozen=True)
class PrefillRequest:
    """A sequence that is to get a slot: its number, its prompt, and the most tokens it will have with its reply.

    With `draw` a backend may draw its tokens, so that their logits need not leave the device.
    """

    sequence: int
    prompt: PreparedPrompt
    max_length: int
    draw: Draw | None = None


@dataclass(frozen=True)
class PrefillResult:
    """The logits after each prompt, by the number of its sequence, and the seconds that encoding tiles took."""

    logits: Mapping[int, Logits | Scores]
    encode_seconds: float = 0.0


class Backend(Protocol):
    """What runs a model. All methods but `prepare` and `limits` are called from one thread.

    A sequence is named by a number that the caller chooses. Logits are float32 arrays of shape (vocab_size,), or Scores
    where they are on a device. The backend may overwrite them in its next call; the caller does not write to them.
    """

    name: str  # its key in registry.BACKENDS
    device_summary: str  # the device and the settings it computes with, for people, as "cuda, bfloat16"
    context_length: int  # tokens that a sequence may have, prompt and reply together
    stop_tokens: frozenset[int]  # tokens that end a reply and are no part of it

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """Read a model's limits from its configuration or file headers, without loading it.

        Raises ModelError if the files are missing or damaged.
        """
        ...

    @property
    def max_sequences(self) -> int:
        """The number of slots: how many sequences can be evaluated together."""
        ...

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        """Tokenize a prompt and cut its pictures into tiles. Several threads may call it at a time."""
        ...

    def fits(self, lengths: Sequence[int]) -> int:
        """Return how many new sequences, the first of these, have memory beside those that have a slot.

        `lengths` are the most tokens of each. There are slots for all of them. With no other sequence it is at least 1.
        """
        ...

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        """Give each sequence a slot, evaluate its prompt, and return the logits after it.

        `upcoming` are prepared prompts that will be prefilled soon: their tiles may be encoded in the same batch.
        Raises EngineError. Then none of the sequences has a slot; the caller may try them one by one.
        """
        ...

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits | Scores]:
        """Append one token to each sequence of `tokens` and return the logits after it, by sequence.

        A sequence that was lost is missing from the result. Raises EngineError if all are.
        """
        ...

    def release(self, sequence: int) -> None:
        """Free the slot of a sequence, if it has one."""
        ...

    def detokenizer(self) -> Callable[[int], str]:
        """Return a function for one reply: given its tokens in order, it returns the text that each one adds.

        The text is "" while a character is incomplete.
        """
        ...

    def grammar_tokenizer(self) -> LLTokenizer | None:
        """Return the tokenizer with which llguidance enforces a schema; None if the backend is not constrained."""
        ...

    def clear_cache(self) -> None:
        """Free the cached embeddings and KV cache, so that the next prompt is computed in full."""
        ...

    def gpu_peak(self) -> int:
        """Return the peak of GPU memory in bytes; 0 if no GPU is used."""
        ...

    def close(self) -> None:
        """Free the model; the backend cannot be used afterwards."""
        ...
