"""A library that converts a SmolVLM checkpoint to a pair of GGUF files for llama.cpp.

planned = plan(Path("SmolVLM2-256M"), Path("out"), ["f16", "q8_0", "q4_k_m"], ["f16"])
write(planned)
[agreement, *_] = verify(Path("SmolVLM2-256M"), [(planned.language[0].path, planned.vision[0].path)])

llama.cpp's quantizer and the comparison run in child processes, so a script calls them under
`if __name__ == "__main__"`.
"""

from __future__ import annotations

import logging

from smolcli.models.lora import Adapter

from .convert import Output, Plan, convert, plan, write
from .memory_estimate import estimate_run_memory
from .verify import Agreement, check_libraries, verify

logging.getLogger("gguf").setLevel(logging.CRITICAL)  # its warnings about model cards are not for users

__all__ = [
    "Adapter",
    "Agreement",
    "Output",
    "Plan",
    "check_libraries",
    "convert",
    "estimate_run_memory",
    "plan",
    "verify",
    "write",
]  # fmt: skip
