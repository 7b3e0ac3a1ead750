"""A checkpoint directory: its configuration with all defaults filled in, its tensors in blocks, its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from smolcli.errors import ModelError
from smolcli.models.file_errors import UnsupportedError, errors_about
from smolcli.models.files import MODEL_TYPES, TOKENIZER
from smolcli.models.lora import Adapter
from smolcli.models.preprocessor_config import read_preprocessor_config
from smolcli.models.safetensors_reader import Tensors, optional_json, read_json
from smolcli.models.tensor_mapping import COLORS, Text, Vision, Weight
from smolcli.models.tensor_names import (
    DOWNLOAD_AGAIN,
    HEADLESS,
    LM_HEAD,
    PREFIX,
    Findings,
    wrapper_notice,
)

# Defaults of transformers for keys that published configurations leave out.
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
MAX_COUNT = 1 << 24  # of anything in a configuration; a larger one means a damaged file
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS of llama.cpp
DEFAULT_ROPE_THETA = 10000.0
DEFAULT_SCALE_FACTOR = 2


class Checkpoint:
    """The checkpoint in `directory`, with `adapter` merged into the weights; the constructor reads no weights.

    `tokenizer_folder` is the adapter's where that has a tokenizer. Raises ModelError if a file is missing or damaged,
    or if the model is not one of the family.
    """

    def __init__(self, directory: Path, adapter: Adapter | None = None) -> None:
        self.directory = directory.resolve()
        self.adapter = adapter
        config = self.json("config.json")
        if config.get("model_type") not in MODEL_TYPES:
            known, model_type = ", ".join(sorted(MODEL_TYPES)), config.get("model_type")
            raise ModelError(f"{directory}: a model of type {model_type!r}", f"known are {known}")
        self._tensors = Tensors(self._files())
        # The names in a model that was saved without its head lack the prefix.
        is_bare = any(name.startswith(HEADLESS) for name in self._tensors.names())
        self._prefix = PREFIX if is_bare else ""
        with errors_about(self.directory / "config.json"):
            self.text = _text(config)
            self.vision = _vision(config)
        if adapter is not None and adapter.vocabulary is not None:
            self.text = replace(self.text, vocabulary=adapter.vocabulary)
        has_tokenizer = adapter is not None and (adapter.directory / TOKENIZER).is_file()
        self.tokenizer_folder = adapter.directory if adapter is not None and has_tokenizer else self.directory

    @cached_property
    def tokenizer(self) -> dict[str, Any]:
        """The content of tokenizer.json. Raises ModelError if it is missing or damaged."""
        return read_json(self.tokenizer_folder / TOKENIZER)

    @cached_property
    def preprocessor(self) -> dict[str, Any]:
        """The settings of the image processor. Raises ModelError for those that are missing or damaged."""
        with errors_about(self.directory / "preprocessor_config.json"):
            return self._preprocessor()

    @property
    def has_head(self) -> bool:
        """Whether there is an output matrix besides the embeddings."""
        return LM_HEAD in self._tensors or (self.adapter is not None and LM_HEAD in self.adapter.replaced)

    @property
    def notices(self) -> list[str]:
        """Lines for the user: what was taken off the names of the tensors."""
        lines = [wrapper_notice(self.directory, self._tensors.wrappers)]
        lines += [wrapper_notice(self.adapter.directory, self.adapter.wrappers)] if self.adapter is not None else []
        return [line for line in lines if line]

    def check(self, weights: Sequence[Weight]) -> None:
        """Raise ModelError unless the tensors of the checkpoint with its adapter are those of `weights`."""
        wanted = {weight.source: weight.shape for weight in weights}
        shapes = {self._prefix + name: self._tensors.shape(name) for name in self._tensors.names()}
        if self.adapter is not None:
            self.adapter.check(wanted, shapes)
            shapes |= {name: wanted[name] for name in self.adapter.replaced}
        misshapen = [
            (name, shapes[name], wanted[name]) for name in wanted.keys() & shapes.keys() if shapes[name] != wanted[name]
        ]
        missing, unread = wanted.keys() - shapes.keys(), shapes.keys() - wanted.keys()
        Findings(missing, unread, misshapen, len(wanted)).raise_for(self.directory)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows `start` to `stop` of one tensor as float32 or float16, with the adapter merged in."""
        if self.adapter is None:
            return self._tensors.rows(name.removeprefix(self._prefix), start, stop)
        if name in self.adapter.replaced:
            array = self.adapter.rows(name, start, stop)
        else:
            array = self._tensors.rows(name.removeprefix(self._prefix), start, stop)
        return self.adapter.merge(name, array, start)

    @property
    def stored_as(self) -> str:
        """The smallest of f16, bf16 and f32 that holds every matrix of the language model exactly."""
        names = [name for name in self._tensors.names() if "vision" not in name and "connector" not in name]
        types = {self._tensors.dtype(name) for name in names if len(self._tensors.shape(name)) > 1}
        return {frozenset({"F16"}): "f16", frozenset({"BF16"}): "bf16"}.get(
            frozenset(types) if self.adapter is None else frozenset(), "f32"
        )

    def json(self, name: str) -> dict[str, Any]:
        """Read one of the directory's JSON files. Raises ModelError if it is missing or not an object."""
        return read_json(self.directory / name)

    def optional_json(self, name: str) -> dict[str, Any]:
        """Read one of the directory's JSON files, or return {} if there is no such file."""
        return optional_json(self.directory / name)

    def _files(self) -> list[Path]:
        if (self.directory / "model.safetensors").is_file():
            return [self.directory / "model.safetensors"]
        index = self.directory / "model.safetensors.index.json"
        names = self.optional_json(index.name).get("weight_map", {})
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ModelError(f"{index}: not an index of weights", DOWNLOAD_AGAIN)
        files = [self.directory / Path(name).name for name in sorted(set(names.values()))]
        if not files and list(self.directory.glob("*.bin")):
            raise ModelError(
                f"{self.directory}: has its weights in pickle files only, and unpickling runs code",
                "save it with save_pretrained(..., safe_serialization=True)",
            )
        if not files:
            raise ModelError(f"{self.directory}: has no model.safetensors", "give a checkpoint directory")
        return files

    def _preprocessor(self) -> dict[str, Any]:
        settings = read_preprocessor_config(self.directory)
        for key in ("image_mean", "image_std", "size"):
            if key not in settings:
                raise UnsupportedError(f"has no {key}", "add the image processor's settings")
        read_count(settings["size"], "longest_edge")
        for key in ("image_mean", "image_std"):
            settings[key] = [read_number(key, value) if key == "image_std" else float(value) for value in settings[key]]
            if len(settings[key]) != COLORS or not all(map(math.isfinite, settings[key])):
                raise UnsupportedError(f"{key} is {settings[key]}", f"{COLORS} numbers are wanted")
        return settings


def _text(config: dict[str, Any]) -> Text:
    text_config = _object(config, "text_config")
    if text_config.get("model_type", "llama") != "llama":
        raise UnsupportedError(
            f"the language model is of type {text_config['model_type']!r}", "only llama is supported"
        )
    text = TEXT_DEFAULTS | text_config
    _require("text_config.hidden_act", text["hidden_act"], "silu")
    for key in ("attention_bias", "mlp_bias"):
        _require(f"text_config.{key}", bool(text.get(key)), False)
    rope = _object(text, "rope_parameters") or _object(text, "rope_scaling")
    _require("the rotary embedding", rope.get("rope_type", rope.get("type", "default")), "default")
    heads, hidden = read_count(text, "num_attention_heads"), read_count(text, "hidden_size")
    head_dim = read_count(text, "head_dim", hidden // heads)
    kv_heads = read_count(text, "num_key_value_heads", heads)
    _require("the remainder of head_dim and 2", head_dim % 2, 0)
    _require("the remainder of num_attention_heads and num_key_value_heads", heads % kv_heads, 0)
    return Text(
        hidden=hidden,
        feed_forward=read_count(text, "intermediate_size"),
        layers=read_count(text, "num_hidden_layers", maximum=MAX_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=read_count(text, "vocab_size"),
        positions=read_count(text, "max_position_embeddings"),
        rope_theta=read_number("rope_theta", rope.get("rope_theta") or text.get("rope_theta") or DEFAULT_ROPE_THETA),
        rms_epsilon=read_number("rms_norm_eps", text["rms_norm_eps"]),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _vision(config: dict[str, Any]) -> Vision:
    vision = VISION_DEFAULTS | _object(config, "vision_config")
    # the flag use_gelu of llama.cpp means the tanh approximation
    _require("vision_config.hidden_act", vision["hidden_act"], "gelu_pytorch_tanh")
    hidden, heads = read_count(vision, "hidden_size"), read_count(vision, "num_attention_heads")
    _require("the remainder of vision_config.hidden_size and num_attention_heads", hidden % heads, 0)
    return Vision(
        hidden=hidden,
        feed_forward=read_count(vision, "intermediate_size"),
        layers=read_count(vision, "num_hidden_layers", maximum=MAX_LAYERS),
        heads=heads,
        image=_side("image_size", vision["image_size"]),
        patch=_side("patch_size", vision["patch_size"]),
        scale=read_count(config, "scale_factor", DEFAULT_SCALE_FACTOR),
        epsilon=read_number("layer_norm_eps", vision["layer_norm_eps"]),
    )


def _object(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise UnsupportedError(f"{key} is not an object", DOWNLOAD_AGAIN)
    return value


def read_count(config: Mapping[str, Any], key: str, default: int | None = None, maximum: int = MAX_COUNT) -> int:
    """Return a number of things. Raises UnsupportedError unless it is a whole one from 1 to `maximum`."""
    value = config.get(key) or default
    if not isinstance(value, int) or not 1 <= value <= maximum:
        raise UnsupportedError(f"{key} is {str(value)[:40]!r}", f"it must be a whole number from 1 to {maximum}")
    return value


def read_number(key: str, value: object) -> float:
    """Return a positive number as a float. Raises UnsupportedError for anything else."""
    if not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UnsupportedError(f"{key} is {value!r}", "it must be a positive number")
    return float(value)


def _require(subject: str, value: object, supported: object) -> None:
    if value != supported:
        raise UnsupportedError(f"{subject} is {value!r}", f"only {supported} is supported")


def _side(key: str, value: int | list[int]) -> int:
    """Return the side of a square, which a configuration may give once or twice."""
    sides = set(value) if isinstance(value, list) else {value}
    if len(sides) != 1:
        raise UnsupportedError(f"vision_config.{key} is {value}", "only squares are supported")
    return read_count({key: sides.pop()}, key)
