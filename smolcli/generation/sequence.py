"""One reply on its way: the state of its sequence, and the one or two attempts at its text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from smolcli.backends.base import Logits, PrefillRequest, PreparedPrompt, Scores
from smolcli.errors import EngineError
from smolcli.generation.repetition import RepetitionGuard
from smolcli.generation.sampler import GrammarState, Sampler
from smolcli.types import Fault, Finish, FinishReason, Seconds, Tokens


class State(Enum):
    """Where a sequence is.

    It moves down this list; for a second attempt, and where memory is short, it goes back to WAITING.
    """

    WAITING = "its prompt is prepared, and it has no slot yet"
    PREFILLING = "its prompt is being evaluated in a slot"
    RUNNING = "it gets one token a step"
    FINISHED = "its reply has ended, and its slot is free"


@dataclass
class Attempt:
    """The text of a reply as it grows, at most `max_tokens` tokens.

    With `may_repeat` it is not stopped for repeating itself.
    """

    sampler: Sampler
    detokenize: Callable[[int], str]
    stop_tokens: frozenset[int]
    max_tokens: int
    may_repeat: bool
    grammar: GrammarState | None = None
    tokens: list[int] = field(default_factory=list)  # without the stop token
    reason: FinishReason | None = None  # why it has ended
    guard: RepetitionGuard = field(default_factory=RepetitionGuard)
    line_log_probabilities: list[list[float]] = field(
        default_factory=lambda: [[]]
    )  # of the chosen tokens, line by line

    def add_token(self, logits: Logits | Scores) -> str:
        """Choose the next token; return the text that it adds, which may be empty.

        Afterwards `reason` says whether the attempt has ended. Raises EngineError for logits that are not finite, and
        where the grammar gives up.
        """
        scores = logits if isinstance(logits, Scores) else Scores.of(logits)
        if not math.isfinite(scores.highest):
            raise EngineError("the model computed numbers that are not finite", "try --dtype float32, or another model")
        token = self._choose_token(scores)
        self.line_log_probabilities[-1].append(scores.log_probability(token))
        if token in self.stop_tokens:
            self.reason = "stop"
            return ""
        self.tokens.append(token)
        text = self.detokenize(token)
        self.line_log_probabilities += [[] for _ in range(text.count("\n"))]
        is_looping = self.guard.add(text) and not self.may_repeat
        if self.grammar is not None and self.grammar.accept_token(token):
            self.reason = "stop"  # the object is complete, so it cannot repeat itself
        elif is_looping:
            self.reason = "repetition"
        elif len(self.tokens) == self.max_tokens:
            self.guard.check()
            self.reason = "length"
        return text

    def _choose_token(self, scores: Scores) -> int:
        if self.sampler.takes_likeliest(scores.likeliest, self.tokens):
            return scores.likeliest
        if scores.drawn is None or self.sampler.draw is None:  # a backend draws for each row of a step, or for none
            return self.sampler.sample(scores.fetch(), self.tokens)
        return scores.drawn[0]

    @property
    def has_looped(self) -> bool:
        """Whether it has ended because it repeats itself, or was cut by max_tokens while it did."""
        return self.reason in ("repetition", "length") and not self.may_repeat and self.guard.cut is not None

    @property
    def text_without_loop(self) -> str:
        """The text up to where its loop is cut off."""
        return self.guard.text[: self.guard.cut]

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the probabilities of the chosen tokens, or None before the first one."""
        chosen = [probability for line in self.line_log_probabilities for probability in line]
        return math.exp(math.fsum(chosen) / len(chosen)) if chosen else None

    @property
    def line_confidences(self) -> tuple[float, ...]:
        """The same for each line of the text; 1 for a line without tokens."""
        return tuple(math.exp(math.fsum(line) / len(line)) if line else 1.0 for line in self.line_log_probabilities)


@dataclass(eq=False)
class Sequence:
    """The reply to prompt number `index`.

    A first attempt that has ended in a loop is kept in `looped` while the prompt is tried once more.
    """

    index: int
    prompt: PreparedPrompt
    attempt: Attempt
    seconds: Seconds  # until its first token, of both attempts
    decode_seconds: float = 0.0  # of the tokens after it, of both attempts
    state: State = State.WAITING
    looped: Attempt | None = None

    @property
    def prefill_request(self) -> PrefillRequest:
        """The request for a slot; a sequence that lost its slot has tokens of its reply already."""
        prompt, draw, tokens = self.prompt, self.attempt.sampler.draw, tuple(self.attempt.tokens)
        max_length = prompt.length + self.attempt.max_tokens
        if tokens:
            prompt = replace(prompt, parts=(*prompt.parts, tokens), length=prompt.length + len(tokens))
            draw = None if draw is None else replace(draw, step=len(tokens))
        return PrefillRequest(self.index, prompt, max_length, draw)

    def retry(self, attempt: Attempt) -> None:
        """Begin a second attempt: it is WAITING for a slot again."""
        self.looped, self.attempt, self.state = self.attempt, attempt, State.WAITING

    def finish(self, fault: Fault | None = None) -> Finish:
        """End the reply, with a fault if there is one: it is FINISHED. Its tokens are those of both attempts."""
        self.state = State.FINISHED
        attempts = [self.attempt] if self.looped is None else [self.looped, self.attempt]
        new = sum(len(attempt.tokens) for attempt in attempts)
        tokens = Tokens(self.prompt.length * len(attempts), self.prompt.image_tokens * len(attempts), new)
        seconds = self.seconds + Seconds(decode=self.decode_seconds)
        if fault is not None:
            return Finish("error", tokens, seconds, fault)
        reason: FinishReason
        assert self.attempt.reason is not None
        if self.looped is None:
            reason, text, attempt = self.attempt.reason, None, self.attempt
        elif not self.attempt.has_looped:
            reason, text, attempt = self.attempt.reason, self.attempt.guard.text, self.attempt
        else:  # readers have seen the first attempt
            reason, text, attempt = "repetition", self.looped.text_without_loop, self.looped
        return Finish(reason, tokens, seconds, None, text, attempt.confidence, attempt.line_confidences)


def share_prefill_seconds(group: list[Sequence], encode: float, prefill: float) -> None:
    """Add the seconds of a group that was prefilled together: encoding by image tokens, the rest by all tokens."""
    image_tokens = sum(sequence.prompt.image_tokens for sequence in group)
    length = sum(sequence.prompt.length for sequence in group)
    for sequence in group:
        image_share = sequence.prompt.image_tokens / image_tokens if image_tokens else 1 / len(group)
        sequence.seconds += Seconds(
            encode=encode * image_share, prefill=prefill * sequence.prompt.length / max(1, length)
        )
