"""The seam between smolcli and whatever runs a model.

    with closing(Backend(files, model_options)) as backend:
        prompts = [Prompt.user(frame, "What is this?"), Prompt.user(frame, "How many?")]
        for piece in backend.generate(prompts, Generate(max_tokens=20)):
            print(piece.index, piece.text, piece.finish)

A backend streams both ways: it takes the next prompt when it has a free slot, and hands out each
piece as soon as it is made; replies may interleave. `index` counts the prompts in the order taken.
A prompt that cannot be answered ends in a piece whose finish has a fault; it never raises for one
prompt what would cost the others.

The iterable may give None: nothing is ready before a reply under way is finished. A backend with
replies under way goes on with them and asks again; it is never given None while it has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from smolcli.errors import SmolError
from smolcli.options import Generate
from smolcli.types import Fault, Piece, Prompt


class Backend(Protocol):
    """What a backend offers; its constructor takes `(files: ModelFiles, options: Model)`."""

    name: str

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        """Answer every prompt; see the module's text for the order of things."""
        ...

    def close(self) -> None:
        """Free the model; the backend is of no use afterwards."""
        ...


def fault_of(error: Exception) -> Fault:
    """What an exception that cost one reply is to the user."""
    if isinstance(error, SmolError):
        return Fault(error.kind, str(error))
    if isinstance(error, MemoryError):
        return Fault("memory", "the engine is out of memory; use a smaller model or --detail low")
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return Fault("engine", f"the engine failed on it ({what[:300]}); run it alone with -v and report it")
