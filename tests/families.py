"""Tiny random GGUF pairs of other families than SmolVLM's, with the keys and tensor names of llama.cpp's converter.

    files = make_pair(tmp_path, "qwen2vl", seed=1)      # a ModelFiles of two files of some hundred kilobytes

Every byte is a token, and so is every marker that the family puts around a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from smolcli.models.files import ModelFiles

WIDTH, FORWARD, LAYERS, HEADS, KV_HEADS, HEAD = 64, 96, 2, 4, 2, 16  # of the language half
VISION_WIDTH, VISION_FORWARD, VISION_HEADS, VISION_LAYERS = 32, 64, 2, 4
CONTEXT = 1024
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "{% for message in messages %}<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{% for item in message.content %}{% if item.type == 'text' %}{{ item.text | trim }}{% endif %}{% endfor %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

Tensors = dict[str, NDArray[np.float32]]
Random = Callable[..., NDArray[np.float32]]  # the shape of a matrix of weights to the weights


@dataclass(frozen=True)
class Family:
    """What makes a family: the names in its headers, its markers, and its keys and tensors.

    `side` and `patch` are those of its pictures in pixels, `tokens` the tokens of one of that side.
    """

    architecture: str
    projector: str
    side: int
    patch: int
    tokens: int
    markers: tuple[str, ...]
    template: str | None
    language_keys: Mapping[str, Any]
    language: Callable[[Random, int], Tensors]
    vision_keys: Mapping[str, Any]
    vision: Callable[[Random, Family], Tensors]
    adds_start: bool = False


def make_pair(folder: Path, name: str, seed: int = 0) -> ModelFiles:
    """Write a pair of the family FAMILIES[name], f32, and return its files."""
    family = FAMILIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)

    def random(*shape: int, scale: float | None = None) -> NDArray[np.float32]:
        width = scale if scale is not None else shape[-1] ** -0.5
        return (generator.standard_normal(shape) * width).astype(np.float32)

    language, vision = folder / f"{name}-F32.gguf", folder / f"mmproj-{name}-F32.gguf"
    tokens = _vocabulary(family)
    _write(language, family.architecture, _language_keys(family, tokens), family.language(random, len(tokens)))
    _write(vision, "clip", _vision_keys(family), family.vision(random, family))
    return ModelFiles(f"{name}-F32", gguf=language, mmproj=vision)


def _write(path: Path, architecture: str, keys: Mapping[str, Any], tensors: Tensors) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        kind = gguf.GGUFValueType.get_type(value)
        if isinstance(value, int) and not isinstance(value, bool):
            kind = gguf.GGUFValueType.UINT32
        writer.add_key_value(key, value, kind)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary(family: Family) -> dict[str, int]:
    """The tokens in order, each with its type (gguf.TokenType)."""
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + number) for number in range(256 - len(letters))]  # GPT-2 writes the others so
    tokens = dict.fromkeys([*letters, "Ġt", "he", "Ġthe"], int(gguf.TokenType.NORMAL))
    return tokens | dict.fromkeys(family.markers, int(gguf.TokenType.CONTROL))


def _language_keys(family: Family, tokens: Mapping[str, int]) -> dict[str, Any]:
    names = list(tokens)
    keys = {
        "context_length": CONTEXT, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": FORWARD,
        "attention.head_count": HEADS, **family.language_keys,
    }  # fmt: skip
    named = {f"{family.architecture}.{key}": value for key, value in keys.items()}
    named |= {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": list(tokens.values()),
        "tokenizer.ggml.merges": ["Ġ t", "h e"],
        "tokenizer.ggml.bos_token_id": names.index(family.markers[0]),
        "tokenizer.ggml.eos_token_id": names.index(family.markers[1]),
        "tokenizer.ggml.add_bos_token": family.adds_start,
    }
    return named | ({"tokenizer.chat_template": family.template} if family.template else {})


def _vision_keys(family: Family) -> dict[str, Any]:
    keys = {
        "image_size": family.side, "patch_size": family.patch, "embedding_length": VISION_WIDTH,
        "feed_forward_length": VISION_FORWARD, "block_count": VISION_LAYERS, "projection_dim": WIDTH,
        "attention.head_count": VISION_HEADS, "attention.layer_norm_epsilon": 1e-6, "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3, **family.vision_keys,
    }  # fmt: skip
    named = {f"clip.vision.{key}": value for key, value in keys.items() if not key.startswith("clip.")}
    named |= {key: value for key, value in keys.items() if key.startswith("clip.")}
    return {"general.type": "mmproj", "clip.has_vision_encoder": True, "clip.projector_type": family.projector} | named


# ---- language halves -----------------------------------------------------------------------------------


def _norm(random: Random, width: int) -> NDArray[np.float32]:
    return 1 + random(width, scale=0.1)


def _linear(random: Random, name: str, out: int, into: int, bias: bool = True) -> Tensors:
    tensors = {f"{name}.weight": random(out, into)}
    return tensors | ({f"{name}.bias": random(out, scale=0.1)} if bias else {})


def _layer_norm(random: Random, name: str, width: int, bias: bool = True) -> Tensors:
    tensors = {f"{name}.weight": _norm(random, width)}
    return tensors | ({f"{name}.bias": random(width, scale=0.1)} if bias else {})


def _ends(random: Random, vocabulary: int, bias: bool = False, separate: bool = True) -> Tensors:
    """The embeddings, and what makes logits."""
    tensors = {"token_embd.weight": random(vocabulary, WIDTH, scale=0.5)}
    tensors |= _layer_norm(random, "output_norm", WIDTH, bias)
    if separate:
        tensors["output.weight"] = random(vocabulary, WIDTH, scale=0.03)
        tensors |= {"output.bias": random(vocabulary, scale=0.1)} if bias else {}
    return tensors


def qwen(random: Random, vocabulary: int) -> Tensors:
    """Qwen2 and Qwen2-VL: biases on queries, keys and values alone."""
    tensors = _ends(random, vocabulary)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        tensors |= _layer_norm(random, f"{block}.attn_norm", WIDTH, bias=False)
        tensors |= _layer_norm(random, f"{block}.ffn_norm", WIDTH, bias=False)
        for name, heads in (("attn_q", HEADS), ("attn_k", KV_HEADS), ("attn_v", KV_HEADS)):
            tensors |= _linear(random, f"{block}.{name}", heads * HEAD, WIDTH)
        tensors |= _linear(random, f"{block}.attn_output", WIDTH, HEADS * HEAD, bias=False)
        tensors |= _gated(random, block)
    return tensors


def gemma(random: Random, vocabulary: int) -> Tensors:
    """Gemma 3: norms before and after, and of queries and keys."""
    tensors = _ends(random, vocabulary, separate=False)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            tensors |= _layer_norm(random, f"{block}.{name}", WIDTH, bias=False)
        for name, heads in (("attn_q", HEADS), ("attn_k", KV_HEADS), ("attn_v", KV_HEADS)):
            tensors |= _linear(random, f"{block}.{name}", heads * HEAD, WIDTH, bias=False)
        for name in ("attn_q_norm", "attn_k_norm"):
            tensors |= _layer_norm(random, f"{block}.{name}", HEAD, bias=False)
        tensors |= _linear(random, f"{block}.attn_output", WIDTH, HEADS * HEAD, bias=False)
        tensors |= _gated(random, block)
    return tensors


def phi(random: Random, vocabulary: int) -> Tensors:
    """Phi-2, moondream2's: biases everywhere, one norm for attention and the rest."""
    tensors = _ends(random, vocabulary, bias=True)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        tensors |= _layer_norm(random, f"{block}.attn_norm", WIDTH)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors |= _linear(random, f"{block}.{name}", WIDTH, WIDTH)
        tensors |= _linear(random, f"{block}.ffn_up", FORWARD, WIDTH)
        tensors |= _linear(random, f"{block}.ffn_down", WIDTH, FORWARD)
    return tensors


def _gated(random: Random, block: str) -> Tensors:
    tensors = _linear(random, f"{block}.ffn_gate", FORWARD, WIDTH, bias=False)
    tensors |= _linear(random, f"{block}.ffn_up", FORWARD, WIDTH, bias=False)
    return tensors | _linear(random, f"{block}.ffn_down", WIDTH, FORWARD, bias=False)


# ---- vision halves -------------------------------------------------------------------------------------


def _encoder(random: Random, rms: bool = False, gated: bool = False) -> Tensors:
    """The layers of a vision transformer."""
    tensors: Tensors = {}
    for layer in range(VISION_LAYERS):
        block = f"v.blk.{layer}"
        for name in ("ln1", "ln2"):
            tensors |= _layer_norm(random, f"{block}.{name}", VISION_WIDTH, bias=not rms)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            tensors |= _linear(random, f"{block}.{name}", VISION_WIDTH, VISION_WIDTH)
        for name in ("ffn_up", "ffn_gate") if gated else ("ffn_up",):
            tensors |= _linear(random, f"{block}.{name}", VISION_FORWARD, VISION_WIDTH)
        tensors |= _linear(random, f"{block}.ffn_down", VISION_WIDTH, VISION_FORWARD)
    return tensors


def _patches(random: Random, patch: int) -> NDArray[np.float32]:
    return random(VISION_WIDTH, 3, patch, patch, scale=(3 * patch * patch) ** -0.5)


def qwen_vision(random: Random, family: Family, rms: bool = False) -> Tensors:
    """Qwen2-VL's, with `rms` Qwen2.5-VL's: a kernel for each of two frames, and a merger of 2 x 2 patches."""
    tensors = {"v.patch_embd.weight": _patches(random, family.patch)}
    tensors |= {"v.patch_embd.weight.1": _patches(random, family.patch)}
    tensors |= _encoder(random, rms=rms, gated=rms)
    tensors |= _layer_norm(random, "v.post_ln", VISION_WIDTH, bias=not rms)
    tensors |= _linear(random, "mm.0", 4 * VISION_WIDTH, 4 * VISION_WIDTH)
    return tensors | _linear(random, "mm.2", WIDTH, 4 * VISION_WIDTH)


def siglip(random: Random, family: Family, positions: int = 0) -> Tensors:
    """A vision transformer with learned positions, `positions` more than there are patches."""
    count = (family.side // family.patch) ** 2 + positions
    tensors = {"v.patch_embd.weight": _patches(random, family.patch), "v.patch_embd.bias": random(VISION_WIDTH)}
    tensors |= {"v.position_embd.weight": random(count, VISION_WIDTH, scale=0.5)}
    return tensors | _encoder(random)


def gemma_vision(random: Random, family: Family) -> Tensors:
    """Gemma 3's: a mean of 4 x 4 patches, a norm, and one matrix."""
    tensors = siglip(random, family) | _layer_norm(random, "v.post_ln", VISION_WIDTH)
    tensors |= {"mm.soft_emb_norm.weight": _norm(random, VISION_WIDTH)}
    return tensors | {"mm.input_projection.weight": random(VISION_WIDTH, WIDTH)}


def moondream_vision(random: Random, family: Family) -> Tensors:
    """moondream2's: two linear layers, as in LLaVA."""
    tensors = siglip(random, family) | _layer_norm(random, "v.post_ln", VISION_WIDTH)
    tensors |= _linear(random, "mm.0", FORWARD, VISION_WIDTH)
    return tensors | _linear(random, "mm.2", WIDTH, FORWARD)


def intern_vision(random: Random, family: Family) -> Tensors:
    """InternVL's: a class token, scaled residuals, 2 x 2 patches joined."""
    tensors = siglip(random, family, positions=1) | {"v.class_embd": random(VISION_WIDTH, scale=0.5)}
    for layer in range(VISION_LAYERS):
        for name in ("ls1", "ls2"):
            tensors |= _layer_norm(random, f"v.blk.{layer}.{name}", VISION_WIDTH, bias=False)
    tensors |= _layer_norm(random, "mm.model.mlp.0", 4 * VISION_WIDTH)
    tensors |= _linear(random, "mm.model.mlp.1", WIDTH, 4 * VISION_WIDTH)
    return tensors | _linear(random, "mm.model.mlp.3", WIDTH, WIDTH)


RMS = {
    "attention.layer_norm_rms_epsilon": 1e-6, "attention.head_count_kv": KV_HEADS, "rope.freq_base": 10000.0,
}  # fmt: skip
QWEN_MARKERS = ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
FAMILIES = {
    "qwen2vl": Family(
        "qwen2vl", "qwen2vl_merger", 112, 14, 16, QWEN_MARKERS, CHATML,
        {**RMS, "rope.dimension_sections": [2, 3, 3, 0]}, qwen, {}, qwen_vision,
    ),
    "qwen2.5vl": Family(
        "qwen2vl", "qwen2.5vl_merger", 112, 14, 16, QWEN_MARKERS, CHATML,
        {**RMS, "rope.dimension_sections": [2, 3, 3, 0]}, qwen, {"clip.use_silu": True, "n_wa_pattern": 2},
        lambda random, family: qwen_vision(random, family, rms=True),
    ),
    "internvl": Family(
        "qwen2", "internvl", 56, 14, 4, ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<img>", "</img>"), CHATML,
        RMS, qwen, {"clip.use_gelu": True, "projector.scale_factor": 2}, intern_vision,
    ),
    "moondream2": Family(
        "phi2", "mlp", 56, 14, 16, ("<|endoftext|>", "</s>"), None,
        {"attention.layer_norm_epsilon": 1e-5, "attention.head_count_kv": HEADS, "rope.dimension_count": HEAD // 2},
        phi, {"clip.use_gelu": True}, moondream_vision,
    ),
    "gemma3": Family(
        "gemma3", "gemma3", 64, 8, 4, ("<bos>", "<end_of_turn>", "<start_of_turn>", "<start_of_image>",
        "<end_of_image>"), TURNS,
        {**RMS, "attention.key_length": HEAD, "attention.value_length": HEAD, "attention.sliding_window": 512,
         "rope.freq_base_swa": 10000.0},
        gemma, {"clip.use_gelu": True}, gemma_vision, adds_start=True,
    ),
}  # fmt: skip
