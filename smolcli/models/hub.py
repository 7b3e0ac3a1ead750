"""Fetches model files from the Hugging Face hub into its standard cache.

    pull("256m")                                # the GGUF pair, both halves
    pull("org/name", "checkpoint")              # the checkpoint of any repository
    pull("2.2b", "gguf", quant="q4_k_m")

What is in the cache is not fetched again, so after a pull that broke off the same command continues it. Models that
smolcli does not run, and those that are not whole, are refused before their weights are fetched.
The hub's own settings apply: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HTTPS_PROXY.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import PurePosixPath
from typing import Literal

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from smolcli import registry
from smolcli.errors import ModelError, OfflineError, SmolError
from smolcli.models import catalog, family, hub_cache, resolve
from smolcli.models import files as model_files
from smolcli.models.files import ModelFiles
from smolcli.models.gguf_header import read_first_keys
from smolcli.models.hub_download import download, endpoint, kept_bytes, read_start
from smolcli.system.disk_space import check_free_space

Format = Literal["auto", "checkpoint", "gguf", "all"]
# The files of a checkpoint. Only files at the top of a repository count, which leaves out onnx/ and the like.
CHECKPOINT = (".safetensors", ".json", ".txt", ".jinja", ".model")
FREE_SPACE_ADVICE = "free some space, or set HF_HOME to a larger disk"
LARGE_FILES = (".safetensors", ".gguf")  # that go on where an earlier download ended
MAX_JSON_BYTES = 1 << 25
CARD = "README.md"  # has the licence and the base model, which a conversion copies into the GGUF


def pull(name: str, file_format: Format = "auto", quant: str | None = None, offline: bool = False) -> ModelFiles:
    """Fetch a catalog name or hub id and return its files; the library draws its bars on a terminal's standard error.

    `file_format` auto is the GGUF pair, or the checkpoint of a hub id that has no pair. `quant` chooses the
    quantization of the language half. With `offline`, or HF_HUB_OFFLINE=1, nothing is fetched.
    Raises ModelError (no such model or quantization, not one that smolcli runs, not allowed, disk full) and
    OfflineError (no network, or offline and not in the cache).
    """
    if name == catalog.NANO:
        return resolve.find_files(name)
    if name not in catalog.CATALOG and not hub_cache.HUB_ID.fullmatch(name):
        raise ModelError(f"{name}: not a known name or Hugging Face id", resolve.advise_name(name))
    if offline or hub_cache.is_offline():
        return _require_cached(name, file_format, "--offline" if offline else "HF_HUB_OFFLINE")
    for repo, repo_format in _repos(name, file_format).items():
        sizes = _list_files(repo)
        selected = select_files(repo, list(sizes), repo_format, quant)
        with _explained(repo):
            check_model(repo, selected)
            _fetch(repo, {file: sizes[file] for file in selected})
    return resolve.find_files(name)


def select_files(repo: str, names: list[str], file_format: Format, quant: str | None) -> list[str]:
    """Select the files to fetch in a format among all file `names` of `repo`.

    Raises ModelError if the repository lacks that format or quantization.
    """
    top = [name for name in names if "/" not in name]
    if file_format == "auto":
        suffixes = {PurePosixPath(name).suffix for name in top}
        is_pair = model_files.pair(top) is not None or (".gguf" in suffixes and ".safetensors" not in suffixes)
        file_format = "gguf" if is_pair else "checkpoint"
    files: list[str] = []
    if file_format in ("gguf", "all"):
        files += _select_pair(repo, top, quant)
    if file_format in ("checkpoint", "all"):
        files += _select_checkpoint(repo, top)
    return files


def _select_pair(repo: str, names: list[str], quant: str | None) -> tuple[str, str]:
    pair = model_files.pair(names, quant)
    if pair is not None:
        return pair
    languages = [name for name in model_files.language_halves(names) if model_files.find_mmproj(name, names)]
    quants = sorted({model_files.quantization(name) for name in languages})
    if quant and quants:
        raise ModelError(f"{repo}: has no {quant.upper()} pair", f"choose --quant from {', '.join(quants)}")
    if any(name.endswith(".gguf") for name in names) and not any(map(model_files.is_mmproj, names)):
        message = f"{repo}: holds a language model without its vision half (mmproj)"
        raise ModelError(message, f"llama-cli -hf {repo} may run it, without pictures")
    advice = f"try --for {registry.backends('checkpoint')[0]}, or another repository"
    raise ModelError(f"{repo}: holds no .gguf with its mmproj", advice)


def _select_checkpoint(repo: str, names: list[str]) -> list[str]:
    has_safetensors = any(name.endswith(".safetensors") for name in names)
    if not has_safetensors and any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        message = f"{repo}: has its weights in pickle files only, and unpickling runs code"
        raise ModelError(message, "ask its author for safetensors: save_pretrained(..., safe_serialization=True)")
    if not has_safetensors or not {"config.json", "tokenizer.json"} <= set(names):
        advice = f"try --for {registry.backends('gguf')[0]}, or another repository"
        raise ModelError(f"{repo}: lacks config.json, tokenizer.json or safetensors", advice)
    return [name for name in names if PurePosixPath(name).suffix in CHECKPOINT or name == CARD]


def check_model(repo: str, selected: list[str]) -> None:
    """Check, before weights are fetched, that the selected files are a whole model of the family that smolcli runs.

    Raises ModelError, and what huggingface_hub raises.
    """
    pair = [name for name in selected if name.endswith(".gguf")]
    for name in pair:
        keys = read_first_keys(read_start(repo, name, family.HEADER_BYTES), f"{repo}: {name}")
        check = family.check_vision_keys if model_files.is_mmproj(name) else family.check_language_keys
        check(repo, keys)
    if "config.json" in selected:
        family.check_config(repo, _read_json(repo, "config.json"))
        _check_weights(repo, selected)


def _check_weights(repo: str, selected: list[str]) -> None:
    """Check that the files of weights which a checkpoint is made of are there. Raises ModelError."""
    weights = [model_files.WEIGHTS]
    if model_files.WEIGHT_INDEX in selected:
        index = _read_json(repo, model_files.WEIGHT_INDEX)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        weights = sorted(set(weight_map.values())) if isinstance(weight_map, dict) else []
    missing = [name for name in weights if name not in selected]
    if missing or not weights:
        message = f"lacks {missing[0]}" if missing else f"has an {model_files.WEIGHT_INDEX} that names no files"
        count = f", and {len(missing) - 1} more of its {len(weights)} files of weights" if len(missing) > 1 else ""
        raise ModelError(f"{repo}: {message}{count}", "it is not whole: ask its author, or try another repository")


def _read_json(repo: str, name: str) -> object:
    """Read a JSON file of a repository. Raises ModelError for one that is not JSON."""
    try:
        return json.loads(read_start(repo, name, MAX_JSON_BYTES))
    except ValueError:
        raise ModelError(f"{repo}: its {name} is not JSON", "ask its author, or try another repository") from None


def _repos(name: str, file_format: Format) -> dict[str, Format]:
    """Map each repository to fetch from to the format to fetch from it."""
    if name not in catalog.CATALOG:
        return {name: file_format}
    entry = catalog.CATALOG[name]
    repos: dict[str, Format] = {entry.gguf_repo: "gguf", entry.repo: "checkpoint"}
    if file_format == "all":
        return repos
    only = "gguf" if file_format == "auto" else file_format
    return {repo: repo_format for repo, repo_format in repos.items() if repo_format == only}


def _require_cached(name: str, file_format: Format, reason: str) -> ModelFiles:
    """Return the files in the cache. `reason` forbids the network.

    Raises OfflineError if a format is not there, and ModelError for a model that smolcli does not run.
    """
    files = resolve.find_files(name)
    if file_format == "all":
        formats = {"gguf", "checkpoint"}
    elif file_format == "auto":
        formats = {"gguf" if name in catalog.CATALOG else "any"}
    else:
        formats = {file_format}
    if not formats <= files.formats:
        raise OfflineError(f"{name}: not on this machine and {reason} forbids the network", f"pull it without {reason}")
    family.check_files(files)
    return files


def _list_files(repo: str) -> dict[str, int]:
    """Map the files of a repository to their sizes in bytes."""
    with _explained(repo):
        info = HfApi(endpoint=endpoint()).model_info(repo, files_metadata=True)
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}


def _fetch(repo: str, sizes: Mapping[str, int]) -> None:
    """Fetch those of the files that are not in the cache; `sizes` has their bytes."""
    cache = hub_cache.cache_dir()
    missing = [file for file in sizes if not isinstance(try_to_load_from_cache(repo, file, cache), str)]
    needed = sum(sizes[file] for file in missing) - kept_bytes(repo, cache)
    check_free_space(cache, max(0, needed), FREE_SPACE_ADVICE, subject=repo, error=ModelError)
    # Unless they are disabled, one of the library's bars is drawn into pipes and log files too.
    with nullcontext() if sys.stderr.isatty() else disable_progress_bars():
        for file in missing:
            if PurePosixPath(file).suffix in LARGE_FILES:
                download(repo, file, cache)
        snapshot_download(repo, cache_dir=cache, endpoint=endpoint(), allow_patterns=list(sizes))


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Turn what the hub library raises into the error of one line."""
    try:
        yield
    except SmolError:
        raise
    except Exception as error:
        raise _explain(repo, error) from error


def _explain(repo: str, error: Exception) -> SmolError:
    """The error for what the hub library raised, as one line.

    The exceptions of its HTTP client differ between its versions (requests, httpx, httpx2), so everything that is
    not an error the hub is known to raise counts as a network failure.
    """
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else 0
    if isinstance(cause, GatedRepoError) or status == 403:
        return ModelError(
            f"{repo}: its owner asks for a login and consent",
            f"accept its terms on {endpoint() or 'https://huggingface.co'}/{repo}, then hf auth login or set HF_TOKEN",
        )
    if isinstance(cause, RepositoryNotFoundError) or status in (401, 404):
        return ModelError(
            f"{repo}: not on the hub, or private", "check the name; for a private model hf auth login or set HF_TOKEN"
        )
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(f"{repo}: the disk is full", f"{FREE_SPACE_ADVICE}, and pull again")
    if isinstance(cause, (PermissionError, NotADirectoryError)):
        return ModelError(f"{repo}: {hub_cache.cache_dir()} cannot be written", "set HF_HOME to a folder of your own")
    if status:
        return OfflineError(f"{repo}: the hub answers {status}", "try again later")
    first_sentence = str(cause).strip().partition("\n")[0].partition(". ")[0] or type(cause).__name__
    return OfflineError(
        f"{repo}: the hub cannot be reached ({first_sentence})",
        "check the network and pull again: it goes on where it ended",
    )
