"""Reads the cache of huggingface_hub as plain directories, without loading the library or using the network."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from smolcli.errors import ModelError
from smolcli.models import family
from smolcli.models.catalog import CATALOG
from smolcli.models.files import ModelFiles, quantization, scan

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
PART_SUFFIX = ".smolcli.incomplete"  # of what a pull that broke off has fetched of a file


def cache_dir() -> Path:
    """Return the hub's cache by huggingface_hub's rule: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub."""
    env = os.environ
    home = env.get("HF_HOME", os.path.join(env.get("XDG_CACHE_HOME", os.path.join("~", ".cache")), "huggingface"))
    folder = env.get("HF_HUB_CACHE", env.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub")))
    return Path(os.path.expandvars(os.path.expanduser(folder)))


def is_offline() -> bool:
    """Whether the environment forbids the network, by huggingface_hub's rule."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def cached_ids() -> list[str]:
    """List the hub ids in the cache, without those of the catalog, whose model smolcli can run."""
    in_catalog = {repo for entry in CATALOG.values() for repo in (entry.repo, entry.gguf_repo)}
    folders = sorted(cache_dir().glob("models--*--*"))
    ids = ["/".join(folder.name.split("--", 2)[1:]) for folder in folders]
    return [repo for repo in ids if repo not in in_catalog and _can_run(repo)]


def cached_files(repo: str, revision: str | None = None, quant: str | None = None) -> ModelFiles:
    """Find the files of a repository in the cache; the revision of `main` is preferred to others.

    With `revision`, a commit or a name of one, only its files are looked at. A language half of `quant` is preferred.

    Raises ModelError for an index of weights that cannot be read.
    """
    files = ModelFiles(repo)
    for snapshot in snapshots(repo, revision):
        scanned = scan(snapshot, quant)
        if files.checkpoint is None:
            files = replace(files, checkpoint=scanned.checkpoint)
        if files.gguf is None:
            files = replace(files, gguf=scanned.gguf, mmproj=scanned.mmproj)
    return files


def cached_pair(repo: str, quant: str, revision: str | None = None) -> ModelFiles | None:
    """Find a GGUF pair of exactly `quant` (in any case) in the revisions of a repository; None if there is none."""
    for snapshot in snapshots(repo, revision):
        files = scan(snapshot, quant)
        if files.gguf is not None and quantization(files.gguf.name) == quant.upper():
            return files
    return None


def has_digest(path: Path) -> bool:
    """Whether a file in the cache lies there under the SHA-256 that the hub announced of it."""
    return path.is_symlink() and _SHA256.fullmatch(Path(os.readlink(path)).name) is not None


def forget(path: Path) -> None:
    """Remove a file of a revision and its content. Raises OSError."""
    content = path.parent / os.readlink(path) if path.is_symlink() else path
    path.unlink()
    content.unlink(missing_ok=True)


def record_commit(repo: str, revision: str, commit: str) -> None:
    """Note for which commit a branch or tag stands, as huggingface_hub does. Raises OSError."""
    ref = repo_folder(repo) / "refs" / revision
    if revision != commit and not (ref.is_file() and ref.read_text(encoding="utf-8") == commit):
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit, encoding="utf-8")


def repo_folder(repo: str) -> Path:
    """The folder of a repository in the cache, whether it is there or not."""
    return cache_dir() / f"models--{repo.replace('/', '--')}"


def snapshots(repo: str, revision: str | None = None) -> list[Path]:
    """The folders of a repository's revisions in the cache: main, then the newest first; or `revision` alone."""
    folder = repo_folder(repo)
    commit = _commit(folder, revision or "main")
    paths = [path for path in folder.glob("snapshots/*") if path.is_dir()]
    if revision is not None:
        return [path for path in paths if path.name == commit]
    return sorted(paths, key=lambda path: (path.name != commit, -path.stat().st_mtime))


def _commit(folder: Path, revision: str) -> str:
    """The commit that a branch or tag stood for when it was pulled; a commit stands for itself."""
    ref = folder / "refs" / revision
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision


def _can_run(repo: str) -> bool:
    """Whether the cache has a GGUF pair or a checkpoint of a repository, and it can be run.

    Damaged files are an error only when the user asks for that model.
    """
    try:
        files = cached_files(repo)
        family.check_files(files)
        return bool(files.formats)
    except (ModelError, OSError):
        return False
