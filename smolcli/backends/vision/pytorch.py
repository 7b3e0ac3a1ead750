"""The PyTorch vision encoder: the numbers of mtmd on the CPU, faster.

It needs neither transformers nor a checkpoint: the vision tower is built from the tensors of the mmproj file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.image_processor import Layout
from smolcli.backends.vision import siglip
from smolcli.backends.vision.base import Embeddings, LanguageModel
from smolcli.backends.vision.siglip import Matrix, SiglipFile
from smolcli.options import Model
from smolcli.system.cpu import cpu_features, usable_cores

BATCH_SIZE = 2  # tiles; more are no faster, and each takes 60 MB or more while it is encoded
NATIVE_BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # CPU features; without one of them, bfloat16 is slower than float32

WeightAndBias = tuple[Tensor, Tensor]


class TorchEncoder:
    """A VisionEncoder that encodes several tiles at once."""

    def __init__(self, mmproj: Path, layout: Layout, language: LanguageModel, options: Model) -> None:
        self._layout = layout
        torch.set_num_threads(options.threads or usable_cores())
        file = SiglipFile(mmproj, language.embedding_size)
        dtype = _resolve_dtype(options.dtype)
        self.dtype = str(dtype).removeprefix("torch.")
        with file.name_file_in_errors():
            self._tower: Tower | None = Tower(file, dtype)
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


class Layer(NamedTuple):
    """The parameters of a transformer layer."""

    attention_norm: WeightAndBias
    projections: list[WeightAndBias]  # to queries, keys and values
    out: WeightAndBias
    feed_forward_norm: WeightAndBias
    up: WeightAndBias
    down: WeightAndBias


class Tower:
    """The vision tower of `file`. Its layers compute in `dtype`; norms, patches and residual sums are float32.

    Raises KeyError if a tensor is missing, ValueError if it has another shape than the keys say.
    """

    def __init__(self, file: SiglipFile, dtype: torch.dtype) -> None:
        self._file, self._dtype = file, dtype
        hidden, patch = file.hidden, file.patch
        self._mean, self._deviation = torch.from_numpy(file.mean), torch.from_numpy(file.deviation)
        self._filters = self._exact("v.patch_embd.weight", hidden, siglip.CHANNELS, patch, patch)
        self._bias = self._exact("v.patch_embd.bias", hidden)
        self._position = self._exact("v.position_embd.weight", file.patches, hidden)
        self._layers = [self._read_layer(f"v.blk.{number}") for number in range(file.layers)]
        self._last_norm = self._norm("v.post_ln")
        self._projector = self._matrix(file.projector)

    def __call__(self, tiles: Tensor) -> Tensor:
        """Encode uint8 (tiles, side, side, 3) to float32 (tiles, tokens, hidden)."""
        value = self._embed_patches(tiles)
        for layer in self._layers:
            value = value + self._attention(self._normalize(value, layer.attention_norm), layer)
            inner = F.gelu(F.linear(self._normalize(value, layer.feed_forward_norm), *layer.up), approximate="tanh")
            value = value + F.linear(inner, *layer.down)
        return self._project(self._normalize(value, self._last_norm))

    def _embed_patches(self, tiles: Tensor) -> Tensor:
        """Turn pixels into the embeddings of patches: (tiles, patches, hidden)."""
        pixels = (tiles.float() / 255 - self._mean) / self._deviation
        value = F.conv2d(pixels.permute(0, 3, 1, 2), self._filters, self._bias, stride=self._file.patch)
        return value.flatten(2).transpose(1, 2) + self._position

    def _attention(self, value: Tensor, layer: Layer) -> Tensor:
        by_head = (*value.shape[:2], self._file.heads, -1)
        queries, keys, values = (
            F.linear(value, *projection).view(by_head).transpose(1, 2) for projection in layer.projections
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return F.linear(mixed.transpose(1, 2).flatten(2), *layer.out)

    def _project(self, value: Tensor) -> Tensor:
        """Merge scale x scale patches into one token (the pixel shuffle), and project tokens to the language half."""
        scale, along = self._file.scale, self._file.patches_along // self._file.scale
        value = value.view(-1, along, scale, along, scale * self._file.hidden).transpose(2, 3)
        return F.linear(value.flatten(3).flatten(1, 2), self._projector).float()

    def _normalize(self, value: Tensor, norm: WeightAndBias) -> Tensor:
        return F.layer_norm(value, (self._file.hidden,), *norm, self._file.epsilon).to(self._dtype)

    def _read_layer(self, block: str) -> Layer:
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
