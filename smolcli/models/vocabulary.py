"""What the vocabulary of a model tells of it, read from its files without loading it.

Its size tells whether the model can write text, and one of its tokens whether it writes DocTags.
"""

from __future__ import annotations

import json
from functools import lru_cache

from smolcli.models.chat_template import DOCTAG
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.gguf_header import read_header

VOCABULARY_BYTES = 1 << 24  # at the beginning of a file, in which its vocabulary is; the largest has 7 MB


def has_learned_to_write(files: ModelFiles) -> bool:
    """Whether the model's tokens are words and parts of words, and not letters alone, as nano's are.

    True where the files do not say. Raises ModelError for a GGUF file that is damaged.
    """
    size = vocabulary_size(files)
    return size is None or understands_text(size)


@lru_cache(maxsize=1)  # the vocabulary has megabytes, and a task asks for every input
def writes_doctags(files: ModelFiles) -> bool:
    """Whether the model was taught to write pages as DocTags, which are tokens of its own; False where no file says it.

    The bytes of the token are looked for: parsing a vocabulary takes a tenth of a second.
    """
    token, path = DOCTAG.encode(), files.tokenizer or files.gguf
    if path is None:
        return False
    # In JSON a text stands in quotes, in GGUF after its length.
    stored = b'"%s"' % token if path == files.tokenizer else len(token).to_bytes(8, "little") + token
    try:
        with path.open("rb") as file:
            return stored in file.read(VOCABULARY_BYTES)
    except OSError:
        return False  # the backend says what is wrong with it


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
