"""Finds what `models rm` removes: the folders of a model in the hub's cache, and nothing outside of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from smolcli.errors import ModelError, OutputError, UsageError
from smolcli.models import catalog, family, hub_cache, resolve
from smolcli.models.files import scan
from smolcli.models.hub_cache import HUB_ID, PART_SUFFIX, repo_folder


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

    Raises UsageError for what is not of the cache and for a hub id that holds another format than the one asked for,
    and ModelError for what is not there, cannot be read, or may be another program's.
    """
    if name == catalog.NANO:
        raise UsageError(f"{name} is a part of smolcli", "name a model that was pulled")
    if name not in catalog.CATALOG and (not HUB_ID.fullmatch(name) or Path(name).exists()):
        if Path(os.path.expanduser(name)).exists():
            raise UsageError(f"{name}: only models in the cache are removed", "remove files of your own yourself")
        raise ModelError(f"{name}: not a known name or Hugging Face id", resolve.advise_name(name))
    with resolve.readable(name):
        repos = _repos(name, file_format)
        folders = [repo_folder(repo) for repo in repos if repo_folder(repo).is_dir()]
        if not folders:
            raise ModelError(f"{name}: not on this machine", "smolcli models list shows what is")
        for folder in folders:
            if folder.is_symlink():
                raise UsageError(f"{folder}: is a link", "remove it yourself, or what it points to")
        if name not in catalog.CATALOG:
            _check_formats(name, folders[0], file_format)
        return Removal(tuple(folders), sum(map(_bytes, folders)))


def _repos(name: str, file_format: str) -> list[str]:
    """The repositories that a catalog name stands for in a format; a hub id stands for itself."""
    if name not in catalog.CATALOG:
        return [name]
    entry = catalog.CATALOG[name]
    formats = {entry.gguf_repo: "gguf", entry.repo: "checkpoint"}
    return [repo for repo, kind in formats.items() if file_format in ("all", kind)]


def _check_formats(repo: str, folder: Path, file_format: str) -> None:
    """Check that all of a repository in the cache is smolcli's to remove, and of the format that is asked for.

    Raises ModelError where another program may have pulled it, and UsageError where it holds another format too.
    """
    entries = catalog.CATALOG.values()
    published = {entry.gguf_repo: "gguf" for entry in entries} | {entry.repo: "checkpoint" for entry in entries}
    formats = {published[repo]} if repo in published else _formats_in(repo, folder)
    if file_format != "all" and formats != {file_format}:
        what = {"gguf": "its GGUF pair", "checkpoint": "its checkpoint"}[file_format]
        raise UsageError(f"{repo}: {what} is not all that it holds", "leave out --for to remove all of it")


def _formats_in(repo: str, folder: Path) -> set[str]:
    """The formats of the models in a folder, each of which can be run. Raises ModelError if one cannot.

    Parts that a pull of smolcli left there have no format that can be told.
    """
    revisions = [path for path in folder.glob("snapshots/*") if next(path.rglob("*"), None) is not None]
    if not revisions and (not _bytes(folder) or any(folder.glob(f"blobs/*{PART_SUFFIX}"))):
        return set()
    if not revisions:
        raise _not_ours(f"{repo}: holds no model that smolcli runs")
    formats: set[str] = set()
    for revision in revisions:
        try:
            files = scan(revision)
            if not files.formats and (revision / "config.json").is_file():  # a pull that broke off
                files = replace(files, checkpoint=revision)
            family.check_files(replace(files, name=repo))
        except ModelError as error:
            raise _not_ours(error.what) from error
        if not files.formats:
            raise _not_ours(f"{repo}: holds no model that smolcli runs")
        formats |= files.formats - {"any"}
    return formats


def _not_ours(what: str) -> ModelError:
    return ModelError(f"{what}; another program may have pulled it", "hf cache rm removes it")


def _bytes(folder: Path) -> int:
    """The bytes of the files in a folder, of which a link has none."""
    paths = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in paths if not path.is_symlink())
