"""Compiled OpenVINO models on disk, in $XDG_CACHE_HOME/smolcli: read back where that is sooner than making them again.

A file that is damaged is as none, and a folder that cannot be written to costs only time.
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
from smolcli.system.disk_cache import folder, keep

DIGEST = 64  # hexadecimal digits of SHA-256, before the model's own, which begins with a line of the CPU's cache
KEPT = 4  # files; each is as large as the weights in what they are computed with


def compiled(
    core: Any, config: Mapping[str, object], make: Callable[[], ov.Model], source: Path, *more: object
) -> tuple[Any, np.memmap[Any, Any] | None]:
    """The compiled model, and of one that was read back its mapped file, which is to live as long as it does.

    `make` makes the model of the file `source`; `more` is all else that decides what it makes. The versions and the
    CPU's abilities are seen to.
    """
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    name = core.get_property("CPU", "FULL_DEVICE_NAME")
    key = repr((_digest(np.memmap(source, np.uint8, "r").data), ov.get_version(), name, sorted(able), more))
    place = folder("openvino") / f"{hashlib.sha256(key.encode()).hexdigest()}.blob"
    with suppress(OSError, ValueError, RuntimeError):
        held = np.memmap(place, np.uint8, "c")  # OpenVINO wants to be able to write to it, and never does
        if _digest(held[DIGEST:].data) == held[:DIGEST].tobytes():
            model = core.import_model(ov.Tensor(held[DIGEST:], shared_memory=True), "CPU", config)
            with suppress(OSError):
                os.utime(place)  # the last that goes
            return model, held
    model = core.compile_model(make(), "CPU", config)
    with suppress(OSError, MemoryError, RuntimeError):  # for a time there are two of it
        blob = model.export_model().getbuffer()
        keep(place, [_digest(blob), blob], KEPT)
    return model, None


def _digest(content: memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
