"""Asks the installed llama.cpp whether it knows the family of a GGUF pair, before anything of it is read or fetched.

    unknown_part("qwen2vl", "qwen2vl_merger")   # ""
    unknown_part("llama", "new_projector")      # "a projector of type new_projector"

llama.cpp has no list of what it knows. It is given files that hold a header alone: a name that it knows gets as far as
the first key that is missing, and one that it does not know is named in what llama.cpp logs.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import llama_cpp as llama
from gguf import GGUFValueType, GGUFWriter
from llama_cpp import mtmd_cpp as mtmd

from smolcli.backends.llamacpp.loading import quiet_logs
from smolcli.errors import UnavailableError
from smolcli.models.family import VISION_ARCHITECTURE
from smolcli.system.temporary import temporary_folder

UNKNOWN_ARCHITECTURE, UNKNOWN_PROJECTOR = "unknown model architecture", "unknown projector type"  # of llama.cpp's log
Keys = Mapping[str, str | bool]


@lru_cache
def unknown_part(architecture: str, projector: str) -> str:
    """Return which part of a pair this llama.cpp does not know, in words for people; "" where it knows both."""
    try:
        with tempfile.TemporaryDirectory(prefix="smolcli-", dir=temporary_folder()) as folder:
            language = _write(Path(folder) / "language", architecture, {})
            vision_keys: Keys = {"clip.has_vision_encoder": True, "clip.projector_type": projector}
            log = _log_of_loading(language, _write(Path(folder) / "vision", VISION_ARCHITECTURE, vision_keys))
    except (OSError, UnavailableError):  # no file can be written; the pair itself will tell
        return ""
    if UNKNOWN_ARCHITECTURE in log:
        return f"an architecture {architecture}"
    return f"a projector of type {projector}" if UNKNOWN_PROJECTOR in log else ""


def _log_of_loading(language: Path, vision: Path) -> str:
    """What llama.cpp logs when it loads two files that hold a header alone, which always fails."""
    lines: list[str] = []
    callback = llama.llama_log_callback(lambda _, text, __: lines.append(text.decode("utf-8", "replace")))
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    mtmd.mtmd_log_set(callback, ctypes.c_void_p(0))
    try:
        model_params = llama.llama_model_default_params()
        model_params.n_gpu_layers, model_params.vocab_only = 0, True
        llama.llama_model_load_from_file(os.fsencode(language), model_params)
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = params.warmup = False
        mtmd.mtmd_init_from_file(os.fsencode(vision), None, params)
    finally:
        quiet_logs()
    return "".join(lines)


def _write(path: Path, architecture: str, keys: Keys) -> Path:
    """Write a GGUF file of keys without tensors."""
    writer = GGUFWriter(path, architecture)
    for key, value in keys.items():
        writer.add_key_value(key, value, GGUFValueType.get_type(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path
