"""The choice of the vision encoder of the llama.cpp backend."""

from __future__ import annotations

from smolcli.backends.llamacpp import build
from smolcli.registry import VISION_ENCODERS, installed, require

# Bytes of a vision half. A smaller one has encoded some pictures with mtmd before another encoder is loaded.
MIN_BYTES_FOR_LOADED_ENCODER = 2**25


def choose_vision_encoder(name: str, dtype: str, size: int = 0, device: str = "auto") -> str:
    """Return the vision encoder to use for `--vision-engine NAME`, `--dtype DTYPE` and `--device DEVICE`.

    `auto` is the fastest that is installed. For a vision half of few bytes (`size`) it is mtmd, which needs no library
    but llama.cpp, and on a GPU too, which mtmd alone uses; not if a `dtype` is given, which mtmd does not take, and
    another is installed. Raises UnavailableError if the library of the encoder is not installed.
    """
    if name == "auto":
        is_fast_enough = size < MIN_BYTES_FOR_LOADED_ENCODER or build.may_use_gpu(device, size)
        is_worth_loading = dtype != "auto" or not is_fast_enough
        name = next(
            candidate
            for candidate, entry in VISION_ENCODERS.items()
            if not entry.needs or (is_worth_loading and installed(entry))
        )
    return require(VISION_ENCODERS, name)
