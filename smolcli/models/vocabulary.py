"""Whether a model can write text, which the size of its vocabulary tells; read from its files without loading it."""

from __future__ import annotations

import json

from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.gguf_header import read_header


def has_learned_to_write(files: ModelFiles) -> bool:
    """Whether the model's tokens are words and parts of words, and not letters alone, as nano's are.

    True where the files do not say. Raises ModelError for a GGUF file that is damaged.
    """
    size = vocabulary_size(files)
    return size is None or understands_text(size)


def vocabulary_size(files: ModelFiles) -> int | None:
    """The number of tokens of the model, from config.json or the GGUF header; None where neither says it.

    Raises ModelError for a GGUF file that is damaged.
    """
    if files.checkpoint is not None:
        try:
            config = json.loads((files.checkpoint / "config.json").read_text(encoding="utf-8"))
            return int(config["text_config"]["vocab_size"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the backend says what is wrong with it
    if files.gguf is not None:
        shape = read_header(files.gguf).shapes.get("token_embd.weight")
        return shape[-1] if shape else None
    return None
