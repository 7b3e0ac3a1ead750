"""Fetches model files from the Hugging Face hub into its standard cache. [huggingface_hub]

    pull("256m")                            # the GGUF pair, both halves
    pull("org/name", "torch")               # the checkpoint of any repository
    pull("2.2b", "llamacpp", quant="q4_k_m")

Files that are here already are not fetched again, so a pull that broke off is repeated with the same command.
The hub's own settings hold: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HTTPS_PROXY.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import Literal

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from smolcli.errors import ModelError, OfflineError, SmolError
from smolcli.models import catalog, hub_cache, resolve
from smolcli.models import files as model_files
from smolcli.models.files import ModelFiles

Format = Literal["auto", "llamacpp", "torch", "all"]
# What a checkpoint is made of; only files at the top of a repository count, which leaves out onnx/ and the like.
CHECKPOINT = (".safetensors", ".json", ".txt", ".jinja", ".model")
CARD = "README.md"  # licence and base model, which a conversion carries on


def pull(name: str, wanted: Format = "auto", quant: str | None = None, *, offline: bool = False) -> ModelFiles:
    """Fetch a registry name or hub id and return its files; the library's bars show on a terminal's standard error.

    `wanted` auto is the GGUF pair, or the checkpoint of a hub id that has no pair; `quant` chooses the language
    half's quantization. With `offline`, or HF_HUB_OFFLINE=1, only what is here is returned.
    Raises ModelError (no such model or quantization, not allowed, disk full) and OfflineError (no network).
    """
    if name == catalog.NANO:
        return resolve.find(name)
    if name not in catalog.CATALOG and not hub_cache.HUB_ID.fullmatch(name):
        raise ModelError(f"{name}: not a known name or hub id", resolve.advise_name(name))
    if offline or hub_cache.is_offline():
        return _here(name, wanted, "--offline" if offline else "HF_HUB_OFFLINE")
    for repo, formats in _repos(name, wanted).items():
        sizes = _sizes(repo)
        _fetch(repo, {file: sizes[file] for file in choose(repo, list(sizes), formats, quant)})
    return resolve.find(name)


def choose(repo: str, names: list[str], wanted: Format, quant: str | None) -> list[str]:
    """The files of `repo` to fetch for `wanted`, of all its file `names`; raises ModelError where there are none."""
    top = [name for name in names if "/" not in name]
    pair = model_files.pair(top, quant)
    checkpoint = {"config.json", "tokenizer.json"} <= set(top) and any(map(_is_safetensors, top))
    if wanted == "auto":
        wanted = "llamacpp" if model_files.languages(top) else "torch"
    if wanted in ("llamacpp", "all") and pair is None:
        quants = sorted(
            {model_files.quantization(name) for name in model_files.languages(top) if model_files.mmproj_of(name, top)}
        )
        if quant and quants:
            raise ModelError(f"{repo}: has no {quant.upper()} pair", f"choose --quant from {', '.join(quants)}")
        raise ModelError(f"{repo}: holds no .gguf with its mmproj", "try --for torch, or another repository")
    if wanted in ("torch", "all") and any(map(_is_pickle, top)) and not any(map(_is_safetensors, top)):
        what = f"{repo}: has its weights in pickle files only, and unpickling runs code"
        raise ModelError(what, "ask its author for safetensors: save_pretrained(..., safe_serialization=True)")
    if wanted in ("torch", "all") and not checkpoint:
        raise ModelError(
            f"{repo}: lacks config.json, tokenizer.json or safetensors", "try --for llamacpp, or another repository"
        )
    files = list(pair or ()) if wanted != "torch" else []
    if wanted != "llamacpp":
        files += [name for name in top if PurePosixPath(name).suffix in CHECKPOINT or name == CARD]
    return files


def _is_pickle(name: str) -> bool:
    return name.endswith((".bin", ".pt", ".pth"))


def _is_safetensors(name: str) -> bool:
    return name.endswith(".safetensors")


def _repos(name: str, wanted: Format) -> dict[str, Format]:
    """The repositories that `name` lies in, and what is wanted of each."""
    if name not in catalog.CATALOG:
        return {name: wanted}
    known = catalog.CATALOG[name]
    repos: dict[str, Format] = {known.gguf_repo: "llamacpp", known.repo: "torch"}
    return {repo: one for repo, one in repos.items() if wanted in (one, "all") or (wanted, one) == ("auto", "llamacpp")}


def _here(name: str, wanted: Format, reason: str) -> ModelFiles:
    found = resolve.find(name)
    auto = "llamacpp" if name in catalog.CATALOG else "either"
    if not all(found.serves(one) for one in {"auto": (auto,), "all": ("llamacpp", "torch")}.get(wanted, (wanted,))):
        raise OfflineError(f"{name}: not on this machine and {reason} forbids the network", f"pull it without {reason}")
    return found


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _sizes(repo: str) -> dict[str, int]:
    """The files of a repository and their sizes in bytes."""
    try:
        info = HfApi(endpoint=_endpoint()).model_info(repo, files_metadata=True)
    except Exception as error:
        raise _failure(repo, error) from error
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}


def _fetch(repo: str, sizes: Mapping[str, int]) -> None:
    cache = hub_cache.cache_dir()
    _check_space(repo, sizes, cache)
    try:
        # Left alone, one of the library's bars is drawn into pipes and log files too.
        with nullcontext() if sys.stderr.isatty() else disable_progress_bars():
            snapshot_download(repo, cache_dir=cache, endpoint=_endpoint(), allow_patterns=list(sizes))
    except Exception as error:
        raise _failure(repo, error) from error


def _check_space(repo: str, sizes: Mapping[str, int], cache: Path) -> None:
    missing = [size for file, size in sizes.items() if not isinstance(try_to_load_from_cache(repo, file, cache), str)]
    place = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if sum(missing) > free:
        raise ModelError(
            f"{repo}: needs {sum(missing) / 1e6:.0f} MB, {place} has {free / 1e6:.0f} MB free",
            "make room, or set HF_HOME to a larger disk",
        )


def _failure(repo: str, error: Exception) -> SmolError:
    """What the hub library raised, as one line.

    The classes of its transport change with its version (requests, httpx, httpx2), so what is not a known answer
    of the hub counts as a network that failed.
    """
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else 0
    if isinstance(cause, GatedRepoError) or status == 403:
        return ModelError(
            f"{repo}: its owner asks for a login and consent",
            f"accept its terms on {_endpoint() or 'https://huggingface.co'}/{repo}, then hf auth login or set HF_TOKEN",
        )
    if isinstance(cause, RepositoryNotFoundError) or status in (401, 404):
        return ModelError(
            f"{repo}: not on the hub, or private", "check the name; for a private model hf auth login or set HF_TOKEN"
        )
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(f"{repo}: the disk is full", "make room, or set HF_HOME to a larger disk, and pull again")
    if isinstance(cause, (PermissionError, NotADirectoryError)):
        return ModelError(f"{repo}: {hub_cache.cache_dir()} cannot be written", "set HF_HOME to a folder of your own")
    if status:
        return OfflineError(f"{repo}: the hub answers {status}", "try again later")
    first = str(cause).strip().partition("\n")[0].partition(". ")[0] or type(cause).__name__
    return OfflineError(
        f"{repo}: the hub cannot be reached ({first})", "check the network and pull again; whole files are kept"
    )
