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

from smolcli.backends.kept import folder, keep
from smolcli.backends.silent_openvino import ov

DIGEST = 32  # bytes of SHA-256, before the model's own
KEPT = 4  # files; each is as large as the weights in what they are computed with


def compiled(
    core: Any, config: Mapping[str, object], make: Callable[[], ov.Model], source: Path, *more: object
) -> tuple[Any, Any]:
    """The compiled model, and what is to live as long as it does.

    `make` makes the model of the file `source`; `more` is all else that decides what it makes. The versions and the
    CPU's abilities are seen to.
    """
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    name = core.get_property("CPU", "FULL_DEVICE_NAME")
    key = repr((_sha256(source), ov.get_version(), name, sorted(able), more))
    place = folder("openvino") / f"{hashlib.sha256(key.encode()).hexdigest()}.blob"
    with suppress(OSError, ValueError, RuntimeError):
        held = np.memmap(place, np.uint8, "r")
        if hashlib.sha256(held[DIGEST:].data).digest() == held[:DIGEST].tobytes():
            model = core.import_model(ov.Tensor(held[DIGEST:]), "CPU", config)
            with suppress(OSError):
                os.utime(place)  # the last that goes
            return model, held
    model = core.compile_model(make(), "CPU", config)
    with suppress(OSError, MemoryError, RuntimeError):  # for a time there are two of it
        blob = model.export_model().getbuffer()
        keep(place, [hashlib.sha256(blob).digest(), blob], KEPT)
    return model, None


def _sha256(path: Path) -> str:
    return hashlib.sha256(np.memmap(path, np.uint8, "r").data).hexdigest()
