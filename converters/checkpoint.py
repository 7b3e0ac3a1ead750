"""A checkpoint directory: its configuration with every quirk resolved, its tensors one at a time, its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf.utility import LocalTensor, SafetensorsLocal
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from smolcli.errors import ModelError

from .smolvlm import LM_HEAD, MODEL_TYPES, Text, Vision

# What transformers fills in for keys that published configurations leave out.
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
DEFAULT_ROPE_THETA = 10000.0
DEFAULT_SCALE_FACTOR = 2
DTYPES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
AGAIN = "download or save the checkpoint again"


class Checkpoint:
    """The checkpoint in `directory`; opening it reads the headers and the JSON files, no weights.

    Raises ModelError if a file is missing or damaged, or if the model is of a kind that is not converted.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        config = self.json("config.json")
        if config.get("model_type") not in MODEL_TYPES:
            raise ModelError(
                f"{directory} holds a model of type {config.get('model_type')!r}",
                f"types that can be converted are {', '.join(MODEL_TYPES)}",
            )
        self._tensors = self._index()
        self.text = _text(config)
        self.vision = _vision(config)
        self.tokenizer = self.json("tokenizer.json")
        self.preprocessor = self._preprocessor()

    @property
    def has_head(self) -> bool:
        """Whether there is an output matrix apart from the embeddings."""
        return LM_HEAD in self._tensors

    def names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor; ModelError if there is none of that name."""
        if name not in self._tensors:
            raise ModelError(f"{self.directory} lacks the tensor {name}", AGAIN)
        return self._tensors[name].shape

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor, float32 or float16, mapped from its file where it is stored so (bfloat16 is widened)."""
        shape = self.shape(name)
        stored = self._tensors[name]
        array: NDArray[Any] = stored.mmap_bytes().view(DTYPES[stored.dtype])
        if stored.dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            wide = array.astype(np.uint32)
            wide <<= 16
            array = wide.view(np.float32)
        return array.reshape(shape)

    def json(self, name: str) -> dict[str, Any]:
        """One of the directory's JSON files; ModelError if it is missing or not an object."""
        try:
            value = json.loads((self.directory / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(f"{self.directory} has no {name}", "give a checkpoint directory") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.directory / name} cannot be read: {error}", AGAIN) from error
        if not isinstance(value, dict):
            raise ModelError(f"{self.directory / name} is not a JSON object", AGAIN)
        return value

    def optional_json(self, name: str) -> dict[str, Any]:
        """The same, empty where there is no such file."""
        return self.json(name) if (self.directory / name).is_file() else {}

    def _index(self) -> dict[str, LocalTensor]:
        tensors: dict[str, LocalTensor] = {}
        for file in self._files():
            tensors |= _header(file)
        for name, tensor in tensors.items():
            if tensor.dtype not in DTYPES:
                raise ModelError(
                    f"the tensor {name} is stored as {tensor.dtype}", f"save the model as one of {', '.join(DTYPES)}"
                )
        return dict(sorted(tensors.items()))

    def _files(self) -> list[Path]:
        if (self.directory / "model.safetensors").is_file():
            return [self.directory / "model.safetensors"]
        index = self.optional_json("model.safetensors.index.json").get("weight_map", {})
        files = [self.directory / Path(name).name for name in sorted(set(index.values()))]
        for file in files:
            if not file.is_file():
                raise ModelError(f"{file} is missing", "download the rest of the checkpoint")
        if not files and list(self.directory.glob("*.bin")):
            raise ModelError(
                f"{self.directory} has its weights in pickle files only, and unpickling runs code",
                "save it with save_pretrained(..., safe_serialization=True)",
            )
        if not files:
            raise ModelError(f"{self.directory} has no model.safetensors", "give a checkpoint directory")
        return files

    def _preprocessor(self) -> dict[str, Any]:
        # transformers 5 moves the image processor's settings into processor_config.json.
        found = self.optional_json("preprocessor_config.json")
        found |= self.optional_json("processor_config.json").get("image_processor") or {}
        for key in ("image_mean", "image_std", "size"):
            if key not in found:
                raise ModelError(f"{self.directory} has no {key} for images", "add preprocessor_config.json")
        if "longest_edge" not in found["size"]:
            raise ModelError(f"{self.directory} has no size.longest_edge for images", "add preprocessor_config.json")
        return found


def _header(file: Path) -> dict[str, LocalTensor]:
    try:
        # The safetensors library checks that header and data agree; gguf's reader knows where the data lie.
        with safe_open(file, framework="numpy"):
            return SafetensorsLocal(file).tensors
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{file} is damaged: {error}", AGAIN) from error


def _text(config: dict[str, Any]) -> Text:
    given = config.get("text_config") or {}
    if given.get("model_type", "llama") != "llama":
        raise ModelError(f"the language model is of type {given['model_type']!r}", "only llama can be converted")
    text = TEXT_DEFAULTS | given
    _require("text_config.hidden_act", text["hidden_act"], "silu")
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    _require("the rotary embedding", rope.get("rope_type", rope.get("type", "default")), "default")
    heads = text["num_attention_heads"]
    return Text(
        hidden=text["hidden_size"],
        feed_forward=text["intermediate_size"],
        layers=text["num_hidden_layers"],
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or text["hidden_size"] // heads,
        vocabulary=text["vocab_size"],
        positions=text["max_position_embeddings"],
        rope_theta=rope.get("rope_theta") or text.get("rope_theta") or DEFAULT_ROPE_THETA,
        rms_epsilon=text["rms_norm_eps"],
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _vision(config: dict[str, Any]) -> Vision:
    vision = VISION_DEFAULTS | (config.get("vision_config") or {})
    # llama.cpp's flag for GELU means the tanh approximation.
    _require("vision_config.hidden_act", vision["hidden_act"], "gelu_pytorch_tanh")
    return Vision(
        hidden=vision["hidden_size"],
        feed_forward=vision["intermediate_size"],
        layers=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        image=_square("image_size", vision["image_size"]),
        patch=_square("patch_size", vision["patch_size"]),
        scale=config.get("scale_factor", DEFAULT_SCALE_FACTOR),
        epsilon=vision["layer_norm_eps"],
    )


def _require(what: str, value: object, wanted: str) -> None:
    if value != wanted:
        raise ModelError(f"{what} is {value!r}", f"only {wanted} can be converted")


def _square(what: str, value: int | list[int]) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise ModelError(f"vision_config.{what} is {value}", "only squares can be converted")
    return sides.pop()
