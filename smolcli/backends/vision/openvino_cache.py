"""A cache of compiled OpenVINO models on disk, in $XDG_CACHE_HOME/smolcli.

A damaged file is ignored and replaced; a folder that cannot be written to costs only time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from smolcli.backends.vision.openvino_import import ov
from smolcli.system.disk_cache import cache_folder, store

DIGEST = 64  # bytes: the SHA-256 of the model in hexadecimal digits, which precedes it in the file
MAX_FILES = 4  # each is as large as the weights in the type they are computed in


def compile_or_load(
    core: Any, config: Mapping[str, object], make: Callable[[], ov.Model], source: Path, *key_parts: object
) -> tuple[Any, np.memmap[Any, Any] | None]:
    """Return the compiled model, and, if it was loaded from the cache, its mapped file, which must outlive it.

    `make` makes the model from the file `source`. The key of the cache is made of that file's content, of `key_parts`,
    and of OpenVINO's version and the CPU's capabilities.
    """
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    name = core.get_property("CPU", "FULL_DEVICE_NAME")
    key = repr(
        (_digest(np.memmap(source, np.uint8, "r").data), ov.get_version(), name, sorted(capabilities), key_parts)
    )
    path = cache_folder("openvino") / f"{hashlib.sha256(key.encode()).hexdigest()}.blob"
    with suppress(OSError, ValueError, RuntimeError):
        mapped = np.memmap(path, np.uint8, "c")  # copy on write: OpenVINO asks for writable memory, but never writes
        if _digest(mapped[DIGEST:].data) == mapped[:DIGEST].tobytes():
            model = core.import_model(ov.Tensor(mapped[DIGEST:], shared_memory=True), "CPU", config)
            with suppress(OSError):
                os.utime(path)  # the oldest file is removed first
            return model, mapped
    model = core.compile_model(make(), "CPU", config)
    with suppress(OSError, MemoryError, RuntimeError):  # the blob is a second copy in memory
        blob = model.export_model().getbuffer()
        store(path, [_digest(blob), blob], MAX_FILES)
    return model, None


def _digest(content: memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
