"""Loads the language half of a GGUF pair into llama.cpp, and keeps llama.cpp's own messages off the terminal."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import llama_cpp as llama
from llama_cpp import mtmd_cpp as mtmd

from smolcli.backends.llamacpp import amx_probe, devices
from smolcli.backends.llamacpp.devices import Device
from smolcli.errors import ModelError
from smolcli.models.gguf_header import Header
from smolcli.process.worker_main import is_verbose

GGML_WARN, GGML_ERROR = 3, 4  # enum ggml_log_level


def quiet_logs() -> None:
    """Have llama.cpp and mtmd write their warnings and errors to standard error with -v, and nothing without."""
    llama.llama_log_set(_log_callback, ctypes.c_void_p(0))
    mtmd.mtmd_helper_log_set(_log_callback, ctypes.c_void_p(0))  # mtmd's own too


def check_is_language_half(path: Path, header: Header) -> None:
    """Raise ModelError if the GGUF at `path`, whose header is given, is a vision half."""
    if header.keys.get("general.architecture") == "clip":
        raise ModelError(f"{path} is the vision half of a model", "give the language half with -m, this with --mmproj")


def load_model(path: Path, gpu: Device | None) -> Any:
    """Load the llama_model of a language half, all its layers on `gpu` if there is one. Raises ModelError."""
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0 if gpu is None else -1
    chosen = devices.model_devices(gpu)
    params.devices = ctypes.cast(chosen, ctypes.c_void_p)
    params.use_extra_bufts = gpu is None and amx_probe.is_safe()
    if params.use_extra_bufts and amx_probe.is_supported():
        # llama.cpp repacks matrices for AMX: a mapped file would be in memory beside the copies.
        params.load_mode = llama.LLAMA_LOAD_MODE_NONE
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if model is None and gpu is not None:
        raise ModelError(f"{path} cannot be loaded by llama.cpp on {gpu}", "use --device cpu; -v shows what it says")
    if model is None:
        raise ModelError(f"{path} cannot be loaded by llama.cpp", "fetch or convert it again; -v shows what it says")
    return model


def _log(level: int, text: bytes, _: object) -> None:
    """Write a warning or an error, with -v only.

    Without -v, a harmless warning would be the engine's last words when it crashes. The hundreds of lines of
    information are for llama.cpp's developers.
    """
    if level in (GGML_WARN, GGML_ERROR) and is_verbose():
        sys.stderr.write(text.decode("utf-8", "replace"))


_log_callback = llama.llama_log_callback(_log)  # referenced here for as long as llama.cpp may call it
