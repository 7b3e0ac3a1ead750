"""llama.cpp's own quantizer, which mixes types within a file: the types that it would choose, and the file itself.

Call both functions in a child process (smolcli.process.child), because native code may crash.
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
# One line of its log a tensor: the name, the type, and in parentheses the new type if it is another one.
_TENSOR = re.compile(r"\] (\S+) +- \[.*?\], type = +(\w+), size = .*?(?:\((\w+)\))?$", re.MULTILINE)
_FALLBACK = re.compile(r"ncols +(\d+) not divisible by +\d+ \(required for type +(\w+)\).*?falling back to +(\w+)")


def choose_types(header: Path, file_type: int) -> tuple[dict[str, str], list[tuple[int, int, str, str]]]:
    """Return the types of the tensors in a file of `file_type` (enum llama_ftype) made of `header`, and the fallbacks.

    `header` is a GGUF file of the full length; its tensors are not read and may be a hole. The types are by tensor
    name; a fallback is (number of tensors, length of their rows, type wanted, type used). Raises ModelError if
    llama.cpp refuses.
    """
    log = _quantize(header, Path(os.devnull), file_type, 1, header, dry_run=True)
    types = {name: new or old for name, old, new in _TENSOR.findall(log)}
    fallbacks = Counter(_FALLBACK.findall(log))
    return types, [(count, int(length), wanted, got) for (length, wanted, got), count in fallbacks.items()]


def quantize(source: Path, part: Path, file_type: int, threads: int, target: Path) -> None:
    """Write the GGUF file `source` as `file_type` (enum llama_ftype) to `part`, which will be renamed to `target`.

    Raises ModelError or OutputError that names `target`.
    """
    _quantize(source, part, file_type, threads, target, dry_run=False)


def _quantize(source: Path, part: Path, file_type: int, threads: int, target: Path, dry_run: bool) -> str:
    """Run the quantizer and return its log."""
    lines: list[str] = []

    def keep(level: int, text: bytes, _: Any) -> None:
        lines.append(text.decode("utf-8", "replace"))

    callback = llama.llama_log_callback(keep)
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.dry_run, params.max_buf_size = file_type, threads, dry_run, BUFFER
    code = llama.llama_model_quantize(os.fsencode(source), os.fsencode(part), ctypes.byref(params))
    log = "".join(lines)
    if os.environ.get("SMOLCLI_VERBOSE"):
        os.write(2, log.encode())
    if code != 0:
        raise _error(part.parent, target, log)
    return log


def _error(folder: Path, target: Path, log: str) -> ModelError | OutputError:
    last = log.strip().splitlines()[-1].split("failed to quantize: ")[-1].strip() if log.strip() else "no reason"
    if "iostream" in last or "ios_base" in last or "basic_ios" in last:  # all that the log says of a failed write
        reason = f" ({os.strerror(errno.ENOSPC)})" if free_bytes(folder) < BUFFER else ""
        return OutputError(f"{target}: cannot be written{reason}", "make room, or choose another directory with -o")
    return ModelError(f"{target}: llama.cpp cannot quantize it ({last})", "-v shows what it says")
