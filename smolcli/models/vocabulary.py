"""What the vocabulary of a model tells of it, read from its files without loading it.

Its size tells whether the model can write text, and one of its tokens whether it writes DocTags.
"""

from __future__ import annotations

import json
from functools import lru_cache

from smolcli.models.chat_template import DOCTAG
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.gguf_header import read_header

VOCABULARY_KEY = "tokenizer.ggml.tokens"


def has_learned_to_write(files: ModelFiles) -> bool:
    """Whether the model's tokens are words and parts of words, and not letters alone, as nano's are.

    True where the files do not say. Raises ModelError for a GGUF file that is damaged.
    """
    size = vocabulary_size(files)
    return size is None or understands_text(size)


@lru_cache(maxsize=1)  # the vocabulary is a megabyte, and a task asks for every input
def writes_doctags(files: ModelFiles) -> bool:
    """Whether the model was taught to write pages as DocTags, which are tokens of its own; False where no file says it.

    Raises ModelError for a GGUF file that is damaged.
    """
    if files.tokenizer is not None:
        try:
            return f'"{DOCTAG}"'.encode() in files.tokenizer.read_bytes()  # parsing 7 MB would take a tenth of a second
        except OSError:
            return False  # the backend says what is wrong with it
    if files.gguf is not None:
        tokens = read_header(files.gguf, with_strings=True).keys.get(VOCABULARY_KEY)
        return isinstance(tokens, list) and DOCTAG in tokens
    return False


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
