"""Encoders of pictures as their tests call them: one of `registry.VISION` by its name, and mtmd's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli import registry
from smolcli.backends.llamacpp import LlamaCpp
from smolcli.backends.mtmd import layout_of
from smolcli.backends.vision import Language
from smolcli.models import ModelFiles
from smolcli.options import Model

ENGINES = tuple(name for name in registry.VISION if name != "mtmd")
MTMD = Model(model="nano", threads=1, vision_engine="mtmd")
WIDTH = 64  # an embedding of a tiny model


def exact(engine: str) -> Model:
    return Model(model="nano", threads=1, device="cpu", dtype="float32", vision_engine=engine)


def noise(seed: int, side: int) -> bytes:
    return np.random.default_rng(seed).bytes(3 * side * side)


def encoder(mmproj: Path, options: Model, width: int = WIDTH) -> Any:
    made = registry.load(registry.VISION, options.vision_engine)
    return made(mmproj, layout_of(mmproj), Language(lambda: None, width), options)


def encoded(mmproj: Path, tiles: Sequence[bytes], options: Model, width: int = WIDTH) -> NDArray[np.float32]:
    with closing(encoder(mmproj, options, width)) as vision:
        return np.stack(vision.encode(tiles))


def by_mtmd(files: ModelFiles, tiles: Sequence[bytes]) -> NDArray[np.float32]:
    with closing(LlamaCpp(files, MTMD)) as backend:
        return np.stack(backend._vision.encode(tiles))


def cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> list[float]:
    """One a tile."""
    a, b = (each.reshape(len(each), -1).astype(np.float64) for each in (ours, theirs))
    return list((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
