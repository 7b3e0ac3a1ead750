"""The faults of prompts that cannot be answered."""

from __future__ import annotations

from smolcli.errors import ErrorKind, SmolError
from smolcli.system.memory import is_out_of_memory
from smolcli.types import Fault


def prompt_too_long(tokens: int, context_length: int) -> Fault:
    """Return the fault of a prompt of `tokens` tokens for a model whose context holds `context_length`.

    Its pictures have one tile each: backends/prompt_preparer.py has cut them into as few as it needs.
    """
    message = (
        f"the prompt has {tokens} tokens, the model's context holds {context_length}; use fewer pictures or fewer words"
    )
    return Fault(ErrorKind.TOO_LONG, message)


def to_fault(error: Exception) -> Fault:
    """Return the fault of a prompt that raised `error`."""
    if isinstance(error, SmolError):
        return Fault(error.kind, str(error))
    if is_out_of_memory(error):
        return Fault(ErrorKind.MEMORY, "the engine is out of memory; use a smaller model, --detail low or -j 1")
    description = " ".join(f"{type(error).__name__}: {error}".split())
    return Fault(ErrorKind.ENGINE, f"the engine failed on it ({description[:300]}); run it alone with -v and report it")
