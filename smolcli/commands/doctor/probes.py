"""What `smolcli doctor` has native libraries do, each in a child process of its own: a crash there is an answer too."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from typing import Any

from smolcli.errors import EngineError
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.process.worker_main import resolve
from smolcli.types import Frame, Prompt

SIDE = 64  # pixels of the picture


def answers(place: str, files: ModelFiles, options: Model) -> dict[str, Any]:
    """Has the backend at `place` say a word about a white picture.

    Gives what it computes on and with; of PyTorch the GPUs that it sees, of llama.cpp what is with its AMX path.
    """
    white = Frame(b"\xff" * (SIDE * SIDE * 3), SIDE, SIDE)
    with closing(resolve(place)(files, options)) as backend:
        for piece in backend.generate([Prompt.user(white, "Describe this image.")], Generate(max_tokens=1)):
            if piece.finish is not None and piece.finish.fault is not None:
                raise EngineError(piece.finish.fault.message)
        if backend.name == "torch":
            return {"computes": backend.computes, "gpus": _gpus()}
        from smolcli.backends.llamacpp import amx_probe

        tried = {True: "used", False: "crashes", None: "untried"}[amx_probe.verdict()]
        return {"computes": backend.computes, "amx": tried if amx_probe.is_there() else "left out"}


def loads(module: str) -> None:
    """Imports a library, and so its native half."""
    import_module(module)


def precision(module: str) -> str:
    """The --dtype that auto is for a vision engine on this CPU."""
    name: str = import_module(module).auto_dtype()
    return name


def _gpus() -> list[dict[str, Any]]:
    """The devices that PyTorch would compute on, beside the CPU; memory in bytes."""
    import torch

    if torch.cuda.is_available():
        seen = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        return [{"device": f"cuda:{n}", "name": one.name, "memory": one.total_memory} for n, one in enumerate(seen)]
    if torch.backends.mps.is_available():
        return [{"device": "mps", "name": "Apple", "memory": torch.mps.recommended_max_memory()}]
    return []
