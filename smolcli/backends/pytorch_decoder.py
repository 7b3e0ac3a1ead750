"""The language half of a model in PyTorch: many sequences over a static KV cache, without a wait for the device.

transformers loads the weights; its own forward pass is not used, since it grows the cache by a copy in every layer and
step, and has one length for all sequences. Here each sequence has a row of a cache that stays where it is in memory, so
that sequences of any lengths take a step together, and that a CUDA graph of a step can be replayed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from smolcli.backends.pytorch_quantization import Quantize
from smolcli.backends.pytorch_sampler import DRAW_SETTINGS
from smolcli.errors import ModelError


class Layer(NamedTuple):
    """The weights of a layer; matrices that read the same input are one: fewer and larger products."""

    attention_norm: Tensor
    queries_keys_values: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_and_up: Tensor
    down: Tensor


class Cache:
    """The keys and values of `rows` sequences of at most `columns - 1` tokens, and what the next step reads.

    `keys` and `values` are (layers, rows * columns, kv_heads, head_dim). `tokens` and `positions`, both int64 (rows,),
    are the next token of each row and its column. The last column belongs to no sequence: a row without one points to
    it, and so writes where nobody reads. `draws`, float64 (DRAW_SETTINGS, rows), say how its token is drawn; None
    where the device has no float64.
    """

    def __init__(self, decoder: Decoder, rows: int, columns: int, can_draw: bool = False) -> None:
        like: dict[str, Any] = {"device": decoder.embeddings.device}
        shape = len(decoder.layers), rows * columns, decoder.kv_heads, decoder.head_dim
        self.rows, self.columns = rows, columns
        self.keys, self.values = (torch.zeros(shape, dtype=decoder.embeddings.dtype, **like) for _ in range(2))
        self.tokens = torch.zeros(rows, dtype=torch.long, **like)
        self.positions = torch.full((rows,), columns - 1, dtype=torch.long, **like)
        self.draws = torch.ones(DRAW_SETTINGS, rows, dtype=torch.double, **like) if can_draw else None
        self.starts = torch.arange(rows, **like) * columns
        self.column_numbers = torch.arange(columns, **like)

    def copy_from(self, other: Cache) -> None:
        """Take over the rows of a cache that has no more rows and columns than this one, but for its last column."""
        for ours, theirs in ((self.keys, other.keys), (self.values, other.values)):
            size = len(ours), -1, *ours.shape[2:]
            by_row = ours.view(len(ours), self.rows, self.columns, *size[2:])
            of_row = theirs.view(len(theirs), other.rows, other.columns, *size[2:])
            by_row[:, : other.rows, : other.columns - 1] = of_row[:, :, :-1]

    def clear(self, rows: Tensor, column: int) -> None:
        """Zero these rows, int64, from a column on: a mask does not keep what is not finite out of a sum."""
        for tensor in (self.keys, self.values):
            tensor.view(len(tensor), self.rows, self.columns, *tensor.shape[2:])[:, rows, column:] = 0

    def rows_of(self, tensor: Tensor, rows: int, span: int) -> Tensor:
        """The first `span` columns of the first `rows` rows, of the keys or values of a layer, as attention takes them.

        A view of shape (rows, kv_heads, span, head_dim).
        """
        return tensor.view(self.rows, self.columns, *tensor.shape[1:])[:rows, :span].transpose(1, 2)


class Decoder:
    """A Llama model, as every language half of the family is."""

    def __init__(self, model: Any, layers: list[Layer]) -> None:
        """Take the weights out of transformers' model, which `take_layers` has taken the layers out of.

        Raises ModelError for a setting that no published model has.
        """
        text, config = model.model.text_model, model.config.text_config
        if config.attention_bias or getattr(config, "mlp_bias", False) or config.hidden_act != "silu":
            raise ModelError("the language model has biases or an activation other than silu", "torch cannot run it")
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self._epsilon, self.layers = config.head_dim, config.rms_norm_eps, layers
        self.embeddings, self._norm, self._head = text.embed_tokens.weight, text.norm.weight, model.lm_head.weight
        self.vocab_size = len(self._head)
        positions = torch.arange(config.max_position_embeddings, device=self.embeddings.device)
        cos, sin = text.rotary_emb(self.embeddings[:1], positions[None])  # (1, positions, head_dim)
        half = self.head_dim // 2
        self._cos, self._sin = cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)

    @property
    def token_bytes(self) -> int:
        """The bytes of the cache for one token."""
        return int(2 * len(self.layers) * self.kv_heads * self.head_dim * self.embeddings.element_size())

    def step(self, cache: Cache, rows: int, span: int) -> Tensor:
        """Evaluate `cache.tokens` of the first `rows` rows; their positions are less than `span`, or the last column.

        Returns the logits after each: float32 (rows, vocab_size). Nothing is read back from the device, and every
        tensor that is read or written stays where it is from step to step.
        """
        positions = cache.positions[:rows]
        hidden = F.embedding(cache.tokens[:rows], self.embeddings)
        cos, sin = self._turns(positions.clamp(max=len(self._cos) - 1))  # (rows, 1, head_dim)
        places = cache.starts[:rows] + positions
        is_seen = (cache.column_numbers[:span] <= positions[:, None])[:, None, None]  # (rows, 1, 1, span)
        for number, layer in enumerate(self.layers):
            queries, keys, values = self._attention_inputs(hidden, layer, cos, sin)
            layer_keys, layer_values = cache.keys[number], cache.values[number]
            layer_keys.index_copy_(0, places, keys)
            layer_values.index_copy_(0, places, values)
            # The heads of a group share keys: they are given as that many queries of one head.
            attended = F.scaled_dot_product_attention(
                queries.view(rows, self.kv_heads, -1, self.head_dim),
                cache.rows_of(layer_keys, rows, span),
                cache.rows_of(layer_values, rows, span),
                attn_mask=is_seen,
            )
            hidden = self._finish_layer(hidden, attended.reshape(rows, -1), layer)
        return self.logits(hidden)

    def prefill(self, embeddings: Tensor, places: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Evaluate whole prompts, padded on the right, and write their keys and values into the cache if there is one.

        `embeddings` are (prompts, longest, hidden); `places` int64 (prompts * longest,) are the places of the tokens in
        a layer of the cache. Returns the hidden state of every token: (prompts, longest, hidden). Attention is causal,
        so that no token sees the padding.
        """
        hidden, group = embeddings, self.heads // self.kv_heads
        cos, sin = self._turns(slice(embeddings.shape[1]))  # (longest, 1, head_dim)
        for number, layer in enumerate(self.layers):
            queries, keys, values = self._attention_inputs(hidden, layer, cos, sin)
            if cache is not None and places is not None:
                cache.keys[number].index_copy_(0, places, keys.flatten(0, 1))
                cache.values[number].index_copy_(0, places, values.flatten(0, 1))
            attended = F.scaled_dot_product_attention(
                queries.transpose(1, 2),
                keys.repeat_interleave(group, 2).transpose(1, 2),
                values.repeat_interleave(group, 2).transpose(1, 2),
                is_causal=True,
            )
            hidden = self._finish_layer(hidden, attended.transpose(1, 2).flatten(2), layer)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits after hidden states (..., hidden): float32 (..., vocab_size)."""
        return F.linear(self._normalize(hidden, self._norm), self._head).float()

    def _turns(self, positions: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angles by which queries and keys at these positions are turned: (..., 1, head_dim)."""
        return self._cos[positions].unsqueeze(-2), self._sin[positions].unsqueeze(-2)

    def _normalize(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(hidden, hidden.shape[-1:], weight, self._epsilon)

    def _attention_inputs(self, hidden: Tensor, layer: Layer, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values: (..., heads or kv_heads, head_dim). The first two are turned by their position."""
        joined = F.linear(self._normalize(hidden, layer.attention_norm), layer.queries_keys_values)
        by_head = joined.view(*hidden.shape[:-1], -1, self.head_dim)
        turned, values = torch.split(by_head, [self.heads + self.kv_heads, self.kv_heads], -2)
        first, second = turned.chunk(2, -1)
        turned = torch.addcmul(turned * cos, torch.cat([second, first], -1), sin)
        queries, keys = torch.split(turned, [self.heads, self.kv_heads], -2)
        return queries, keys, values

    def _finish_layer(self, hidden: Tensor, attended: Tensor, layer: Layer) -> Tensor:
        hidden = hidden + F.linear(attended, layer.out)
        gate, up = F.linear(self._normalize(hidden, layer.mlp_norm), layer.gate_and_up).chunk(2, -1)
        return hidden + F.linear(F.silu(gate) * up, layer.down)


def take_layers(model: Any, device: torch.device, quantize: Quantize) -> list[Layer]:
    """Take the layers out of transformers' model, to `device`, one after another, with their matrices quantized.

    So neither memory holds a matrix twice, and the device never holds the model unquantized. The model, without its
    layers, cannot be used afterwards.
    """
    layers = model.model.text_model.layers
    return [_take_layer(layers, number, device, quantize) for number in range(len(layers))]


def _take_layer(layers: Any, number: int, device: torch.device, quantize: Quantize) -> Layer:
    layer, layers[number] = layers[number].to(device), torch.nn.Identity()
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        layer.input_layernorm.weight,
        quantize(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])),
        quantize(attention.o_proj.weight),
        layer.post_attention_layernorm.weight,
        quantize(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])),
        quantize(mlp.down_proj.weight),
    )
