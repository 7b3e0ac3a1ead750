"""The cache of huggingface_hub, read as the plain directories it is; nothing here touches the network."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from smolcli.errors import ModelError
from smolcli.models.catalog import CATALOG
from smolcli.models.files import MODEL_TYPES, ModelFiles, scan

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def cache_dir() -> Path:
    """The hub's cache, by huggingface_hub's own rule: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ..."""
    env = os.environ
    home = env.get("HF_HOME", os.path.join(env.get("XDG_CACHE_HOME", os.path.join("~", ".cache")), "huggingface"))
    place = env.get("HF_HUB_CACHE", env.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub")))
    return Path(os.path.expandvars(os.path.expanduser(place)))


def is_offline() -> bool:
    """Whether the user's environment forbids the network, by huggingface_hub's own rule."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def cached_ids() -> list[str]:
    """The hub ids in the cache, outside the table, that hold a GGUF pair or a SmolVLM or Idefics3 checkpoint."""
    own = {repo for known in CATALOG.values() for repo in (known.repo, known.gguf_repo)}
    folders = sorted(cache_dir().glob("models--*--*"))
    ids = ["/".join(folder.name.split("--", 2)[1:]) for folder in folders]
    return [repo for repo in ids if repo not in own and _runs(repo)]


def _runs(repo: str) -> bool:
    """Whether what the cache has of it can be run; what is damaged there is told when it is asked for."""
    try:
        return _usable(_cached(repo))
    except (ModelError, OSError):
        return False


def _cached(repo: str) -> ModelFiles:
    """What the hub's cache holds of a repository, the revision of `main` before others."""
    found = ModelFiles(repo)
    for snapshot in _snapshots(cache_dir() / f"models--{repo.replace('/', '--')}"):
        one = scan(snapshot)
        if found.checkpoint is None:
            found = replace(found, checkpoint=one.checkpoint)
        if found.gguf is None:
            found = replace(found, gguf=one.gguf, mmproj=one.mmproj)
    return found


def _snapshots(folder: Path) -> Iterator[Path]:
    main = folder / "refs" / "main"
    revision = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    snapshots = [path for path in folder.glob("snapshots/*") if path.is_dir()]
    yield from sorted(snapshots, key=lambda path: (path.name != revision, -path.stat().st_mtime))


def _usable(found: ModelFiles) -> bool:
    if found.serves("llamacpp") or found.checkpoint is None:
        return found.serves("llamacpp")
    try:
        config = json.loads((found.checkpoint / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(config, dict) and config.get("model_type") in MODEL_TYPES
