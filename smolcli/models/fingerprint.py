"""The fingerprint of a model's files, a part of a record's id."""

from __future__ import annotations

import hashlib
import os

from smolcli import registry
from smolcli.errors import ModelError
from smolcli.models.files import ModelFiles, weights

_MIB = 1 << 20


def fingerprint(files: ModelFiles, backend: str) -> str:
    """A hexadecimal SHA-256 that changes with the model's content and not with its place or file names.

    It covers, for each file that `backend` reads (the checkpoint, or the GGUF pair if there is one), its size
    and its first and last MiB: headers, metadata and the ends of the weights, in milliseconds. So an edit in the
    middle of a file that keeps its size is not seen. Raises ModelError for a file that cannot be read.
    """
    if files.gguf and files.mmproj and registry.BACKENDS[backend].file_format != "checkpoint":
        read = [files.gguf, files.mmproj]
    elif files.checkpoint:
        configs = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json")
        read = [files.checkpoint / name for name in configs if (files.checkpoint / name).is_file()]
        read += weights(files.checkpoint)
    else:
        read = []
    total = hashlib.sha256()
    for path in read:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                total.update(b"%d " % size + file.read(_MIB))
                file.seek(max(size - _MIB, 0))
                total.update(file.read(_MIB))
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})", "check its rights") from error
    return total.hexdigest()
