"""Encoders of pictures as their tests call them: one of `registry.VISION_ENCODERS` by its name, and mtmd's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli import registry
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.vision.base import LanguageModel, ThreadedEncoder
from smolcli.backends.vision.mtmd import layout_of
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.types import Frame, Prompt

ENGINES = tuple(name for name in registry.VISION_ENCODERS if name != "mtmd")
MTMD = Model(model="nano", threads=1, vision_engine="mtmd")
WIDTH = 64  # an embedding of a tiny model


def exact(engine: str) -> Model:
    return Model(model="nano", threads=1, device="cpu", dtype="float32", vision_engine=engine)


def noise(seed: int, side: int) -> bytes:
    return np.random.default_rng(seed).bytes(3 * side * side)


def encoder(mmproj: Path, options: Model, width: int = WIDTH) -> Any:
    made = registry.load(registry.VISION_ENCODERS, options.vision_engine)
    return made(mmproj, layout_of(mmproj), LanguageModel(lambda: None, width), options)


def apart(mmproj: Path, options: Model, width: int = WIDTH) -> ThreadedEncoder:
    """In a thread of its own: other tests evaluate quantized weights in this one, perhaps with AMX."""
    return ThreadedEncoder(lambda: encoder(mmproj, options, width))


def encoded(mmproj: Path, tiles: Sequence[bytes], options: Model, width: int = WIDTH) -> NDArray[np.float32]:
    with closing(apart(mmproj, options, width)) as vision:
        return np.stack(vision.encode(tiles))


def by_mtmd(files: ModelFiles, tiles: Sequence[bytes]) -> NDArray[np.float32]:
    with closing(LlamaCpp(files, MTMD)) as backend:
        return np.stack(backend._vision.encode(tiles))


def seen_again(gguf: Path, mmproj: Path, engine: str) -> float:
    """How far apart the scores are of one picture before another and after it, in a process that may crash."""
    options = Model(model="nano", threads=2, vision_engine=engine)
    side = layout_of(mmproj).tile
    with closing(LlamaCpp(ModelFiles("x", gguf=gguf, mmproj=mmproj), options)) as backend:
        scores = []
        for seed in (1, 2, 1):
            backend.forget()
            scores.append(backend.logits(Prompt.user(Frame(noise(seed, side), side, side), "What is this?")))
    return float(np.abs(scores[2] - scores[0]).max() / np.abs(scores[1] - scores[0]).max())


def cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> list[float]:
    """One a tile."""
    a, b = (each.reshape(len(each), -1).astype(np.float64) for each in (ours, theirs))
    return list((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
