"""system/file_digest.py: the digest of all bytes, however many blocks they take."""

import hashlib
import io

import pytest

from smolcli.system import file_digest
from smolcli.system.file_digest import sha256_and_size


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 24])
def test_every_byte_counts(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_digest, "BLOCK_BYTES", 8)
    data = bytes(range(size))
    assert sha256_and_size(io.BytesIO(data)) == (hashlib.sha256(data).hexdigest(), size)
