"""The fingerprint of a model's files, which is part of each record's id.

Every byte of every file counts: two trainings of one model differ in the middle of files of one size. The digest of a
large file is kept in the disk cache with the file's inode, size and times, so that the file is read once.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from smolcli.errors import ModelError
from smolcli.models.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, TOKENIZER, ModelFiles, weight_files
from smolcli.system.disk_cache import cache_folder, store
from smolcli.system.file_digest import sha256_and_size
from smolcli.system.file_stamp import stamp

# What is read of a checkpoint besides its weights.
CONFIGURATION = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    TOKENIZER,
)
MAX_KEPT = 256  # digests, one of each file
SMALL = 1 << 20  # bytes; a file that has no more is always read, which takes less than a millisecond
# A file may change again within the clock tick of its times, and they stay the same. Its digest is kept only if its
# times are older than the longest tick: the 2 seconds of FAT (Microsoft's FAT specification 1.03, section 6). Git has
# the same rule: its Documentation/technical/racy-git.txt.
LONGEST_TICK = 2.0  # seconds


def fingerprint(files: ModelFiles, backend: str) -> str:
    """Return a hexadecimal SHA-256 that changes with the model's content, and not with its folder or file names.

    It covers the size and the whole content of each file that `backend` reads: the checkpoint or the GGUF pair.
    Raises ModelError for a file that cannot be read.
    """
    total = hashlib.sha256()
    for path in _files_read(files, backend):
        try:
            total.update(_size_and_digest(path))
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})", "check its permissions") from error
    return total.hexdigest()


def _files_read(files: ModelFiles, backend: str) -> Iterator[Path]:
    """Yield the files that `backend` reads, in a fixed order."""
    if files.gguf and files.mmproj and files.format_read_by(backend) == "gguf":
        yield from (files.gguf, files.mmproj)
    elif files.checkpoint:
        yield from (path for name in CONFIGURATION if (path := files.checkpoint / name).is_file())
        yield from weight_files(files.checkpoint)
        if files.adapter:
            names = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, TOKENIZER)
            yield from (path for name in names if (path := files.adapter / name).is_file())


def _size_and_digest(path: Path) -> bytes:
    """Return the size of a file and its SHA-256, from the disk cache if the file is as it was then. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if status.st_size <= SMALL:
            return _measured(file)
        started = time.time()
        kept = cache_folder("fingerprints") / hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
        key = f"{status.st_ino}-{stamp(status)} ".encode()
        with suppress(OSError):
            line = kept.read_bytes()
            if line.startswith(key) and line.endswith(b"\n"):
                os.utime(kept)  # the least recently used digest is removed first
                return line.removeprefix(key)
        size_and_digest = _measured(file)
        is_settled = max(status.st_mtime, status.st_ctime) + LONGEST_TICK < started
        if is_settled and stamp(os.fstat(file.fileno())) == stamp(status):
            with suppress(OSError):  # a folder that cannot be written to costs only time
                store(kept, [key, size_and_digest], MAX_KEPT)
        return size_and_digest


def _measured(file: BinaryIO) -> bytes:
    """Return the number of bytes of an open file and their SHA-256, as text."""
    sha256, size = sha256_and_size(file)
    return f"{size} {sha256}\n".encode()
