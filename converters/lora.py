"""A LoRA adapter as PEFT saves it, and its merging into the weights of its base model.

The merged weight is W + scale * B @ A, with scale = lora_alpha / r, or lora_alpha / sqrt(r) with rslora
(https://arxiv.org/abs/2106.09685, https://arxiv.org/abs/2312.03732); with DoRA its rows are then scaled to the
lengths that were trained (https://arxiv.org/abs/2402.09353).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli.errors import ModelError

from .errors import DOWNLOAD_AGAIN, UnconvertibleError, errors_about
from .safetensors_reader import Tensors, read_json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_ROOT = "base_model.model."
# Settings with which an adapter is not B @ A added to the base's weights.
_UNSUPPORTED = (
    "fan_in_fan_out", "lora_bias", "alora_invocation_tokens", "layer_replication", "kasa_config", "use_bdlora",
)  # fmt: skip
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
MAX_ALPHA = 1e6  # a larger one means a damaged file
_MERGE_ADVICE = "merge it with PEFT's merge_and_unload and save the result"
_PARTS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "A",
    ".lora_embedding_B": "B",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}


class Adapter:
    """The adapter in `directory`; the constructor reads no weights. `base` is the name or path of its base model.

    `changed` has the names of the base's tensors that it changes, `replaced` maps those of them that it holds whole to
    the names in its file. Raises ModelError for an adapter that is not LoRA or has settings that cannot be merged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        config = self._config()
        self.base = str(config.get("base_model_name_or_path") or "")
        self._rslora = bool(config.get("use_rslora"))
        with errors_about(directory / CONFIG):
            self._alpha = _alpha(config.get("lora_alpha", 8))
            alphas = (config.get("alpha_pattern") or {}).items()
            self._alphas = [(re.compile(rf"(.*\.)?({key})"), _alpha(alpha)) for key, alpha in alphas]
        if not (directory / WEIGHTS).is_file() and list(directory.glob("*.bin")):
            advice = "save it with save_pretrained(..., safe_serialization=True)"
            raise ModelError(f"{directory}: has its weights in a pickle only, and unpickling runs code", advice)
        self._tensors = Tensors([directory / WEIGHTS])
        self._parts: dict[str, dict[str, str]] = {}
        self.replaced: dict[str, str] = {}
        for name in self._tensors.names():
            self._sort_in(name)
        for target, parts in self._parts.items():
            if not {"A", "B"} <= parts.keys():
                raise ModelError(f"{directory / WEIGHTS}: lacks lora_A or lora_B of {target}", DOWNLOAD_AGAIN)
            if "magnitude" in parts and self._is_embedding(target):
                raise ModelError(f"{directory / WEIGHTS}: has DoRA of the embeddings", _MERGE_ADVICE)
        self.changed = set(self._parts) | set(self.replaced)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one of `replaced`."""
        return self._tensors.shape(self.replaced[name])

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows `start` to `stop` of one of `replaced`."""
        return self._tensors.rows(self.replaced[name], start, stop)

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise ModelError if what is added to the base's tensor `name` does not have its `shape`."""
        if name not in self._parts:
            return
        a, b, *lengths = (self._tensors.shape(part) for _, part in sorted(self._parts[name].items()))
        fits = len(a) >= 2 and len(b) >= 2 and a[0] == b[1]
        if self._is_embedding(name):
            fits = fits and (a[1], b[0]) == shape
        else:
            fits = fits and b[0] == shape[0] and math.prod(a[1:]) == math.prod(shape[1:])
        if not fits or any(math.prod(vector) != shape[0] for vector in lengths):
            raise ModelError(
                f"{self.directory / WEIGHTS}: {a} and {b} do not fit {name} of the shape {shape}",
                "give the model that it was trained on",
            )

    def merge(self, name: str, weights: NDArray[Any], start: int) -> NDArray[Any]:
        """Return `weights`, rows of the base's tensor `name` from `start` on, plus what the adapter adds to them."""
        if name not in self._parts:
            return weights
        weights = weights.astype(np.float32)
        a, b = (self._tensors.rows(self._parts[name][part]).astype(np.float32) for part in "AB")
        stop, rank = start + len(weights), len(a)
        scale = self._scale(name, rank)
        if self._is_embedding(name):
            weights += scale * (a[:, start:stop].T @ b.T)
            return weights
        delta = b.reshape(len(b), rank)[start:stop] @ a.reshape(rank, -1)
        weights += scale * delta.reshape(weights.shape)
        if "magnitude" in self._parts[name]:
            lengths = self._tensors.rows(self._parts[name]["magnitude"]).astype(np.float32).ravel()[start:stop]
            flat = weights.reshape(len(weights), -1)
            np.multiply(flat, (lengths / np.linalg.norm(flat, axis=1))[:, None], out=flat)
        return weights

    def _config(self) -> dict[str, Any]:
        path = self.directory / CONFIG
        config = read_json(path)
        kind = config.get("peft_type")
        if kind != "LORA":
            raise ModelError(f"{path}: an adapter of type {kind!r}", "only LORA can be merged")
        for key in _UNSUPPORTED:
            if config.get(key):
                raise ModelError(f"{path}: {key} is set", _MERGE_ADVICE)
        initial = config.get("init_lora_weights")
        if isinstance(initial, str) and initial.lower().startswith(_CHANGES_BASE):
            raise ModelError(f"{path}: init_lora_weights is {initial!r}, which changes the base model", _MERGE_ADVICE)
        return config

    def _sort_in(self, name: str) -> None:
        """Add one tensor of the adapter to the parts of its target, or to `replaced`."""
        bare = name.removeprefix(_ROOT)
        for ending, part in _PARTS.items():
            if bare.endswith(ending):
                target = bare.removesuffix(ending).removesuffix(".base_layer") + ".weight"
                self._parts.setdefault(target, {})[part] = name
                return
        if ".lora_" in bare:
            raise ModelError(
                f"{self.directory / WEIGHTS}: {name} is of a kind that is not merged here",
                _MERGE_ADVICE,
            )
        self.replaced[bare.replace(".base_layer.", ".")] = name

    def _is_embedding(self, name: str) -> bool:
        return "embedding_A" in self._parts[name]["A"]

    def _scale(self, name: str, rank: int) -> float:
        module = name.removesuffix(".weight")
        by_pattern = [alpha for pattern, alpha in self._alphas if pattern.fullmatch(module)]
        return [*by_pattern, self._alpha][0] / (math.sqrt(rank) if self._rslora else rank)


def _alpha(value: Any) -> float:
    if not abs(float(value)) <= MAX_ALPHA:
        raise UnconvertibleError(f"lora_alpha is {value}", f"a number up to {MAX_ALPHA:g} is wanted")
    return float(value)
