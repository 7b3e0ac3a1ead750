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

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from smolcli.errors import SmolError
from smolcli.options import Generate
from smolcli.types import Fault, Finish, Piece, Prompt


class Backend(Protocol):
    """What a backend offers; its constructor takes `(files: ModelFiles, options: Model)`."""

    name: str

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        """Answer every prompt; see the module's text for the order of things.

        Raises ModelError where the model cannot be loaded, EngineError where the engine cannot be kept running.
        """
        ...

    def close(self) -> None:
        """Free the model; the backend is of no use afterwards."""
        ...


def one_at_a_time(prompts: Iterable[Prompt | None], reply: Callable[[int, Prompt], Iterator[Piece]]) -> Iterator[Piece]:
    """`generate` of a backend with one slot; `reply` makes the pieces of one prompt, and may raise anything."""
    for index, prompt in enumerate(prompts):
        if prompt is None:
            raise RuntimeError("None was given while no reply was under way")
        try:
            yield from reply(index, prompt)
        except Exception as error:  # one prompt's failure costs that prompt alone
            yield Piece(index, "", Finish("error", fault=_fault(error)))


def too_long(tokens: int, context: int) -> Fault:
    """For a prompt of `tokens` tokens and a model whose context holds `context`."""
    message = f"the prompt has {tokens} tokens, the model's context holds {context}; use --detail low"
    return Fault("too-long", message)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says so: Python's, PyTorch's on a GPU (a class) or on a CPU (a RuntimeError)."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _fault(error: Exception) -> Fault:
    if isinstance(error, SmolError):
        return Fault(error.kind, str(error))
    if is_out_of_memory(error):
        return Fault("memory", "the engine is out of memory; use a smaller model or --detail low")
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return Fault("engine", f"the engine failed on it ({what[:300]}); run it alone with -v and report it")
