"""Helpers of the tests of vision encoders: make one by its name in `registry.VISION_ENCODERS`, and run mtmd."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli import registry
from smolcli.backends.gguf_layout import read_layout
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.vision.base import LanguageModel, ThreadedEncoder
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.types import Frame, Prompt

ENCODERS = tuple(name for name in registry.VISION_ENCODERS if name != "mtmd")
MTMD = Model(model="nano", threads=1, vision_encoder="mtmd")
EMBEDDING_SIZE = 64  # of a tiny model


def exact(name: str) -> Model:
    return Model(model="nano", threads=1, device="cpu", dtype="float32", vision_encoder=name)


def noise(seed: int, side: int) -> bytes:
    return np.random.default_rng(seed).bytes(3 * side * side)


def make_encoder(mmproj: Path, options: Model, embedding_size: int = EMBEDDING_SIZE) -> Any:
    encoder_class = registry.load(registry.VISION_ENCODERS, options.vision_encoder)
    return encoder_class(mmproj, read_layout(mmproj), LanguageModel(lambda: None, embedding_size), options)


def make_threaded_encoder(mmproj: Path, options: Model, embedding_size: int = EMBEDDING_SIZE) -> ThreadedEncoder:
    """Make an encoder in a thread of its own: other tests evaluate quantized weights in this one, perhaps with AMX."""
    return ThreadedEncoder(lambda: make_encoder(mmproj, options, embedding_size))


def encode(
    mmproj: Path, tiles: Sequence[bytes], options: Model, embedding_size: int = EMBEDDING_SIZE
) -> NDArray[np.float32]:
    with closing(make_threaded_encoder(mmproj, options, embedding_size)) as vision:
        return np.stack(vision.encode(tiles))


def encode_with_mtmd(files: ModelFiles, tiles: Sequence[bytes]) -> NDArray[np.float32]:
    with closing(LlamaCpp(files, MTMD)) as backend:
        return np.stack(backend._vision.encode(tiles))


def difference_when_repeated(gguf: Path, mmproj: Path, name: str) -> float:
    """Return how much the logits of a picture change after another picture, relative to those of the other.

    To be called in a child process, since llama.cpp may crash.
    """
    options = Model(model="nano", threads=2, vision_encoder=name)
    side = read_layout(mmproj).tile
    with closing(LlamaCpp(ModelFiles("x", gguf=gguf, mmproj=mmproj), options)) as backend:
        logits = []
        for seed in (1, 2, 1):
            backend.clear_cache()
            logits.append(backend.logits(Prompt.user(Frame(noise(seed, side), side, side), "What is this?")))
    return float(np.abs(logits[2] - logits[0]).max() / np.abs(logits[1] - logits[0]).max())


def cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> list[float]:
    """Return the cosine of the embeddings of each tile."""
    a, b = (embeddings.reshape(len(embeddings), -1).astype(np.float64) for embeddings in (ours, theirs))
    return list((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
