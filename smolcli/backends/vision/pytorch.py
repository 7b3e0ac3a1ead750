"""The PyTorch vision encoder: the numbers of mtmd on the CPU, faster.

It needs neither transformers nor a checkpoint: the vision tower is built from the tensors of the mmproj file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.image_processor import Layout
from smolcli.backends.vision import siglip
from smolcli.backends.vision.base import Embeddings, LanguageModel
from smolcli.backends.vision.pytorch_tower import Layer, Tower, WeightAndBias
from smolcli.backends.vision.siglip import Matrix, SiglipFile
from smolcli.options import Model
from smolcli.system.cpu import cpu_features, usable_cores

BATCH_SIZE = 2  # tiles; more are no faster, and each takes 60 MB or more while it is encoded
NATIVE_BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # CPU features; without one of them, bfloat16 is slower than float32


class TorchEncoder:
    """A VisionEncoder that encodes several tiles at once."""

    def __init__(self, mmproj: Path, layout: Layout, language: LanguageModel, options: Model) -> None:
        self._layout = layout
        torch.set_num_threads(options.threads or usable_cores())
        file = SiglipFile(mmproj, language.embedding_size)
        dtype = _resolve_dtype(options.dtype)
        self.dtype = str(dtype).removeprefix("torch.")
        with file.name_file_in_errors():
            self._tower: Tower | None = _Reader(file, dtype).tower()
        self._embedding_cache = EmbeddingCache(lambda tiles: self._encode(tiles), BATCH_SIZE)

    def encode(self, tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> list[Embeddings]:
        return self._embedding_cache.get(tiles, upcoming)

    def clear_cache(self) -> None:
        self._embedding_cache.clear()

    def close(self) -> None:
        self._tower = None

    @torch.inference_mode()
    def _encode(self, tiles: Sequence[bytes]) -> Sequence[Embeddings]:
        side = self._layout.tile
        pixels = torch.frombuffer(bytearray(b"".join(tiles)), dtype=torch.uint8).view(len(tiles), side, side, 3)
        assert self._tower is not None, "it is closed"
        try:
            return list(self._tower(pixels).numpy())
        except RuntimeError as error:  # also a failed allocation
            raise siglip.engine_error("PyTorch", "encode a tile", error) from error


class _Reader:
    """Reads a tower whose matrices are of `dtype` from `file`.

    Raises KeyError if a tensor is missing, ValueError if it has another shape than the keys say.
    """

    def __init__(self, file: SiglipFile, dtype: torch.dtype) -> None:
        self._file, self._dtype = file, dtype

    def tower(self) -> Tower:
        file = self._file
        return Tower(
            mean=torch.from_numpy(file.mean),
            deviation=torch.from_numpy(file.deviation),
            filters=self._exact("v.patch_embd.weight", file.hidden, siglip.CHANNELS, file.patch, file.patch),
            bias=self._exact("v.patch_embd.bias", file.hidden),
            positions=self._exact("v.position_embd.weight", file.patches, file.hidden),
            layers=[self._layer(f"v.blk.{number}") for number in range(file.layers)],
            last_norm=self._norm("v.post_ln"),
            projector=self._matrix(file.projector),
            heads=file.heads,
            scale=file.scale,
            epsilon=file.epsilon,
        )

    def _layer(self, block: str) -> Layer:
        *projections, out = map(self._linear, self._file.attention(block))
        up, down = map(self._linear, self._file.feed_forward(block))
        return Layer(self._norm(f"{block}.ln1"), projections, out, self._norm(f"{block}.ln2"), up, down)

    def _linear(self, matrix: Matrix) -> WeightAndBias:
        bias = self._exact(f"{matrix.name}.bias", matrix.outputs)
        return self._matrix(matrix), bias.to(self._dtype)

    def _norm(self, name: str) -> WeightAndBias:
        weight, bias = (self._exact(f"{name}.{part}", self._file.hidden) for part in ("weight", "bias"))
        return weight, bias

    def _matrix(self, matrix: Matrix) -> Tensor:
        """A weight in the dtype of the layers; it stays in the mapped file if it has that type there."""
        data = self._file.weight(matrix)
        if self._file.ggml_type(matrix) == Type.BF16:
            return torch.from_numpy(data.view(np.int16)).view(torch.bfloat16).to(self._dtype)
        return torch.from_numpy(data).to(self._dtype)

    def _exact(self, name: str, *shape: int) -> Tensor:
        return torch.from_numpy(self._file.exact(name, *shape))


def _resolve_dtype(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, auto_dtype() if name == "auto" else name)
    return dtype


def auto_dtype() -> str:
    """Return what --dtype auto is on this CPU: bfloat16 if it computes in it natively, several times as fast."""
    return "bfloat16" if NATIVE_BFLOAT16 & cpu_features() else "float32"
