"""A backend without a model: it answers with what it was asked. For dry runs and tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smolcli.backends.base import one_at_a_time
from smolcli.models import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Finish, Frame, Piece, Prompt, Tokens


class Echo:
    """Says the last turn back, pictures as `[640x480]`, a word a piece, at most max_tokens words."""

    name = "echo"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        self.files = files

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        return one_at_a_time(prompts, lambda index, prompt: self._reply(index, prompt, options))

    def _reply(self, index: int, prompt: Prompt, options: Generate) -> Iterator[Piece]:
        words = self.words(prompt)
        said = words[: options.max_tokens]
        for number, word in enumerate(said):
            yield Piece(index, f" {word}" if number else word)
        tokens = Tokens(prompt=len(words), image=len(prompt.frames), new=len(said))
        yield Piece(index, "", Finish("stop" if len(said) == len(words) else "length", tokens))

    @staticmethod
    def words(prompt: Prompt) -> list[str]:
        """What would be said, word by word."""
        parts = (f"[{p.width}x{p.height}]" if isinstance(p, Frame) else p for p in prompt.turns[-1].parts)
        return " ".join(parts).split()

    def close(self) -> None:
        """Nothing to free."""
