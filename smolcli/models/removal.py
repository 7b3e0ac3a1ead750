"""Finds what `models rm` removes: the folders of a model in the hub's cache, and nothing outside of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smolcli.errors import ModelError, OutputError, UsageError
from smolcli.models import catalog, family, hub_cache, resolve
from smolcli.models.hub_cache import HUB_ID, repo_folder


@dataclass(frozen=True)
class Removal:
    """The folders of a model in the cache, and the bytes in them."""

    folders: tuple[Path, ...]
    bytes: int

    def remove(self) -> None:
        """Remove the folders. Raises OutputError for one that cannot be removed."""
        for folder in self.folders:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                message = f"{error.filename or folder}: cannot be removed ({error.strerror})"
                raise OutputError(message, "check its permissions") from error
            shutil.rmtree(hub_cache.cache_dir() / ".locks" / folder.name, ignore_errors=True)


def find_removal(name: str, file_format: str = "all") -> Removal:
    """Find what to remove of a catalog name or a hub id: its pair (gguf), its checkpoint, or all of it.

    Raises UsageError for what is not of the cache, and ModelError for what is not there or of another family.
    """
    if name == catalog.NANO:
        raise UsageError(f"{name} is a part of smolcli", "name a model that was pulled")
    if name not in catalog.CATALOG and (not HUB_ID.fullmatch(name) or Path(name).exists()):
        if Path(os.path.expanduser(name)).exists():
            raise UsageError(f"{name}: only models in the cache are removed", "remove files of your own yourself")
        raise ModelError(f"{name}: not a known name or Hugging Face id", resolve.advise_name(name))
    repos: Sequence[str] = [name]
    if name in catalog.CATALOG:
        entry = catalog.CATALOG[name]
        formats = {entry.gguf_repo: "gguf", entry.repo: "checkpoint"}
        repos = [repo for repo, kind in formats.items() if file_format in ("all", kind)]
    folders = [repo_folder(repo) for repo in repos if repo_folder(repo).is_dir()]
    if not folders:
        raise ModelError(f"{name}: not on this machine", "smolcli models list shows what is")
    for folder in folders:
        if folder.is_symlink():
            raise UsageError(f"{folder}: is a link", "remove it yourself, or what it points to")
        _check_family(name, folder)
    return Removal(tuple(folders), sum(map(_bytes, folders)))


def _check_family(name: str, folder: Path) -> None:
    """Check that no model of another family is in a folder, which another program has pulled. Raises ModelError."""
    for config in folder.glob("snapshots/*/config.json"):
        try:
            family.check_config(name, json.loads(config.read_text(encoding="utf-8")))
        except ValueError:  # damaged: whose it is cannot be told, and it is of no use
            continue
        except ModelError as error:
            raise ModelError(f"{error.what}; another program has pulled it", "hf cache rm removes it") from error


def _bytes(folder: Path) -> int:
    """The bytes of the files in a folder, of which a link has none."""
    paths = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in paths if not path.is_symlink())
