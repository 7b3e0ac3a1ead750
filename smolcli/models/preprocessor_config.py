"""The settings of a checkpoint's image processor, wherever transformers saved them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from smolcli.errors import ModelError

# The key of a GGUF vision half for do_image_splitting, which llama.cpp has none for and does not read.
SPLITTING_KEY = "clip.vision.do_image_splitting"


def does_split(settings: dict[str, Any]) -> bool:
    """Whether an image processor with these settings cuts pictures into tiles; the reference's default is that it does.

    >>> does_split({}), does_split({"do_image_splitting": False})
    (True, False)
    """
    return settings.get("do_image_splitting") is not False


def read_preprocessor_config(checkpoint: Path) -> dict[str, Any]:
    """Return the settings of the image processor of the checkpoint in a directory; empty if it has none.

    They are the keys of preprocessor_config.json, and over them those of `image_processor` in processor_config.json,
    where transformers 5 saves them. Raises ModelError if one of the files is damaged.
    """
    settings = _read_object(checkpoint / "preprocessor_config.json")
    nested = _read_object(checkpoint / "processor_config.json").get("image_processor") or {}
    if not isinstance(nested, dict):
        raise _damaged(checkpoint / "processor_config.json", "image_processor is not an object")
    return settings | nested


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that does not exist is an empty one."""
    if not os.path.lexists(path):
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise _damaged(path, "not a JSON object")
    return value


def _damaged(path: Path, message: str) -> ModelError:
    return ModelError(f"{path}: {message}", "download or save it again")
