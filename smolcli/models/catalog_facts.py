"""What catalog.toml tells of its models besides their names: revisions, files, sizes, what to beware of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from smolcli.models.catalog import CATALOG, DATA, CatalogEntry
from smolcli.models.files import pair
from smolcli.system.toml import parse_toml

FULL_REVISION = 40  # digits of a commit
FEWEST_DIGITS = 6  # of a digest or commit that is compared by its first digits


@dataclass(frozen=True)
class KnownFile:
    """A published file: its bytes, and its SHA-256 or the first digits of it. None and "" where not published.

    `estimate` is what to tell as the bytes where they were not published.
    """

    bytes: int | None = None
    sha256: str = ""
    estimate: int = 0

    @property
    def size(self) -> int:
        """The bytes, or an estimate."""
        return self.estimate if self.bytes is None else self.bytes

    def is_like(self, size: int | None, sha256: str | None) -> bool:
        """Whether a file of `size` bytes with the digest `sha256` may be this one; None is not known of it."""
        if self.bytes is not None and size is not None and self.bytes != size:
            return False
        return not (self.sha256 and sha256) or sha256.startswith(self.sha256)


@dataclass(frozen=True)
class KnownRepo:
    """A published repository: its commit, the files of it that a pull may take, and files of an earlier making."""

    repo: str
    revision: str
    files: Mapping[str, KnownFile]
    earlier: Mapping[str, KnownFile]
    dtype: str = ""

    @property
    def full_revision(self) -> str:
        """The commit if all of its digits are known, else ""."""
        return self.revision if len(self.revision) == FULL_REVISION else ""

    def is_at(self, commit: str | None) -> bool:
        """Whether `commit` is the one whose files are known."""
        return len(self.revision) >= FEWEST_DIGITS and commit is not None and commit.startswith(self.revision)


@dataclass(frozen=True)
class Facts:
    """What the catalog tells of a model; catalog.toml says what each field means."""

    quant: str
    about: str
    good_for: str
    licence: str
    parameters: int
    context: int
    tile: int
    tile_tokens: int
    picture_tokens: int
    called_wrong: tuple[str, ...]
    beware: tuple[str, ...]
    checkpoint: KnownRepo
    pair: KnownRepo

    @property
    def pair_bytes(self) -> int:
        """The bytes of the GGUF pair that a pull takes."""
        return sum(self.pair.files[name].size for name in pair(self.pair.files, self.quant) or ())

    @property
    def checkpoint_bytes(self) -> int:
        """The bytes of the checkpoint's weights; its other files have some MB more."""
        files = self.checkpoint.files
        return sum(file.size for name, file in files.items() if name.endswith(".safetensors"))


@cache
def _tables() -> dict[str, Any]:
    return parse_toml(DATA.read_text(encoding="utf-8"))


def facts_of(entry: CatalogEntry) -> Facts:
    """All that is known of a model."""
    table = _tables()[entry.name]
    words: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    for head in ("repo", "gguf_repo", "x_height"):
        del words[head]
    words["checkpoint"] = _repository(entry.repo, table["checkpoint"])
    words["pair"] = _repository(entry.gguf_repo, table["pair"])
    return Facts(**words)


def _repository(repo: str, table: Mapping[str, Any]) -> KnownRepo:
    files, earlier = (
        {
            name: KnownFile(file.get("bytes"), file.get("sha256", ""), file.get("about", 0))
            for name, file in table.get(kind, {}).items()
        }
        for kind in ("files", "earlier")
    )
    return KnownRepo(repo, table["revision"], files, earlier, table.get("dtype", ""))


def find_repository(repo: str) -> KnownRepo | None:
    """What is known of a repository by its Hugging Face id; None for one of no model of the catalog."""
    for entry in CATALOG.values():
        if repo in (entry.repo, entry.gguf_repo):
            return facts_of(entry).pair if repo == entry.gguf_repo else facts_of(entry).checkpoint
    return None
