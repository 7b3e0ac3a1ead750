"""Compares the files of a repository with what the catalog knows of them: bytes and SHA-256.

At the commit that the catalog knows, another file is an error. At any other commit it tells that the repository was
made again since the catalog was written; then the hub's own digests alone are checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from smolcli.errors import ModelError
from smolcli.models import hub_cache
from smolcli.models.catalog_facts import KnownRepo
from smolcli.system.file_digest import sha256_and_size


class Comparison:
    """What of the repository `known` is not as the catalog knows it; `commit` is the one that is pulled."""

    def __init__(self, known: KnownRepo, commit: str | None) -> None:
        self._known = known
        self._is_known_commit = known.is_at(commit)
        self._changed: dict[str, str] = {}  # file -> in what it differs

    def check_announced(self, files: Mapping[str, tuple[int, str | None]]) -> None:
        """Compare the bytes and the SHA-256 (None where it is not told) that the hub announces, by file.

        Raises ModelError for another file at the known commit.
        """
        for file, (size, sha256) in files.items():
            self._compare(file, size, sha256)

    def check_fetched(self, folder: Path, files: Iterable[str]) -> None:
        """Compare files whose SHA-256 was not compared as they were fetched, and remove those that are refused.

        Raises ModelError as check_announced does.
        """
        refused: dict[Path, ModelError] = {}
        for file in files:
            if file not in self._known.files:
                continue
            with (folder / file).open("rb") as opened:
                sha256, size = sha256_and_size(opened)
            try:
                self._compare(file, size, sha256)
            except ModelError as error:
                refused[folder / file] = error
        for path in refused:  # after all were read: files with the same content share it
            hub_cache.forget(path)
        if refused:
            raise next(iter(refused.values()))

    def sha256(self, file: str) -> str:
        """The SHA-256 that a file must have, or the first digits of it; "" where any content is taken."""
        known = self._known.files.get(file)
        return known.sha256 if known is not None and file not in self._changed else ""

    def notices(self) -> Iterator[str]:
        """Yield a line where the repository was made again since."""
        if not self._changed:
            return
        file, difference = next(iter(self._changed.items()))
        others = f" and {len(self._changed) - 1} more" if len(self._changed) > 1 else ""
        line = f"{self._known.repo}: was made again since smolcli's list of models: {file}{others} {difference}"
        if revision := self._known.full_revision:
            line += f"; --revision {revision} pulls the files that are known"
        yield line

    def _compare(self, file: str, size: int, sha256: str | None) -> None:
        known, earlier = self._known.files.get(file), self._known.earlier.get(file)
        if known is None or known.is_like(size, sha256) or file in self._changed:
            return
        is_size = known.bytes not in (None, size)
        difference = f"has {size:,} bytes, not {known.bytes:,}" if is_size else f"has the SHA-256 {sha256}"
        if self._is_known_commit:
            message = f"{self._known.repo}: {file} {difference}, and is not the file that was published"
            raise ModelError(message, "pull it from another address (HF_ENDPOINT), or tell the authors of smolcli")
        if earlier is not None and earlier.is_like(size, sha256):
            difference += ", as before it was made again"
        self._changed[file] = difference
