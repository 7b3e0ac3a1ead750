"""The vision half of a GGUF pair through PyTorch on the CPU: what mtmd gives, sooner.

Neither transformers nor a checkpoint is needed: the tower is made of the file's own tensors.
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
from smolcli.backends.vision.siglip import Matrix, Siglip
from smolcli.options import Model
from smolcli.system.cpu import cpu_features, usable_cores

TILES_AT_ONCE = 2  # more are no faster, and each takes 60 MB or more at work
NATIVE_BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # of one of them; without, bfloat16 is slower than float32

Pair = tuple[Tensor, Tensor]  # a weight and its bias


class TorchEncoder:
    """Encodes tiles several at a time, as backends/vision/base.py says."""

    def __init__(self, mmproj: Path, layout: Layout, language: LanguageModel, options: Model) -> None:
        self._layout = layout
        torch.set_num_threads(options.threads or usable_cores())
        file = Siglip(mmproj, language.embedding)
        dtype = _dtype(options.dtype)
        self.dtype = str(dtype).removeprefix("torch.")
        with file.told():
            self._tower: Tower | None = Tower(file, dtype)
        self._encoded = EmbeddingCache(lambda tiles: self._encode(tiles), TILES_AT_ONCE)

    def encode(self, tiles: Sequence[bytes], next_ones: Iterable[bytes] = ()) -> list[Embeddings]:
        return self._encoded.of(tiles, next_ones)

    def forget(self) -> None:
        self._encoded.clear()

    def close(self) -> None:
        self._tower = None

    @torch.inference_mode()
    def _encode(self, tiles: Sequence[bytes]) -> Sequence[Embeddings]:
        side = self._layout.tile
        pixels = torch.frombuffer(bytearray(b"".join(tiles)), dtype=torch.uint8).view(len(tiles), side, side, 3)
        assert self._tower is not None, "it is closed"
        try:
            return list(self._tower(pixels).numpy())
        except RuntimeError as error:  # an allocation that fails is one too
            raise siglip.failed("PyTorch", "encode a tile", error) from error


class Layer(NamedTuple):
    """A transformer layer: each a weight and its bias."""

    before: Pair
    parts: list[Pair]
    out: Pair
    between: Pair
    up: Pair
    down: Pair


class Tower:
    """The tower of `file`, whose layers compute in `dtype`; norms, patches and sums over layers are float32.

    Called with uint8 (tiles, side, side, 3) it gives float32 (tiles, tokens, embedding). Raises KeyError and ValueError
    where a tensor is missing or has another shape.
    """

    def __init__(self, file: Siglip, dtype: torch.dtype) -> None:
        self._file, self._dtype = file, dtype
        hidden, patch = file.hidden, file.patch
        self._mean, self._deviation = torch.from_numpy(file.mean), torch.from_numpy(file.deviation)
        self._filters = self._exact("v.patch_embd.weight", hidden, siglip.COLOURS, patch, patch)
        self._bias = self._exact("v.patch_embd.bias", hidden)
        self._position = self._exact("v.position_embd.weight", file.patches, hidden)
        self._layers = [self._layer(f"v.blk.{number}") for number in range(file.layers)]
        self._last = self._norm("v.post_ln")
        self._projector = self._matrix(file.projector)

    def __call__(self, tiles: Tensor) -> Tensor:
        value = self._embedded(tiles)
        for layer in self._layers:
            value = value + self._attention(self._normed(value, layer.before), layer)
            inner = F.gelu(F.linear(self._normed(value, layer.between), *layer.up), approximate="tanh")
            value = value + F.linear(inner, *layer.down)
        return self._projected(self._normed(value, self._last))

    def _embedded(self, tiles: Tensor) -> Tensor:
        """Pixels to patches, (tiles, patches, hidden)."""
        pixels = (tiles.float() / 255 - self._mean) / self._deviation
        value = F.conv2d(pixels.permute(0, 3, 1, 2), self._filters, self._bias, stride=self._file.patch)
        return value.flatten(2).transpose(1, 2) + self._position

    def _attention(self, value: Tensor, layer: Layer) -> Tensor:
        apart = (*value.shape[:2], self._file.heads, -1)
        queries, keys, values = (F.linear(value, *part).view(apart).transpose(1, 2) for part in layer.parts)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return F.linear(mixed.transpose(1, 2).flatten(2), *layer.out)

    def _projected(self, value: Tensor) -> Tensor:
        """The pixel shuffle, scale x scale patches to one token, and each token as the language half takes it."""
        scale, squares = self._file.scale, self._file.along // self._file.scale
        value = value.view(-1, squares, scale, squares, scale * self._file.hidden).transpose(2, 3)
        return F.linear(value.flatten(3).flatten(1, 2), self._projector).float()

    def _normed(self, value: Tensor, norm: Pair) -> Tensor:
        return F.layer_norm(value, (self._file.hidden,), *norm, self._file.epsilon).to(self._dtype)

    def _layer(self, block: str) -> Layer:
        *parts, out = map(self._linear, self._file.attention(block))
        up, down = map(self._linear, self._file.feed_forward(block))
        return Layer(self._norm(f"{block}.ln1"), parts, out, self._norm(f"{block}.ln2"), up, down)

    def _linear(self, matrix: Matrix) -> Pair:
        bias = self._exact(f"{matrix.name}.bias", matrix.outputs)
        return self._matrix(matrix), bias.to(self._dtype)

    def _norm(self, name: str) -> Pair:
        weight, bias = (self._exact(f"{name}.{part}", self._file.hidden) for part in ("weight", "bias"))
        return weight, bias

    def _matrix(self, matrix: Matrix) -> Tensor:
        """Where the file has it in that type, it stays in the file."""
        data = self._file.weight(matrix)
        if self._file.kind(matrix) == Type.BF16:
            return torch.from_numpy(data.view(np.int16)).view(torch.bfloat16).to(self._dtype)
        return torch.from_numpy(data).to(self._dtype)

    def _exact(self, name: str, *shape: int) -> Tensor:
        return torch.from_numpy(self._file.exact(name, *shape))


def _dtype(wanted: str) -> torch.dtype:
    """What matrices multiply in: bfloat16 where the CPU does so natively, for it is several times as fast."""
    dtype: torch.dtype = getattr(torch, auto_dtype() if wanted == "auto" else wanted)
    return dtype


def auto_dtype() -> str:
    """What --dtype auto is on this CPU."""
    return "bfloat16" if NATIVE_BFLOAT16 & cpu_features() else "float32"
