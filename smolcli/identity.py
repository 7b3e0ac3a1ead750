"""What decides an answer beside the medium: the task, the model and the options; a record's id is made of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Identity:
    """`fingerprint` is that of the model's files, `options` all else that changes answers, the prompt included."""

    task: str
    model: str
    backend: str
    fingerprint: str = ""
    options: str = ""

    def id_of(self, sha256: str) -> str:
        """SHA-256, in hex, over the task, the backend, the model's files, the options and the medium's own SHA-256.

        The model's name is no part of it: a copy under another name answers alike. Nor is a path or a time.
        """
        return self.digest_of(sha256.encode()).hex()

    def digest_of(self, sha256: bytes) -> bytes:
        """The same in 32 bytes, of the hexadecimal digits of a SHA-256."""
        whole = self._begun.copy()
        whole.update(sha256)
        return whole.digest()

    @cached_property
    def _begun(self) -> hashlib._Hash:
        return hashlib.sha256(json.dumps([self.task, self.backend, self.fingerprint, self.options]).encode())
