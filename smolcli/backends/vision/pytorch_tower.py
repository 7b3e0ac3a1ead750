"""The vision tower and the connector in PyTorch: tiles to embeddings, whatever file the weights are from.

Nothing in it waits for the device. Positions are added as they are stored, since transformers computes position ids
from fractions, which rounding makes differ between devices where a tile has 27 patches a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

WeightAndBias = tuple[Tensor, Tensor]


class Layer(NamedTuple):
    """The parameters of a transformer layer."""

    attention_norm: WeightAndBias
    projections: list[WeightAndBias]  # to queries, keys and values
    out: WeightAndBias
    feed_forward_norm: WeightAndBias
    up: WeightAndBias
    down: WeightAndBias


@dataclass(frozen=True)
class Tower:
    """A vision tower: layers in the dtype of their weights; norms, patches and residual sums in float32.

    `mean` and `deviation` float32 (3,) are of colors of 0 to 1. `filters` float32 (hidden, 3, patch, patch) and `bias`
    make patches, `positions` float32 (patches, hidden) is added to them. `scale` patches a side become a token, which
    `projector` (hidden of the language model, hidden * scale**2) projects.
    """

    mean: Tensor
    deviation: Tensor
    filters: Tensor
    bias: Tensor
    positions: Tensor
    layers: list[Layer]
    last_norm: WeightAndBias
    projector: Tensor
    heads: int
    scale: int
    epsilon: float

    def __call__(self, tiles: Tensor) -> Tensor:
        """Encode uint8 (tiles, side, side, 3) to float32 (tiles, tokens, hidden of the language model)."""
        value = self._embed_patches(tiles)
        for layer in self.layers:
            value = value + self._attention(self._normalize(value, layer.attention_norm), layer)
            inner = F.gelu(F.linear(self._normalize(value, layer.feed_forward_norm), *layer.up), approximate="tanh")
            value = value + F.linear(inner, *layer.down)
        return self._project(self._normalize(value, self.last_norm))

    def _embed_patches(self, tiles: Tensor) -> Tensor:
        """Turn pixels into the embeddings of patches: (tiles, patches, hidden)."""
        pixels = (tiles.float() / 255 - self.mean) / self.deviation
        value = F.conv2d(pixels.permute(0, 3, 1, 2), self.filters, self.bias, stride=self.filters.shape[-1])
        return value.flatten(2).transpose(1, 2) + self.positions

    def _attention(self, value: Tensor, layer: Layer) -> Tensor:
        by_head = (*value.shape[:2], self.heads, -1)
        queries, keys, values = (
            F.linear(value, *projection).view(by_head).transpose(1, 2) for projection in layer.projections
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return F.linear(mixed.transpose(1, 2).flatten(2), *layer.out)

    def _project(self, value: Tensor) -> Tensor:
        """Merge scale x scale patches into one token (the pixel shuffle), and project tokens to the language half."""
        hidden = value.shape[-1]
        along = round(value.shape[1] ** 0.5) // self.scale
        value = value.view(-1, along, self.scale, along, self.scale * hidden).transpose(2, 3)
        return F.linear(value.flatten(3).flatten(1, 2), self.projector).float()

    def _normalize(self, value: Tensor, norm: WeightAndBias) -> Tensor:
        return F.layer_norm(value, value.shape[-1:], *norm, self.epsilon).to(self.projector.dtype)
