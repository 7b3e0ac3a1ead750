"""The SmolVLM family: the sizes of a model, and the name of each tensor in a checkpoint and in GGUF.

Checkpoints of Idefics3 (SmolVLM) and SmolVLM (SmolVLM2) have the same names of tensors, in transformers 4 and 5: a
Llama language model under `model.text_model`, a SigLIP vision encoder under `model.vision_model` and between them one
matrix, the connector. The names in GGUF are those of llama.cpp's architectures `llama` and `clip`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli.models.tensor_names import EMBEDDINGS, LM_HEAD

COLORS = 3  # channels of a picture

# Tensors of a block: name in the checkpoint -> name in GGUF.
LANGUAGE_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
VISION_BLOCK = {
    "layer_norm1": "ln1",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


@dataclass(frozen=True)
class Text:
    """Sizes of the language model; `rope_theta` is the base of the rotary frequencies."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    positions: int
    rope_theta: float
    rms_epsilon: float
    tied: bool


@dataclass(frozen=True)
class Vision:
    """Sizes of the vision encoder, `image` and `patch` in pixels; `scale` x `scale` patches become one image token."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    image: int
    patch: int
    scale: int
    epsilon: float


@dataclass(frozen=True)
class Weight:
    """One tensor: its name in the checkpoint, its name in GGUF, its shape (row-major, as in the checkpoint).

    `rotary_heads` is the number of heads whose rows must be reordered for llama.cpp's rotary embedding, or 0. An
    `exact` one is float32 in every quantization. `head` says that logits are computed with it.
    """

    source: str
    name: str
    shape: tuple[int, ...]
    rotary_heads: int = 0
    exact: bool = False
    head: bool = False


def language_weights(text: Text, head: bool) -> Iterator[Weight]:
    """Yield each tensor of the language model; `head` says that the checkpoint has an output matrix of its own."""
    root = "model.text_model"
    embeddings = (text.vocabulary, text.hidden)
    yield Weight(EMBEDDINGS, "token_embd.weight", embeddings, head=not head)
    queries, keys = text.heads * text.head_dim, text.kv_heads * text.head_dim
    shapes = {
        "attn_norm": (text.hidden,),
        "attn_q": (queries, text.hidden),
        "attn_k": (keys, text.hidden),
        "attn_v": (keys, text.hidden),
        "attn_output": (text.hidden, queries),
        "ffn_norm": (text.hidden,),
        "ffn_gate": (text.feed_forward, text.hidden),
        "ffn_up": (text.feed_forward, text.hidden),
        "ffn_down": (text.hidden, text.feed_forward),
    }
    rotary = {"attn_q": text.heads, "attn_k": text.kv_heads}
    for layer in range(text.layers):
        for source, name in LANGUAGE_BLOCK.items():
            yield Weight(
                f"{root}.layers.{layer}.{source}.weight",
                f"blk.{layer}.{name}.weight",
                shapes[name],
                rotary_heads=rotary.get(name, 0),
            )
    yield Weight(f"{root}.norm.weight", "output_norm.weight", (text.hidden,))
    if head:
        yield Weight(LM_HEAD, "output.weight", embeddings, head=True)


def vision_weights(vision: Vision, text_hidden: int) -> Iterator[Weight]:
    """Yield each tensor of the mmproj file; the embeddings of patches and positions stay exact, as in llama.cpp."""
    root = "model.vision_model"
    patches = (vision.image // vision.patch) ** 2
    embeddings = f"{root}.embeddings"
    yield Weight(
        f"{embeddings}.patch_embedding.weight",
        "v.patch_embd.weight",
        (vision.hidden, COLORS, vision.patch, vision.patch),
        exact=True,
    )
    yield Weight(f"{embeddings}.patch_embedding.bias", "v.patch_embd.bias", (vision.hidden,))
    yield Weight(
        f"{embeddings}.position_embedding.weight", "v.position_embd.weight", (patches, vision.hidden), exact=True
    )
    square, norm = (vision.hidden, vision.hidden), (vision.hidden,)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), square)
    shapes |= {"ln1": norm, "ln2": norm}
    shapes |= {"ffn_up": (vision.feed_forward, vision.hidden), "ffn_down": (vision.hidden, vision.feed_forward)}
    for layer in range(vision.layers):
        for source, name in VISION_BLOCK.items():
            for part, shape in (("weight", shapes[name]), ("bias", shapes[name][:1])):
                yield Weight(f"{root}.encoder.layers.{layer}.{source}.{part}", f"v.blk.{layer}.{name}.{part}", shape)
    yield Weight(f"{root}.post_layernorm.weight", "v.post_ln.weight", norm)
    yield Weight(f"{root}.post_layernorm.bias", "v.post_ln.bias", norm)
    merged = vision.hidden * vision.scale**2
    yield Weight("model.connector.modality_projection.proj.weight", "mm.model.fc.weight", (text_hidden, merged))


def interleave(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Reorder the rows of a query or key matrix, shape (heads * head_dim, hidden), for llama.cpp's rotary embedding.

    transformers rotates row i of a head together with row i + head_dim / 2, ggml's normal mode rows 2i and 2i + 1.
    `halve` is the inverse.
    """
    pairs = rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2)
    return np.reshape(pairs, rows.shape)


def halve(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Reorder rows from the order in GGUF to that in the checkpoint; the inverse of `interleave`."""
    pairs = rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2)
    return np.reshape(pairs, rows.shape)
