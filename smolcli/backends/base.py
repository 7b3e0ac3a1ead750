"""The seam between smolcli and whatever runs a model.

    with closing(Backend(files, model_options)) as backend:
        prompts = [Prompt.user(frame, "What is this?"), Prompt.user(frame, "How many?")]
        for piece in backend.generate(prompts, Generate(max_tokens=20)):
            print(piece.index, piece.text, piece.finish)

A backend streams both ways: it takes the next prompt when it has a free slot, or to prepare it while it is at work on
another, and hands out each piece as soon as it is made; replies may interleave. `index` counts the prompts in the
order taken. A prompt that cannot be answered ends in a piece whose finish has a fault; it never raises for one prompt
what would cost the others.

The first piece of an index, which may be empty, comes when work on that prompt begins, before its pictures are
encoded: it is how the caller knows what is being worked on. A prompt taken ahead has none until then.

The iterable may give None: nothing is ready before a reply under way is finished, or nothing is ready yet. A backend
with replies under way goes on with them and asks again; it is never given None while it has none.

A reply that repeats itself without end (repetition.py) is stopped and tried once more with a penalty on what it has
said. What was shown cannot be taken back, so its finish has the whole text; its account is of both attempts. A reply
whose length is given (options.has_length) may repeat itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from smolcli.models.files import ModelFiles
from smolcli.options import Generate
from smolcli.types import ModelLimits, Piece, Prompt


class Backend(Protocol):
    """What a backend offers; its constructor takes `(files: ModelFiles, options: Model)`."""

    name: str
    computes: str  # on what and with what, for people

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """What a model takes, from the heads of its files. Raises ModelError."""
        ...

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        """Answer every prompt; see the module's text for the order of things. `options.schema` is as
        schema.canonical makes it.

        Raises ModelError where the model cannot be loaded, EngineError where the engine cannot be kept running,
        UsageError where the schema cannot be enforced.
        """
        ...

    def forget(self) -> None:
        """Let go of the encoded pictures that are kept: the next one costs all its time, whatever was seen before."""
        ...

    def gpu_peak(self) -> int:
        """The most bytes of GPU memory that were taken at a time; 0 where none is used."""
        ...

    def close(self) -> None:
        """Free the model, after every iterator of `generate` is closed; the backend is of no use afterwards."""
        ...
