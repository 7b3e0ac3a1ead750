"""The fingerprint of a model's files, which is part of each record's id."""

from __future__ import annotations

import hashlib
import os

from smolcli import registry
from smolcli.errors import ModelError
from smolcli.models.files import ModelFiles, weight_files

_MIB = 1 << 20


def fingerprint(files: ModelFiles, backend: str) -> str:
    """Return a hexadecimal SHA-256 that changes with the model's content, and not with its folder or file names.

    For each file that `backend` reads (the checkpoint, or the GGUF pair if there is one) it covers the size and the
    first and last MiB: headers, metadata and the ends of the weights. That takes milliseconds. A change in the
    middle of a file that keeps its size is not noticed. Raises ModelError for a file that cannot be read.
    """
    paths = []
    if files.gguf and files.mmproj and registry.BACKENDS[backend].file_format != "checkpoint":
        paths = [files.gguf, files.mmproj]
    elif files.checkpoint:
        configs = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json")
        paths = [files.checkpoint / name for name in configs if (files.checkpoint / name).is_file()]
        paths += weight_files(files.checkpoint)
    total = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                total.update(b"%d " % size + file.read(_MIB))
                file.seek(max(size - _MIB, 0))
                total.update(file.read(_MIB))
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})", "check its permissions") from error
    return total.hexdigest()
