"""llama.cpp's own quantizer, which mixes types within a file: which types it would choose, and the file itself.

Both functions are for a child process (smolcli.process.child): native code may crash, and says why on its log.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import llama_cpp as llama

from smolcli.errors import ModelError, OutputError
from smolcli.system.disk_space import free_bytes

BUFFER = 64 << 20  # bytes of rows in memory at once
# One line of its log a tensor: the name, what it is, and in brackets what it would be, if that is something else.
_TENSOR = re.compile(r"\] (\S+) +- \[.*?\], type = +(\w+), size = .*?(?:\((\w+)\))?$", re.MULTILINE)
_FALLBACK = re.compile(r"ncols +(\d+) not divisible by +\d+ \(required for type +(\w+)\).*?falling back to +(\w+)")


def chosen(header: Path, file_type: int) -> tuple[dict[str, str], list[tuple[int, int, str, str]]]:
    """The type by tensor that a file of `file_type` (enum llama_ftype) made of `header` would have.

    `header` is a GGUF file of the full length whose tensors may be a hole. Beside the types: how many tensors with
    rows of which length get, instead of which type, which. Raises ModelError where llama.cpp refuses.
    """
    log = _quantize(header, Path(os.devnull), file_type, 1, header, dry_run=True)
    types = {name: new or old for name, old, new in _TENSOR.findall(log)}
    odd = Counter(_FALLBACK.findall(log))
    return types, [(count, int(length), wanted, got) for (length, wanted, got), count in odd.items()]


def quantize(source: Path, target: Path, file_type: int, threads: int, final: Path) -> None:
    """Write `target` of `file_type` (enum llama_ftype) from the GGUF `source`.

    Raises ModelError and OutputError that name `final`, which `target` shall become.
    """
    _quantize(source, target, file_type, threads, final, dry_run=False)


def _quantize(source: Path, target: Path, file_type: int, threads: int, final: Path, dry_run: bool) -> str:
    log: list[str] = []

    def keep(level: int, text: bytes, _: Any) -> None:
        log.append(text.decode("utf-8", "replace"))

    callback = llama.llama_log_callback(keep)
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.dry_run, params.max_buf_size = file_type, threads, dry_run, BUFFER
    code = llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    said = "".join(log)
    if os.environ.get("SMOLCLI_VERBOSE"):
        os.write(2, said.encode())
    if code != 0:
        _raise(target.parent, final, said)
    return said


def _raise(folder: Path, final: Path, said: str) -> None:
    last = said.strip().splitlines()[-1].split("failed to quantize: ")[-1].strip() if said.strip() else "no reason"
    if "iostream" in last or "ios_base" in last or "basic_ios" in last:  # its only word for a write that failed
        why = f" ({os.strerror(errno.ENOSPC)})" if free_bytes(folder) < BUFFER else ""
        raise OutputError(f"{final}: cannot be written{why}", "make room, or choose another directory with -o")
    raise ModelError(f"{final}: llama.cpp cannot quantize it ({last})", "-v shows what it says")
