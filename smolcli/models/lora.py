"""A LoRA adapter as PEFT saves it, and its merging into the weights of its base model.

The merged weight is W + scale * B @ A, with scale = lora_alpha / r, or lora_alpha / sqrt(r) with rslora
(https://arxiv.org/abs/2106.09685, https://arxiv.org/abs/2312.03732); with DoRA its rows are then scaled to the
lengths that were trained (https://arxiv.org/abs/2402.09353).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli.errors import ModelError
from smolcli.models.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from smolcli.models.safetensors_reader import Tensors, read_json
from smolcli.models.tensor_names import DOWNLOAD_AGAIN, EMBEDDINGS, HEADLESS, LM_HEAD, PEFT_ROOT, PREFIX, Shape

# Settings with which an adapter is not B @ A added to the base's weights.
_UNSUPPORTED = (
    "fan_in_fan_out", "lora_bias", "alora_invocation_tokens", "layer_replication", "kasa_config", "use_bdlora",
)  # fmt: skip
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
MAX_ALPHA = 1e6  # a larger one means a damaged file
SAVE_EMBEDDINGS_ADVICE = "save the adapter with save_pretrained(..., save_embedding_layers=True)"
_BASE_ADVICE = "give the model that it was trained on"
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
    the names in its file, and `wrappers` has what was taken off those names. Raises ModelError for an adapter
    that is not LoRA or has settings that cannot be merged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        config = self._config()
        self.base = str(config.get("base_model_name_or_path") or "")
        self._rslora = bool(config.get("use_rslora"))
        try:
            self._alpha = _alpha(config.get("lora_alpha", 8))
            alphas = (config.get("alpha_pattern") or {}).items()
            self._alphas = [(re.compile(rf"(.*\.)?({key})"), _alpha(alpha)) for key, alpha in alphas]
        except (TypeError, AttributeError, ValueError, re.error) as error:
            raise ModelError(f"{directory / ADAPTER_CONFIG}: damaged ({error!r})", DOWNLOAD_AGAIN) from error
        if not (directory / ADAPTER_WEIGHTS).is_file() and list(directory.glob("*.bin")):
            advice = "save it with save_pretrained(..., safe_serialization=True)"
            raise ModelError(f"{directory}: has its weights in a pickle only, and unpickling runs code", advice)
        self._tensors = Tensors([directory / ADAPTER_WEIGHTS])
        self.wrappers = tuple(wrapper for wrapper in self._tensors.wrappers if wrapper != PEFT_ROOT)
        self._parts: dict[str, dict[str, str]] = {}
        self.replaced: dict[str, str] = {}
        self._names = {name: _own_name(name) for name in self._tensors.names() if ".original_module." not in name}
        if any(own.startswith(HEADLESS) for own in self._names.values()):  # the model was loaded without its head
            self._names = {name: PREFIX + own for name, own in self._names.items()}
        for name, own in self._names.items():
            self._sort_in(name, own)
        for target, parts in self._parts.items():
            if not {"A", "B"} <= parts.keys():
                raise ModelError(f"{directory / ADAPTER_WEIGHTS}: lacks lora_A or lora_B of {target}", DOWNLOAD_AGAIN)
            if "magnitude" in parts and self._is_embedding(target):
                raise ModelError(f"{directory / ADAPTER_WEIGHTS}: has DoRA of the embeddings", _MERGE_ADVICE)
        self.changed = set(self._parts) | set(self.replaced)

    @property
    def vocabulary(self) -> int | None:
        """The rows of the embeddings that it holds whole, which may be more than its base has; None if it has none."""
        return next((self.shape(name)[0] for name in (EMBEDDINGS, LM_HEAD) if name in self.replaced), None)

    def shape(self, name: str) -> Shape:
        """Return the shape of one of `replaced`."""
        return self._tensors.shape(self.replaced[name])

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows `start` to `stop` of one of `replaced`."""
        return self._tensors.rows(self.replaced[name], start, stop)

    def as_peft_names_it(self) -> dict[str, NDArray[Any]]:
        """Return its tensors under the names that PEFT's save_pretrained gives them, in float32 or float16."""
        return {PEFT_ROOT + own: np.ascontiguousarray(self._tensors.rows(name)) for name, own in self._names.items()}

    def check(self, wanted: Mapping[str, Shape], stored: Mapping[str, Shape]) -> None:
        """Raise ModelError unless it fits a base whose tensors have the shapes `stored`, by name.

        `wanted` has the shapes of the merged model, which differ where the adapter has another vocabulary.
        """
        for name in sorted({EMBEDDINGS, LM_HEAD} & stored.keys() - self.replaced.keys()):
            if self.vocabulary not in (None, rows := stored[name][0]):
                message = f"{self.directory / ADAPTER_WEIGHTS}: has {self.vocabulary} tokens, but lacks {name}"
                message += f", of which its base has {rows}"
                raise ModelError(message, SAVE_EMBEDDINGS_ADVICE)
        for name in sorted(self.changed):
            if name not in wanted:
                raise ModelError(f"{self.directory}: has a tensor {name} that the model does not know", _BASE_ADVICE)
            if name in self.replaced and self.shape(name) != wanted[name]:
                message = (
                    f"{self.directory / ADAPTER_WEIGHTS}: {name} has the shape {self.shape(name)}, not {wanted[name]}"
                )
                raise ModelError(message, _BASE_ADVICE)
            if name in self._parts:
                self._check_parts(name, wanted[name])

    def _check_parts(self, name: str, shape: Shape) -> None:
        a, b, *lengths = (self._tensors.shape(part) for _, part in sorted(self._parts[name].items()))
        fits = len(a) >= 2 and len(b) >= 2 and a[0] == b[1]
        if self._is_embedding(name):
            fits = fits and (a[1], b[0]) == shape
        else:
            fits = fits and b[0] == shape[0] and math.prod(a[1:]) == math.prod(shape[1:])
        if not fits or any(math.prod(vector) != shape[0] for vector in lengths):
            raise ModelError(
                f"{self.directory / ADAPTER_WEIGHTS}: {a} and {b} do not fit {name} of the shape {shape}",
                _BASE_ADVICE,
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
        path = self.directory / ADAPTER_CONFIG
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

    def _sort_in(self, name: str, own: str) -> None:
        """Add one tensor to the parts of its target, or to `replaced`; `own` is its name in the model."""
        for ending, part in _PARTS.items():
            if own.endswith(ending):
                target = own.removesuffix(ending).removesuffix(".base_layer") + ".weight"
                self._parts.setdefault(target, {})[part] = name
                return
        if ".lora_" in own or not own.endswith((".weight", ".bias")):
            raise ModelError(
                f"{self.directory / ADAPTER_WEIGHTS}: {name} is of a kind that is not merged here",
                _MERGE_ADVICE,
            )
        self.replaced[own.replace(".base_layer.", ".")] = name

    def _is_embedding(self, name: str) -> bool:
        return "embedding_A" in self._parts[name]["A"]

    def _scale(self, name: str, rank: int) -> float:
        module = name.removesuffix(".weight")
        by_pattern = [alpha for pattern, alpha in self._alphas if pattern.fullmatch(module)]
        return [*by_pattern, self._alpha][0] / (math.sqrt(rank) if self._rslora else rank)


def _own_name(name: str) -> str:
    """Return the name of a tensor of an adapter without what PEFT's own modules add to it.

    A file that was not written by PEFT's save_pretrained has the name of the adapter too, `default`.

    >>> _own_name("base_model.model.lm_head.modules_to_save.default.weight")
    'lm_head.weight'
    """
    own = name.removeprefix(PEFT_ROOT).removesuffix(".default").replace(".default.", ".")
    return own.replace(".modules_to_save.", ".")


def _alpha(value: Any) -> float:
    if not abs(float(value)) <= MAX_ALPHA:
        raise ValueError(f"lora_alpha is {value}, more than {MAX_ALPHA:g}")
    return float(value)
