"""A backend without a model: it repeats the prompt. For dry runs and tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smolcli.generation.scheduler import ReplySteps, schedule
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Finish, FinishReason, Frame, ModelLimits, Piece, Prompt, Tokens


class Echo:
    """Replies with the last turn, one word a piece, repeated as often as min_tokens asks.

    A picture of 640 x 480 pixels is the word `[640x480]`; a word counts as a token.
    """

    name = "echo"
    device_summary = "nothing"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        pass

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """Return those of SmolVLM-256M."""
        return ModelLimits(8192, 512, 64)

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        return schedule(
            prompts,
            lambda prompt: (self.reply_words(prompt), len(prompt.frames)),
            lambda index, prepared, _: self._reply(index, prepared, options),
            options.has_length,
        )

    def _reply(self, index: int, prepared: tuple[list[str], int], options: Generate) -> ReplySteps:
        prompt_words, pictures = prepared
        words = prompt_words * (1 + options.min_tokens // max(1, len(prompt_words)))
        new = 0
        reason: FinishReason = "stop" if len(words) <= options.max_tokens else "length"
        for word in words[: options.max_tokens]:
            new += 1
            if (yield Piece(index, word if new == 1 else f" {word}")):
                reason = "repetition"
                break
        yield Piece(index, "", Finish(reason, Tokens(len(prompt_words), pictures, new)))

    @staticmethod
    def reply_words(prompt: Prompt) -> list[str]:
        """Return the words of the reply to `prompt`."""
        parts = (
            f"[{part.width}x{part.height}]" if isinstance(part, Frame) else part for part in prompt.turns[-1].parts
        )
        return " ".join(parts).split()

    def clear_cache(self) -> None:
        """Do nothing: there is no cache."""

    def gpu_peak(self) -> int:
        return 0

    def close(self) -> None:
        """Do nothing: there is no model."""
