"""The SHA-256 of files of any size, read in blocks; hashlib.file_digest needs Python 3.11."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

BLOCK_BYTES = 2**20


def sha256_and_size(file: BinaryIO) -> tuple[str, int]:
    """Return the SHA-256, in hexadecimal, and the number of the bytes from an open file's position to its end."""
    digest, size = hashlib.sha256(), 0
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size
