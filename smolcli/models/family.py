"""Tells the models of the family that smolcli runs, SmolVLM and Idefics3, from all others, before weights are read.

check_config("org/name", {"model_type": "qwen2_vl"})      # raises ModelError: what is supported, what runs it
check_vision_keys("org/name", {"clip.projector_type": "idefics3"})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolcli.errors import ModelError
from smolcli.models.files import MODEL_TYPES, ModelFiles
from smolcli.models.gguf_header import read_first_keys

PROJECTOR_TYPE = "idefics3"  # of every vision half of the family
LANGUAGE_ARCHITECTURE = "llama"  # of every language half
HEADER_BYTES = 1 << 16  # at the beginning of a GGUF file, in which the keys that are looked at lie


def check_config(name: str, config: object) -> None:
    """Check the config.json of a checkpoint. Raises ModelError, in which the model is called `name`."""
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in MODEL_TYPES:
        message = f"is a model of type {model_type}" if model_type else "has a config.json that names no model_type"
        supported = " and ".join(MODEL_TYPES)
        raise ModelError(f"{name}: {message}, and smolcli runs only {supported}", "transformers may run it")


def check_language_keys(name: str, keys: Mapping[str, Any]) -> None:
    """Check the keys of a language half. Raises ModelError, in which the model is called `name`."""
    architecture = keys.get("general.architecture")
    if architecture != LANGUAGE_ARCHITECTURE:
        raise _not_ours(name, f"its language half is of architecture {architecture}", LANGUAGE_ARCHITECTURE)


def check_vision_keys(name: str, keys: Mapping[str, Any]) -> None:
    """Check the keys of a vision half. Raises ModelError, in which the model is called `name`."""
    projector = keys.get("clip.projector_type", keys.get("clip.vision.projector_type"))
    if projector != PROJECTOR_TYPE:
        raise _not_ours(name, f"its vision half has a projector of type {projector}", PROJECTOR_TYPE)


def check_files(files: ModelFiles) -> None:
    """Check the files of a model on this machine, in each format that is there. Raises ModelError."""
    try:
        if files.checkpoint is not None:
            check_config(files.name, json.loads((files.checkpoint / "config.json").read_text(encoding="utf-8")))
        if files.gguf is not None and files.mmproj is not None:
            check_vision_keys(files.name, _first_keys(files.mmproj))
            check_language_keys(files.name, _first_keys(files.gguf))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{files.name}: its files cannot be read ({error})", "pull or copy the model again") from error


def _first_keys(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return read_first_keys(file.read(HEADER_BYTES), str(path))


def _not_ours(name: str, message: str, supported: str) -> ModelError:
    message = f"{name}: {message}, and smolcli runs only SmolVLM, which has {supported}"
    return ModelError(message, f"llama-mtmd-cli -hf {name} may run it")
