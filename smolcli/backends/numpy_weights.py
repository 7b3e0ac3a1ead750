"""Reads a model for numpy_reference.py: sizes, tokenizer and weights, from a checkpoint or from a GGUF pair.

    source = open_source(files)      # reads headers and settings only
    source.text.layers               # 30
    weights = source.weights()       # reads everything
    weights.language["norm.weight"]  # float32 (hidden,)

Both formats give the same: weights in float32 under the names that a checkpoint has for them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from smolcli.backends.gguf_layout import read_layout
from smolcli.backends.image_processor import Layout, make_layout
from smolcli.errors import ModelError
from smolcli.models.checkpoint import DEFAULT_ROPE_THETA, MAX_LAYERS, Checkpoint, read_count, read_number
from smolcli.models.family import check_own
from smolcli.models.file_errors import UnsupportedError, errors_about
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.gguf_header import Header, read_header
from smolcli.models.lora import Adapter
from smolcli.models.preprocessor_config import does_split
from smolcli.models.safetensors_reader import bfloat16_to_float32
from smolcli.models.tensor_mapping import Text, Vision, Weight, halve, language_weights, vision_weights
from smolcli.models.tensor_names import CONVERT_AGAIN, LM_HEAD, USE_LLAMACPP, Findings, Shape
from smolcli.models.tokenizer import configured_stops, load_tokenizer, make_tokenizer, stop_tokens
from smolcli.types import ModelLimits

Floats = NDArray[np.float32]
Layer = dict[str, Floats]  # the weights of a layer by their names in it, as "mlp.up_proj.weight"

FLOATS = {0: np.float32, 1: np.float16, 30: np.uint16}  # F32, F16 and the bits of BF16 by their enum ggml_type
_OF_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
_MODULE_PREFIX = re.compile(r"^(model\.)?(text_model\.|vision_model\.(encoder\.)?)?")


@dataclass
class Weights:
    """The weights of the model, float32; matrices are (outputs, inputs)."""

    language_layers: list[Layer]
    vision_layers: list[Layer]
    language: dict[str, Floats] = field(default_factory=dict)  # those of no layer
    vision: dict[str, Floats] = field(default_factory=dict)  # with the connector


class Source(Protocol):
    """The files of a model. Its methods raise ModelError for files that are missing, damaged or of another family."""

    text: Text
    vision: Vision
    layout: Layout  # of its pictures
    mean: list[float]  # of the colors red, green and blue, from 0 to 1
    deviation: list[float]

    def tokenizer(self) -> tuple[Tokenizer, frozenset[int]]:
        """Load the tokenizer, and tell the tokens that end a reply."""
        ...

    def weights(self) -> Weights:
        """Read all weights."""
        ...


def open_source(files: ModelFiles) -> Source:
    """Open the checkpoint, or the GGUF pair if there is none. Raises ModelError."""
    source: Source
    if files.checkpoint is not None:
        source = CheckpointSource(files, files.checkpoint)
    elif files.gguf is not None and files.mmproj is not None:
        source = GgufSource(files.gguf, files.mmproj)
    else:
        raise ModelError(f"{files.name} has neither a checkpoint nor a GGUF pair", "name one of them with -m")
    text, vision = source.text, source.vision
    if text.heads % text.kv_heads or vision.hidden % vision.heads:
        raise ModelError(f"{files.name}: its sizes contradict each other", CONVERT_AGAIN)
    return source


def read_limits(files: ModelFiles) -> ModelLimits:
    """Read a model's limits from config.json, or from the headers of its GGUF pair. Raises ModelError."""
    source = open_source(files)
    tiles, vocabulary = source.layout, source.text.vocabulary
    return ModelLimits(
        source.text.positions,
        tiles.tile,
        tiles.tokens,
        understands_text=understands_text(vocabulary),
        longest_edge=tiles.longest_edge,
        splits=tiles.splits,
    )


class CheckpointSource:
    """A checkpoint directory, with its adapter if it has one."""

    def __init__(self, files: ModelFiles, directory: Path) -> None:
        self._files = files
        self._checkpoint = Checkpoint(directory, Adapter(files.adapter) if files.adapter is not None else None)
        self.text, self.vision = self._checkpoint.text, self._checkpoint.vision
        settings = self._checkpoint.preprocessor
        self.mean, self.deviation = settings["image_mean"], settings["image_std"]
        sizes, longest_edge = self.vision, settings["size"]["longest_edge"]
        with errors_about(directory):
            self.layout = make_layout(sizes.image, sizes.patch, sizes.scale, longest_edge, does_split(settings))

    def tokenizer(self) -> tuple[Tokenizer, frozenset[int]]:
        tokenizer, rows = load_tokenizer(self._files, self.text.vocabulary), self.text.vocabulary
        config, generation = (self._checkpoint.optional_json(f"{name}config.json") for name in ("", "generation_"))
        with errors_about(self._checkpoint.directory):
            configured = [generation.get("eos_token_id"), (config.get("text_config") or {}).get("eos_token_id")]
            return tokenizer, stop_tokens(tokenizer.token_to_id, configured, rows)

    def weights(self) -> Weights:
        has_head = self._checkpoint.has_head or not self.text.tied
        wanted = [*language_weights(self.text, has_head), *vision_weights(self.vision, self.text.hidden)]
        self._checkpoint.check(wanted)
        return _read_weights(wanted, self.text, self.vision, lambda weight: self._checkpoint.rows(weight.source))


class GgufSource:
    """A GGUF pair, as converters/ or llama.cpp writes it."""

    def __init__(self, gguf: Path, mmproj: Path) -> None:
        self._language, self._vision = GgufFile(gguf), GgufFile(mmproj)
        check_own(str(gguf), self._language.header.keys, self._vision.header.keys)
        self.layout = read_layout(mmproj)
        with errors_about(gguf):
            self.text = _text(self._language.header)
        with errors_about(mmproj):
            keys = self._vision.header.keys
            self.vision = _vision(self._vision.header)
            self.mean, self.deviation = keys["clip.vision.image_mean"], keys["clip.vision.image_std"]
            if len(self.mean) != 3 or len(self.deviation) != 3 or 0 in self.deviation:
                raise ValueError(f"image_std is {self.deviation}")

    def tokenizer(self) -> tuple[Tokenizer, frozenset[int]]:
        keys = read_header(self._language.path, with_strings=True).keys
        tokenizer = make_tokenizer(self._language.path, keys, self.text.vocabulary)
        with errors_about(self._language.path):
            return tokenizer, stop_tokens(tokenizer.token_to_id, configured_stops(keys), self.text.vocabulary)

    def weights(self) -> Weights:
        language = list(language_weights(self.text, head="output.weight" in self._language.header.shapes))
        vision = list(vision_weights(self.vision, self.text.hidden))
        if self._vision.shape("v.blk.0.ffn_up.weight") == (self.vision.hidden, self.vision.feed_forward):
            vision = [_swap_up_and_down(weight) for weight in vision]
        self._language.check(language)
        self._vision.check(vision)
        of_vision = {weight.name for weight in vision}

        def read(weight: Weight) -> NDArray[Any]:
            file = self._vision if weight.name in of_vision else self._language
            rows = file.read(weight.name, weight.shape)
            # llama.cpp rotates rows 2i and 2i + 1 of a head together, a checkpoint's model i and i + half a head.
            return halve(rows, weight.rotary_heads) if weight.rotary_heads else rows

        return _read_weights([*language, *vision], self.text, self.vision, read)


class GgufFile:
    """The tensors of a GGUF file. Raises ModelError for a damaged one."""

    def __init__(self, path: Path) -> None:
        self.path, self.header = path, read_header(path)
        with path.open("rb") as file:
            self._data = mmap(file.fileno(), 0, access=ACCESS_READ)

    def shape(self, name: str) -> Shape:
        """Return the shape of a tensor, row-major as in a checkpoint; () if there is no such tensor."""
        return self.header.shapes.get(name, ())[::-1]

    def check(self, wanted: Iterable[Weight]) -> None:
        """Raise ModelError unless these are the tensors of the file: llama.cpp would apply others, such as biases."""
        shapes = {weight.name: weight.shape for weight in wanted}
        stored = {name: self.shape(name) for name in self.header.shapes}
        common = stored.keys() & shapes.keys()
        misshapen = [(name, stored[name], shapes[name]) for name in common if stored[name] != shapes[name]]
        missing, unread = shapes.keys() - stored.keys(), stored.keys() - shapes.keys()
        Findings(missing, unread, misshapen, len(shapes)).raise_for(self.path, is_gguf=True)

    def read(self, name: str, shape: Shape) -> NDArray[Any]:
        """Read a tensor in float32 or float16."""
        ggml_type, offset = self.header.places[name]
        if ggml_type in FLOATS:
            array = np.frombuffer(self._data, FLOATS[ggml_type], math.prod(shape), offset).reshape(shape)
            return bfloat16_to_float32(array) if array.dtype == np.uint16 else array
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # takes a tenth of a second
        from gguf.quants import dequantize

        with errors_about(self.path):
            block_weights, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(ggml_type)]
            blocks = np.frombuffer(self._data, np.uint8, math.prod(shape) // block_weights * block_bytes, offset)
            try:
                values: Floats = dequantize(blocks.reshape(shape[0], -1), GGMLQuantizationType(ggml_type))
            except NotImplementedError:
                stored_as = GGMLQuantizationType(ggml_type).name
                raise UnsupportedError(f"the tensor {name} is stored as {stored_as}", USE_LLAMACPP) from None
            return values.reshape(shape)


def _read_weights(
    wanted: Iterable[Weight], text: Text, vision: Vision, read: Callable[[Weight], NDArray[Any]]
) -> Weights:
    """Read all weights, each into the layer that it belongs to."""
    weights = Weights([{} for _ in range(text.layers)], [{} for _ in range(vision.layers)])
    for weight in wanted:
        is_language = weight.source.startswith("model.text_model.") or weight.source == LM_HEAD
        group = weights.language if is_language else weights.vision
        layers = weights.language_layers if is_language else weights.vision_layers
        name = _MODULE_PREFIX.sub("", weight.source)
        if match := _OF_LAYER.fullmatch(name):
            group, name = layers[int(match[1])], match[2]
        group[name] = np.require(read(weight), np.float32, ("C", "A"))  # float32 may stay in the mapped file
    return weights


def _swap_up_and_down(weight: Weight) -> Weight:
    """Name a weight as old files do, in which ffn_up and ffn_down are swapped."""
    swapped = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}
    return replace(weight, name=re.sub("ffn_(up|down)", lambda match: swapped[match[0]], weight.name))


def _text(header: Header) -> Text:
    keys = {name.removeprefix("llama."): value for name, value in header.keys.items()}
    hidden, heads = read_count(keys, "embedding_length"), read_count(keys, "attention.head_count")
    head_dim = read_count(keys, "attention.key_length", hidden // heads)
    _check_applied(keys, head_dim)
    return Text(
        hidden=hidden,
        feed_forward=read_count(keys, "feed_forward_length"),
        layers=read_count(keys, "block_count", maximum=MAX_LAYERS),
        heads=heads,
        kv_heads=read_count(keys, "attention.head_count_kv", heads),
        head_dim=head_dim,
        vocabulary=header.shapes["token_embd.weight"][1],
        positions=read_count(keys, "context_length"),
        rope_theta=read_number("rope.freq_base", keys.get("rope.freq_base", DEFAULT_ROPE_THETA)),
        rms_epsilon=read_number("layer_norm_rms_epsilon", keys["attention.layer_norm_rms_epsilon"]),
        tied="output.weight" not in header.shapes,
    )


def _check_applied(keys: Mapping[str, Any], head_dim: int) -> None:
    """Raise UnsupportedError for keys that llama.cpp applies and numpy_reference.py does not."""
    wanted = {
        "rope.scaling.type": "none",
        "rope.dimension_count": head_dim,
        "attention.value_length": head_dim,
        "attention.causal": True,
    }
    for key, value in keys.items():
        is_other = value != wanted[key] if key in wanted else key.startswith(("rope.scaling.", "rope.scale_"))
        if is_other:
            raise UnsupportedError(f"{key} is {str(value)[:40]}", USE_LLAMACPP)


def _vision(header: Header) -> Vision:
    keys = {name.removeprefix("clip.vision."): value for name, value in header.keys.items()}
    if not keys.get("clip.use_gelu"):
        raise UnsupportedError("its activation is not GELU", USE_LLAMACPP)
    return Vision(
        hidden=read_count(keys, "embedding_length"),
        feed_forward=read_count(keys, "feed_forward_length"),
        layers=read_count(keys, "block_count", maximum=MAX_LAYERS),
        heads=read_count(keys, "attention.head_count"),
        image=read_count(keys, "image_size"),
        patch=read_count(keys, "patch_size"),
        scale=read_count(keys, "projector.scale_factor"),
        epsilon=read_number("layer_norm_epsilon", keys["attention.layer_norm_epsilon"]),
    )
