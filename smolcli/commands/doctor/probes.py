"""What `smolcli doctor` has native libraries do, each in a child process of its own: a crash there ends only that."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from typing import Any

from smolcli.errors import EngineError
from smolcli.generation.scheduler import generate
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.process.worker_main import resolve
from smolcli.types import Frame, Prompt

SIDE = 64  # pixels of the picture


def answers(target: str, facts_target: str, files: ModelFiles, options: Model) -> dict[str, Any]:
    """Generate one token about a white picture with the backend at `target`.

    Returns what it computes on and with ("computes"), and what the function at `facts_target` tells of the machine, if
    there is one. Raises EngineError where the backend refuses the picture.
    """
    white = Frame(b"\xff" * (SIDE * SIDE * 3), SIDE, SIDE)
    with closing(resolve(target)(files, options)) as backend:
        for piece in generate(backend, [Prompt.user(white, "Describe this image.")], Generate(max_tokens=1)):
            if piece.finish is not None and piece.finish.fault is not None:
                raise EngineError(piece.finish.fault.message)
        return {"computes": backend.device_summary, **(resolve(facts_target)() if facts_target else {})}


def loads(module: str) -> None:
    """Import a library, which loads its native half."""
    import_module(module)


def precision(module: str) -> str:
    """The dtype that --dtype auto means for a vision encoder on this CPU."""
    name: str = import_module(module).auto_dtype()
    return name
