"""A record's id: one SHA-256 over all that decides an answer, so that --resume knows which answers are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import hashlib


def id_options(*options: Any) -> dict[str, Any]:
    """The options that decide answers, by their `id_key`, from dataclasses whose fields were made by options.opt.

    An option at its default is left out, so that an option added later does not change the ids of earlier records.
    A key stays as it is when its field or class is renamed.
    """
    return {
        option.metadata["id_key"]: value
        for group in options
        for option in fields(group)
        if option.metadata.get("id_key") and (value := getattr(group, option.name)) != option.default
    }


@dataclass(frozen=True)
class Identity:
    """What decides an answer beside the medium.

    `fingerprint` is that of the model's files. `options` maps keys to JSON values: all else that changes answers, the
    prompt included.
    """

    task: str
    model: str
    backend: str
    fingerprint: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def id_of(self, sha256: str) -> str:
        """SHA-256, in hex, over the sorted keys and values and the medium's own SHA-256, given in hex.

        The model's name is no part of it: a copy under another name answers alike. Nor is a path or a time.
        """
        return self.digest_of(sha256.encode()).hex()

    def digest_of(self, sha256: bytes) -> bytes:
        """The same in 32 bytes, of the hexadecimal digits of a SHA-256."""
        whole = self._hash_of_options.copy()
        whole.update(sha256)
        return whole.digest()

    @cached_property
    def _hash_of_options(self) -> hashlib._Hash:
        import hashlib  # not above: the help of a task does without both
        import json

        values = {**self.options, "task": self.task, "backend": self.backend, "model": self.fingerprint}
        return hashlib.sha256(json.dumps(sorted(values.items()), separators=(",", ":")).encode())
