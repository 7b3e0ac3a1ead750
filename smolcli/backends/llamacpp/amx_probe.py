"""Whether llama.cpp's extra buffer types may be used: a probe in a child process, whose verdict is kept on disk.

    params.use_extra_bufts = amx.is_safe()

GCC before 14 miscompiles llama.cpp's AMX path (the stores to the tile configuration are dropped, by GCC 12.2 unless
-fno-tree-dse -fno-dse forbid it; llama.cpp pull request 26954): the first product of several tokens crashes. Whether
a library is such a one cannot be seen, only tried: the probe evaluates some tokens of the built-in model with and
without the extra buffers, of which AMX's is one. A crash, a hang and other numbers all mean that they are not used. On
a CPU without AMX, or with a library that is built without, nothing is tried.
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
from smolcli.system.disk_cache import folder, keep

PROBE = "import sys; sys.path[:] = {path!r}; from smolcli.backends.llamacpp import amx_probe; amx_probe.probe()"
SECONDS = 60.0  # the probe takes one or two, and more on a machine that is busy
WANT_OF_MEMORY = (signal.SIGKILL, signal.SIGABRT)  # how a process ends that the kernel, or an allocation, ends
KEPT = 64  # verdicts, on a disk that many kinds of machine share
SAME, DIFFERS = 4, 3  # exit codes of the probe; 0 is also that of a process of whose end nothing is known
VERDICTS = {b"safe\n": True, b"not safe\n": False}
KINDS = (  # those that AMX has kernels for
    llama.LLAMA_FTYPE_MOSTLY_Q8_0,
    llama.LLAMA_FTYPE_MOSTLY_Q4_0,
    llama.LLAMA_FTYPE_MOSTLY_Q4_1,
    llama.LLAMA_FTYPE_MOSTLY_Q4_K_M,  # with some of Q6_K
    llama.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    llama.LLAMA_FTYPE_MOSTLY_IQ4_XS,
)
# Tokens of one evaluation after another: more than a tile's 16 rows and than two tiles', and as few as are between
# two pictures.
BATCHES = (40, 2, 1)
CLOSE = 0.999  # cosine of two evaluations' logits; activations are rounded to 8 bits in one way or another


def is_there() -> bool:
    """Whether the CPU has AMX, and llama.cpp is built with its kernels."""
    return "amx_tile" in cpu_features() and _is_built()


def is_safe() -> bool:
    """Whether llama.cpp is known to compute with its extra buffer types as it does without."""
    return verdict() is True


def verdict() -> bool | None:
    """The same, None where that could not be found out; known on disk after the first time."""
    if not is_there():
        return True
    key = repr((_libraries(), cpu_info().get("model name"), sorted(cpu_features()), KINDS, BATCHES, CLOSE))
    place = folder("amx") / hashlib.sha256(key.encode()).hexdigest()
    with suppress(OSError, KeyError):
        return VERDICTS[place.read_bytes()]
    if (found := _probed()) is not None:
        with suppress(OSError):
            keep(place, [text for text, value in VERDICTS.items() if value is found], KEPT)
    return found


@lru_cache
def _is_built() -> bool:
    """By what llama.cpp says of how it was compiled."""
    told: bytes = llama.llama_print_system_info()
    return b"AMX_INT8 = 1" in told


def _libraries() -> list[tuple[str, int, int]]:
    """Name, bytes and time of the loaded libllama and of ggml's libraries beside it."""
    loaded = Path(llama.llama_cpp._lib._name)
    stats = [(path.name, path.stat()) for path in sorted({loaded, *loaded.parent.glob("*ggml*")})]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _probed() -> bool | None:
    """What a child finds; None where it could not tell, which is as unsafe but not kept."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE.format(path=sys.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):  # the latter is a busy machine sooner than a hang
        return None
    if done.returncode < 0 and -done.returncode not in WANT_OF_MEMORY:
        return False
    return {SAME: True, DIFFERS: False}.get(done.returncode)


# ---- the child -----------------------------------------------------------------------------------


def probe() -> None:
    """Ends this process as `_probed` reads it."""
    _leave_nothing()
    path = Path(f"/proc/self/fd/{os.memfd_create('probe')}")
    for kind in KINDS:
        _quantize(BUILT_IN / "nano-F16.gguf", path, kind)
        if not alike(logits(path, extra=False), logits(path, extra=True)):
            sys.exit(DIFFERS)
    sys.exit(SAME)


def _leave_nothing() -> None:
    """No core of a crash; and not this process, once the one that waits for it is gone."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE, for systems that pipe cores to a program
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of linux/prctl.h


def _quantize(source: Path, target: Path, kind: int) -> None:
    params = llama.llama_model_quantize_default_params()
    params.ftype = kind
    if llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)) != 0:
        raise RuntimeError("the probe's model could not be quantized")


def logits(path: Path, extra: bool) -> NDArray[np.float32]:
    """float32 (tokens, vocabulary) after each token of BATCHES."""
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = extra
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        raise MemoryError("the probe's model could not be loaded")
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    settings = llama.llama_context_default_params()
    settings.n_ctx = 256
    settings.n_threads = settings.n_threads_batch = 2  # the configuration is each thread's own
    context = llama.llama_init_from_model(model, settings)
    if context is None:
        raise MemoryError("the probe's context could not be made")
    found, position = [], 0
    for count in BATCHES:
        batch = llama.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for n in range(count):
            batch.token[n] = (position + n) * 7 % vocabulary
            batch.pos[n] = position + n
            batch.n_seq_id[n] = batch.logits[n] = 1
            batch.seq_id[n][0] = 0
        if llama.llama_decode(context, batch) != 0:
            raise RuntimeError("the probe's tokens could not be evaluated")
        scores: Any = llama.llama_get_logits(context)
        found.append(np.ctypeslib.as_array(scores, (count, vocabulary)).copy())
        llama.llama_batch_free(batch)
        position += count
    llama.llama_free(context)
    llama.llama_model_free(model)
    return np.concatenate(found)


def alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether each token's logits point the same way; NaNs do not."""
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return bool((cosines > CLOSE).all())
