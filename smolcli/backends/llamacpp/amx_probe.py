"""Finds out whether llama.cpp's extra buffer types may be used, by a probe in a child process; caches the verdict.

    params.use_extra_bufts = amx_probe.is_safe()

GCC before 14 miscompiles llama.cpp's AMX code: it drops the stores to the tile configuration (GCC 12.2 does so unless
-fno-tree-dse -fno-dse are given; llama.cpp pull request 26954), and the first product of several tokens crashes. One
cannot see whether a library was compiled that way, only try: the probe evaluates some tokens of the built-in model with
and without the extra buffer types, one of which is AMX's. If it crashes, hangs or gives other numbers, they are not
used. Nothing is tried on a CPU without AMX, or with a library built without it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from smolcli.models.files import BUILT_IN
from smolcli.system.cpu import cpu_features, cpu_info
from smolcli.system.disk_cache import cache_folder, store

PROBE = "import sys; sys.path[:] = {path!r}; from smolcli.backends.llamacpp import amx_probe; amx_probe.probe()"
TIMEOUT = 60.0  # seconds; the probe takes one or two, and more on a busy machine
OUT_OF_MEMORY_SIGNALS = (signal.SIGKILL, signal.SIGABRT)  # the kernel's, and that of a failed allocation
MAX_VERDICTS = 64  # in the cache, which many kinds of machine may share
EXIT_SAME, EXIT_DIFFERENT = 4, 3  # exit codes of the probe; 0 could come from a process that was ended in another way
VERDICTS = {b"safe\n": True, b"not safe\n": False}
FILE_TYPES = (  # quantizations that AMX has kernels for
    llama.LLAMA_FTYPE_MOSTLY_Q8_0,
    llama.LLAMA_FTYPE_MOSTLY_Q4_0,
    llama.LLAMA_FTYPE_MOSTLY_Q4_1,
    llama.LLAMA_FTYPE_MOSTLY_Q4_K_M,  # with some of Q6_K
    llama.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    llama.LLAMA_FTYPE_MOSTLY_IQ4_XS,
)
# Tokens of each evaluation: more than the 16 rows of one AMX tile and the 32 of two, and as few as stand between two
# pictures.
BATCHES = (40, 2, 1)
MIN_COSINE = 0.999  # of the logits of two evaluations, which round activations to 8 bits in different ways


def is_supported() -> bool:
    """Return whether the CPU has AMX and llama.cpp is built with its kernels."""
    return "amx_tile" in cpu_features() and _is_built_with_amx()


def is_safe() -> bool:
    """Return whether llama.cpp is known to compute the same with its extra buffer types as without."""
    return verdict() is True


def verdict() -> bool | None:
    """Return whether the extra buffer types are safe, from the cache or from a probe; None if that is unknown."""
    if not is_supported():
        return True
    key = repr((_libraries(), cpu_info().get("model name"), sorted(cpu_features()), FILE_TYPES, BATCHES, MIN_COSINE))
    path = cache_folder("amx") / hashlib.sha256(key.encode()).hexdigest()
    with suppress(OSError, KeyError):
        return VERDICTS[path.read_bytes()]
    if (result := _run_probe()) is not None:
        with suppress(OSError):
            store(path, [text for text, value in VERDICTS.items() if value is result], MAX_VERDICTS)
    return result


@lru_cache
def _is_built_with_amx() -> bool:
    system_info: bytes = llama.llama_print_system_info()
    return b"AMX_INT8 = 1" in system_info


def _libraries() -> list[tuple[str, int, int]]:
    """Name, size in bytes and modification time of the loaded libllama and of ggml's libraries beside it."""
    loaded = Path(llama.llama_cpp._lib._name)
    stats = [(path.name, path.stat()) for path in sorted({loaded, *loaded.parent.glob("*ggml*")})]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _run_probe() -> bool | None:
    """Run the probe in a child process; None if it could not tell, which counts as unsafe but is not cached."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE.format(path=sys.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):  # a timeout is more likely a busy machine than a hang
        return None
    if done.returncode < 0 and -done.returncode not in OUT_OF_MEMORY_SIGNALS:
        return False
    return {EXIT_SAME: True, EXIT_DIFFERENT: False}.get(done.returncode)


# ---- the child -----------------------------------------------------------------------------------


def probe() -> None:
    """Try every file type, and exit with EXIT_SAME or EXIT_DIFFERENT."""
    _prevent_leftovers()
    path = Path(f"/proc/self/fd/{os.memfd_create('probe')}")
    for file_type in FILE_TYPES:
        quantize(BUILT_IN / "nano-F16.gguf", path, file_type)
        if not is_close(compute_logits(path, extra_buffers=False), compute_logits(path, extra_buffers=True)):
            sys.exit(EXIT_DIFFERENT)
    sys.exit(EXIT_SAME)


def _prevent_leftovers() -> None:
    """Write no core file in a crash, and end this process when its parent ends."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE, for systems that pipe core files to a program
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of linux/prctl.h


def quantize(source: Path, target: Path, file_type: int) -> None:
    """Quantize a GGUF file to a type of enum llama_ftype. Raises RuntimeError."""
    params = llama.llama_model_quantize_default_params()
    params.ftype = file_type
    if llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)) != 0:
        raise RuntimeError("the probe's model could not be quantized")


def compute_logits(path: Path, extra_buffers: bool) -> NDArray[np.float32]:
    """Return the logits after each token of BATCHES: float32 (tokens, vocab_size). Raises MemoryError, RuntimeError."""
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = extra_buffers
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        raise MemoryError("the probe's model could not be loaded")
    vocab_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    settings = llama.llama_context_default_params()
    settings.n_ctx = 256
    settings.n_threads = settings.n_threads_batch = 2  # each thread configures AMX for itself
    context = llama.llama_init_from_model(model, settings)
    if context is None:
        raise MemoryError("the probe's context could not be made")
    logits, position = [], 0
    for count in BATCHES:
        batch = llama.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for row in range(count):
            batch.token[row] = (position + row) * 7 % vocab_size
            batch.pos[row] = position + row
            batch.n_seq_id[row] = batch.logits[row] = 1
            batch.seq_id[row][0] = 0
        if llama.llama_decode(context, batch) != 0:
            raise RuntimeError("the probe's tokens could not be evaluated")
        pointer: Any = llama.llama_get_logits(context)
        logits.append(np.ctypeslib.as_array(pointer, (count, vocab_size)).copy())
        llama.llama_batch_free(batch)
        position += count
    llama.llama_free(context)
    llama.llama_model_free(model)
    return np.concatenate(logits)


def is_close(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Return whether each token's logits, a row of each array, have a cosine above MIN_COSINE; NaNs have not."""
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return bool((cosines > MIN_COSINE).all())


def machine_facts() -> dict[str, str]:
    """Return whether llama.cpp uses AMX, for doctor, as "amx": used, crashes, untried or left out (of the build)."""
    if not is_supported():
        return {"amx": "left out"}
    return {"amx": {True: "used", False: "crashes", None: "untried"}[verdict()]}
