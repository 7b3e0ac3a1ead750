"""A backend without a model: it answers with what it was asked. For dry runs and tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smolcli.generation.scheduler import Pieces, schedule
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Finish, FinishReason, Frame, ModelLimits, Piece, Prompt, Tokens


class Echo:
    """Says the last turn back, as often as min_tokens asks, pictures as `[640x480]`, a word a piece."""

    name = "echo"
    computes = "nothing"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        pass

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """That of SmolVLM-256M."""
        return ModelLimits(8192, 512, 64)

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        return schedule(
            prompts,
            lambda prompt: (self.words(prompt), len(prompt.frames)),
            lambda index, prepared, _: self._reply(index, prepared, options),
            options.has_length,
        )

    def _reply(self, index: int, prepared: tuple[list[str], int], options: Generate) -> Pieces:
        asked, pictures = prepared
        words = asked * (1 + options.min_tokens // max(1, len(asked)))
        new = 0
        reason: FinishReason = "stop" if len(words) <= options.max_tokens else "length"
        for word in words[: options.max_tokens]:
            new += 1
            if (yield Piece(index, word if new == 1 else f" {word}")):
                reason = "repetition"
                break
        yield Piece(index, "", Finish(reason, Tokens(len(asked), pictures, new)))

    @staticmethod
    def words(prompt: Prompt) -> list[str]:
        """What would be said, word by word."""
        parts = (f"[{p.width}x{p.height}]" if isinstance(p, Frame) else p for p in prompt.turns[-1].parts)
        return " ".join(parts).split()

    def forget(self) -> None:
        """Nothing is kept."""

    def gpu_peak(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to free."""
