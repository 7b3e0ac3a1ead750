"""Tiny random checkpoints of the SmolVLM families, with everything a real one has, in some hundred kilobytes.

    directory = make_checkpoint(tmp_path / "tiny", "v2", seed=1, tied=True)

The weights are scaled so that logits differ clearly from token to token; the tokenizer is a working byte-level
BPE with the special tokens of SmolVLM.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    PreTrainedModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

GEOMETRY = {64: (8, 2), 384: (14, 3), 512: (16, 4)}  # tile: (patch_size, scale_factor)
VOCABULARY = 384
# The special tokens by role; their ids are the first of the vocabulary.
SMOL = {"unk": "<|endoftext|>", "bos": "<|im_start|>", "pad": "<|im_end|>", "eos": "<end_of_utterance>"}
GRANITE = {"unk": "<|unk|>", "bos": "<|start_of_role|>", "pad": "<|end_of_text|>", "eos": "<|end_of_text|>"}
MARKERS = (
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
)
FEW_MARKERS = MARKERS[-3:]  # of SmolVLM-Instruct, whose tokenizer spells out the place of a tile
# Of granite-docling, whose tiles are at most 4 x 4, and of whose tags some stand for parts of a tag.
GRANITE_MARKERS = (
    "<|end_of_role|>",
    "<|pad|>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<doctag>",
    "</doctag>",
    "<text>",
    "</text>",
    "<otsl>",
    "</otsl>",
    "<fcel>",
    "<nl>",
    "<page_break>",
    "<key_",
)
PLACES = ("<loc_0>", "<loc_17>")  # of SmolDocling; granite-docling spells out the places of elements
CORPUS = (
    "User: What is in the picture? the the the\n",
    "Assistant: The red square is on the left of the blue circle.\n\n",
    "Read the text in the image in 12 words.\n\n",
    "System: You answer in one word, and the word is right.\n\n",
)
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

# Of granite-docling, byte for byte: tests/models/test_chat_template.py compares its SHA-256 with the published one.
GRANITE_TEMPLATE = r"""{%- for message in messages -%}
{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{{- part['text'] -}}
{%- elif part['type'] == 'image' -%}
{{- '<image>' -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|end_of_text|>
' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_of_role|>assistant' -}}
{%- if controls -%}{{- ' ' + controls | tojson() -}}{%- endif -%}
{{- '<|end_of_role|>' -}}
{%- endif -%}
"""


@dataclass(frozen=True)
class Vocabulary:
    """The special tokens of a tokenizer, by role and others, and the chat template that has them."""

    roles: Mapping[str, str]
    markers: tuple[str, ...]
    template: str


VOCABULARIES = {
    "v1": Vocabulary(SMOL, MARKERS, TEMPLATE),
    "v1-2.2b": Vocabulary(SMOL, FEW_MARKERS, TEMPLATE),
    "v2": Vocabulary(SMOL, MARKERS, TEMPLATE),
    "docling": Vocabulary(GRANITE, GRANITE_MARKERS, GRANITE_TEMPLATE),
    "smoldocling": Vocabulary(SMOL, (*MARKERS, *GRANITE_MARKERS[-10:], *PLACES, "<reponame>"), TEMPLATE),
}


def make_checkpoint(
    directory: Path,
    variant: str = "v1",
    seed: int = 0,
    *,
    tied: bool = False,
    tile: int = 64,
    layout: int = 5,
    dtype: torch.dtype = torch.float32,
    shard_size: str = "5GB",
    exact: bool = False,
    width: int = 64,
    generation: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint to `directory` and return `directory`.

    `variant` is a key of VOCABULARIES: v1 (Idefics3), v1-2.2b (the same without tokens for the places of tiles), v2
    (SmolVLM), docling (Idefics3 with Granite's tokenizer and DocTags) or smoldocling (v1 with DocTags). `tile` is the
    side of a tile in pixels, a key of GEOMETRY. `layout` is the major version of transformers whose config.json is
    written (5 or 4). A small `shard_size` makes many shards. `exact` weights are bit-identical on every machine.
    `width` is the hidden size of the language model. `generation` has additional keys of generation_config.json.
    """
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = VOCABULARIES[variant]
    roles, tokenizer = vocabulary.roles, make_tokenizer(vocabulary.roles, vocabulary.markers)
    model: Any = make_model(variant, seed, tied=tied, tile=tile, tokenizer=tokenizer, width=width)
    model.to(dtype)
    if exact:
        _set_exact_weights(model, seed)
    ids = {role: tokenizer.token_to_id(token) for role, token in roles.items()}
    model.generation_config = GenerationConfig.from_dict(
        {"bos_token_id": ids["bos"], "eos_token_id": [ids["eos"], ids["pad"]], "pad_token_id": ids["pad"]}
        | (generation or {})
    )
    model.save_pretrained(directory, max_shard_size=shard_size)
    tokenizer.save(str(directory / "tokenizer.json"))
    _save_processor(directory, variant, tile)
    if layout == 4:
        _rewrite_config_for_transformers_4(directory)
    return directory


def make_model(
    variant: str,
    seed: int,
    *,
    tied: bool = False,
    tile: int = 64,
    tokenizer: Tokenizer | None = None,
    width: int = 64,
) -> PreTrainedModel:
    """Make a random model in float32, without writing it."""
    patch, scale = GEOMETRY[tile]
    vocabulary = VOCABULARIES[variant]
    roles = vocabulary.roles
    tokenizer = tokenizer or make_tokenizer(roles, vocabulary.markers)
    text = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 96 * width // 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "vocab_size": VOCABULARY,
        "bos_token_id": tokenizer.token_to_id(roles["bos"]),
        "eos_token_id": tokenizer.token_to_id(roles["eos"]),
        "pad_token_id": tokenizer.token_to_id(roles["pad"]),
        "tie_word_embeddings": tied,
    }
    vision = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": tile,
        "patch_size": patch,
    }
    shared: dict[str, Any] = {
        "text_config": text,
        "vision_config": vision,
        "scale_factor": scale,
        "image_token_id": tokenizer.token_to_id("<image>"),
        "tie_word_embeddings": tied,
    }
    torch.manual_seed(seed)
    model: PreTrainedModel
    if variant != "v2":
        model = Idefics3ForConditionalGeneration(Idefics3Config(**shared))
    else:
        model = SmolVLMForConditionalGeneration(SmolVLMConfig(**shared))
    randomise(model)
    model.eval()
    return model


def make_tokenizer(roles: Mapping[str, str] = SMOL, markers: Sequence[str] = MARKERS) -> Tokenizer:
    """Make a byte-level BPE tokenizer in which `"\\n\\n"` is one token; SmolVLM's splits digits, Granite's does not."""
    tokenizer = Tokenizer(models.BPE())
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), letters])
    tokenizer.pre_tokenizer = split if roles is SMOL else letters
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        min_frequency=2,
        show_progress=False,
        special_tokens=[_special(token) for role, token in roles.items() if role != "eos"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_special_tokens([_special(token) for token in markers])
    return tokenizer


def _set_exact_weights(model: PreTrainedModel, seed: int) -> None:
    """Set weights between -0.5 and 0.5, of 24 random bits each, from a generator whose stream never changes."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            bits = rng.integers(-(2**23), 2**23, tuple(weight.shape))
            weight.copy_(torch.from_numpy(bits.astype(np.float32) / 2**24))


def _special(token: str) -> AddedToken:
    return AddedToken(token, normalized=False, special=True)


def randomise(model: PreTrainedModel) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0.0, 0.1)
            elif weight.dim() == 1:
                weight.normal_(1.0, 0.1)
            elif "embed" in name and weight.dim() == 2:
                weight.normal_(0.0, 0.5)
            else:
                weight.normal_(0.0, weight[0].numel() ** -0.5)


def _save_processor(directory: Path, variant: str, tile: int) -> None:
    (patch, scale), vocabulary = GEOMETRY[tile], VOCABULARIES[variant]
    family = "SmolVLM" if variant == "v2" else "Idefics3"
    image_processor = {
        "image_processor_type": f"{family}ImageProcessor",
        "processor_class": f"{family}Processor",
        "do_convert_rgb": True,
        "do_image_splitting": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "max_image_size": {"longest_edge": tile},
        "resample": 1,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": 4 * tile},
    }
    tokenizer: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        **{f"{role}_token": token for role, token in vocabulary.roles.items()},
        "model_max_length": 2048,
    }
    if variant == "docling":
        (directory / "chat_template.jinja").write_text(vocabulary.template)
    else:
        tokenizer["chat_template"] = vocabulary.template
    _save(directory / "preprocessor_config.json", image_processor)
    _save(directory / "tokenizer_config.json", tokenizer)
    tokens = (tile // patch // scale) ** 2
    _save(directory / "processor_config.json", {"processor_class": f"{family}Processor", "image_seq_len": tokens})


def _rewrite_config_for_transformers_4(directory: Path) -> None:
    """Rewrite config.json as in the published checkpoints: rope_theta, torch_dtype, no keys of vision defaults."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    text, vision = config["text_config"], config["vision_config"]
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    text["architectures"] = ["VLlama3ForCausalLM"]
    del text["head_dim"]
    for key in ("hidden_act", "layer_norm_eps", "num_channels", "attention_dropout", "initializer_range"):
        del vision[key]
    config["torch_dtype"] = config.pop("dtype")
    config["pad_token_id"] = 128002
    config.pop("_pad_token_id", None)
    config["transformers_version"] = "4.46.0"
    _save(path, config)


def _save(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2))
