"""Tells the models of smolcli's own family, SmolVLM and Idefics3, from others, before weights are read.

check_config("org/name", {"model_type": "qwen2_vl"})      # raises ModelError: what is supported, what runs it
pair_family(files)                                        # PairFamily("qwen2vl", "qwen2vl_merger")

A checkpoint must be one of the family. A GGUF pair may be of any family that llama.cpp knows, which alone runs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolcli import registry
from smolcli.errors import ModelError
from smolcli.models.files import MODEL_TYPES, ModelFiles
from smolcli.models.gguf_header import read_first_keys
from smolcli.models.vocabulary import writes_doctags

HEADER_BYTES = 1 << 16  # at the beginning of a GGUF file, in which the keys that are looked at lie
TEMPLATE_KEY = "tokenizer.chat_template"
VISION_ARCHITECTURE = "clip"  # of every vision half
PROJECTOR_KEYS = ("clip.projector_type", "clip.vision.projector_type")
BASE_NOTICE = "gets the text without turns of a conversation and goes on with it, as with --raw"
MERGE_KEYS = ("clip.vision.spatial_merge_size", "clip.vision.projector.scale_factor")
# Patches along a side that become one token where the file does not say it, of clip.cpp.
MERGE_OF = {"qwen2vl_merger": 2, "qwen2.5vl_merger": 2, "qwen3vl_merger": 2, "gemma3": 4, "ldp": 2, "ldpv2": 2}


@dataclass(frozen=True)
class PairFamily:
    """What the halves of a GGUF pair say of themselves: the language half's architecture, the vision half's type."""

    architecture: str
    projector: str

    @property
    def is_own(self) -> bool:
        """Whether it is a SmolVLM or Idefics3 model on Llama, which every backend that reads GGUF runs."""
        return self.architecture == "llama" and self.projector == "idefics3"


def family_of(language_keys: Mapping[str, Any], vision_keys: Mapping[str, Any], name: str) -> PairFamily:
    """Tell the family from the keys of both headers. Raises ModelError, in which the model is called `name`."""
    architecture = language_keys.get("general.architecture")
    projector = next((vision_keys[key] for key in PROJECTOR_KEYS if key in vision_keys), None)
    vision_architecture = vision_keys.get("general.architecture", VISION_ARCHITECTURE)
    if vision_architecture != VISION_ARCHITECTURE or not isinstance(projector, str):
        raise ModelError(f"{name}: its mmproj is not a vision half", "give the mmproj made with the language half")
    if not isinstance(architecture, str) or architecture == VISION_ARCHITECTURE:
        raise ModelError(f"{name}: its language half is not a language model", "give the language half of the pair")
    return PairFamily(architecture, projector)


def pair_family(files: ModelFiles) -> PairFamily:
    """Tell the family of a pair on this machine. Raises ModelError for files that are no pair or cannot be read."""
    assert files.gguf is not None and files.mmproj is not None
    try:
        return family_of(_first_keys(files.gguf), _first_keys(files.mmproj), files.name)
    except OSError as error:
        raise _unreadable(files, error) from error


def is_base(files: ModelFiles) -> bool:
    """Whether the files are those of a base model of the own family, which was not trained on turns."""
    return files.is_base and bool(files.formats) and not is_other_family(files)


def turns_options(files: ModelFiles) -> dict[str, Any]:
    """Return what the turns of a model add to the options of an Identity; nothing where they are SmolVLM's.

    The same files under another name may be asked in turns, and earlier versions asked docling's models in SmolVLM's.
    """
    if is_base(files):
        return {"raw": True}  # as with --raw
    return {"turns": "docling"} if writes_doctags(files) else {}


def is_other_family(files: ModelFiles) -> bool:
    """Whether the files are a pair that is not of the own family; False where they cannot tell."""
    try:
        return files.gguf is not None and files.mmproj is not None and not pair_family(files).is_own
    except ModelError:
        return False  # whatever loads them says what is wrong


def backends_here(files: ModelFiles) -> list[str]:
    """The names of the installed backends that can run a model, sorted."""
    names = files.backends_here()
    if is_other_family(files):
        names = [
            name
            for name in names
            if registry.BACKENDS[name].other_families or files.format_read_by(name) == "checkpoint"
        ]
    return names


def check_config(name: str, config: object) -> None:
    """Check the config.json of a checkpoint. Raises ModelError, in which the model is called `name`."""
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in MODEL_TYPES:
        message = f"is a model of type {model_type}" if model_type else "has a config.json that names no model_type"
        supported = " and ".join(MODEL_TYPES)
        raise ModelError(f"{name}: {message}, and smolcli runs only {supported}", "transformers may run it")


def check_pair(name: str, language_keys: Mapping[str, Any], vision_keys: Mapping[str, Any]) -> None:
    """Check that a pair is of a family that can be run here, by its keys.

    Raises ModelError, in which the model is called `name`, for one that the installed llama.cpp does not know, and
    UnavailableError where it is of another family and llama.cpp is not installed.
    """
    family = family_of(language_keys, vision_keys, name)
    if family.is_own:
        return
    part = registry.load(registry.ON_DEMAND, "a model of another family")(family.architecture, family.projector)
    if part:
        raise not_supported(name, part)


def check_own(name: str, language_keys: Mapping[str, Any], vision_keys: Mapping[str, Any]) -> None:
    """Check that a pair is of the own family, by its keys. Raises ModelError, in which the model is called `name`."""
    family = family_of(language_keys, vision_keys, name)
    if not family.is_own:
        raise runs_elsewhere(name, family)


def runs_elsewhere(name: str, family: PairFamily) -> ModelError:
    """The error for a pair of another family, with the backend that runs it."""
    user, entry = next((user, entry) for user, entry in registry.BACKENDS.items() if entry.other_families)
    is_here = registry.installed(entry)
    advice = f"use -b {user}" if is_here else registry.install_command(f"smolcli[{entry.extra}]")
    pair = f"{family.architecture} with {family.projector}"
    return ModelError(f"{name}: is of another family ({pair}), which {entry.title} alone runs", advice)


def not_supported(name: str, part: str) -> ModelError:
    """The error for a pair of which `part`, in words, is unknown to the installed llama.cpp."""
    update = registry.install_command("llama-cpp-python", "-U")
    return ModelError(f"{name}: it has {part}, which this llama.cpp does not know", f"{update} may bring it")


def check_files(files: ModelFiles) -> None:
    """Check the files of a model on this machine, in each format that is there. Raises ModelError.

    Whether llama.cpp knows a pair of another family is not asked.
    """
    try:
        if files.checkpoint is not None:
            check_config(files.name, json.loads((files.checkpoint / "config.json").read_text(encoding="utf-8")))
        if files.gguf is not None and files.mmproj is not None:
            pair_family(files)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(files, error) from error


def picture_size(mmproj: Path, keys: Mapping[str, Any]) -> tuple[int, int]:
    """Return the side in pixels of a vision half's square picture, and the most tokens that one becomes.

    Raises ModelError for a file that does not say it.
    """
    try:
        side, patch = int(keys["clip.vision.image_size"]), int(keys["clip.vision.patch_size"])
        projector = next(keys[key] for key in PROJECTOR_KEYS if key in keys)
        merge = next((int(keys[key]) for key in MERGE_KEYS if key in keys), MERGE_OF.get(projector, 1))
        return side, max(1, -(-side // (patch * merge))) ** 2
    except (KeyError, TypeError, ValueError, ArithmeticError, StopIteration):
        message = f"{mmproj} does not say the sizes of its pictures and patches"
        raise ModelError(message, "give the mmproj of a vision model, or fetch it again") from None


def _first_keys(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return read_first_keys(file.read(HEADER_BYTES), str(path))


def _unreadable(files: ModelFiles, error: Exception) -> ModelError:
    return ModelError(f"{files.name}: its files cannot be read ({error})", "pull or copy the model again")
