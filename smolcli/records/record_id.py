"""A record's id: one SHA-256 over everything that decides an answer, by which --resume finds the answers there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import hashlib


def id_options(*options: Any) -> dict[str, Any]:
    """Return the options that change answers, by their `id_key`.

    `options` are dataclass instances whose fields were made by terminal.option_fields.opt. An option at its default is
    left out, so that an option added later does not change the ids of earlier records. A key stays as it is when its
    field or class is renamed.
    """
    return {
        option.metadata["id_key"]: value
        for group in options
        for option in fields(group)
        if option.metadata.get("id_key") and (value := getattr(group, option.name)) != option.default
    }


def page_content(sha256: bytes, page: int | None) -> bytes:
    """Return what the id is made of: the content's SHA-256 in hex, and the page that the record is about, if any."""
    return sha256 if page is None else b"%s#%d" % (sha256, page)


@dataclass(frozen=True)
class Identity:
    """Everything that decides an answer except the input's content.

    `fingerprint` is that of the model's files. `options` maps keys to JSON values: everything else that changes
    answers, including the prompt.
    """

    task: str
    model: str
    backend: str
    fingerprint: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def id_of(self, sha256: str) -> str:
        """Return the id, 64 hexadecimal digits, of the record of an input whose content has this SHA-256 (in hex).

        It is the SHA-256 of the sorted keys and values followed by the content's SHA-256. The model's name is not part
        of it, because a copy under another name gives the same answers; nor is a path or a time.
        """
        return self.digest_of(sha256.encode()).hex()

    def page_id(self, sha256: str, page: int) -> str:
        """Return the id of the record of one page (--split-pages) of a document with this SHA-256."""
        return self.digest_of(page_content(sha256.encode(), page)).hex()

    def digest_of(self, sha256: bytes) -> bytes:
        """Return the id as 32 bytes; `sha256` is in hexadecimal digits too."""
        digest = self._hash_of_options.copy()
        digest.update(sha256)
        return digest.digest()

    @cached_property
    def _hash_of_options(self) -> hashlib._Hash:
        import hashlib  # not above: the help of a task does without both
        import json

        values = {**self.options, "task": self.task, "backend": self.backend, "model": self.fingerprint}
        return hashlib.sha256(json.dumps(sorted(values.items()), separators=(",", ":")).encode())
