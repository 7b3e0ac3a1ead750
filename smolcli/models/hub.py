"""Fetches model files from the Hugging Face hub into its standard cache.

    pull("256m")                                # the GGUF pair, both halves
    pull("org/name", "checkpoint")              # the checkpoint of any repository
    pull("2.2b", "gguf", quant="q4_k_m")

What is in the cache is not fetched again, so after a pull that broke off the same command continues it. Models that
smolcli does not run, and those that are not whole, are refused before their weights are fetched. The files of the
catalog are compared with what it knows of them: bytes and SHA-256.
The hub's own settings apply: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HTTPS_PROXY.
"""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from smolcli.errors import ModelError, OfflineError, SmolError
from smolcli.models import catalog, family, hub_cache, resolve
from smolcli.models import files as model_files
from smolcli.models.catalog_facts import KnownRepo, facts_of, find_repository
from smolcli.models.files import ModelFiles
from smolcli.models.gguf_header import read_first_keys
from smolcli.models.hub_download import download, endpoint, kept_bytes, read_start
from smolcli.models.hub_known import Comparison
from smolcli.models.hub_select import Format, select_files
from smolcli.system.disk_space import check_free_space

FREE_SPACE_ADVICE = "free some space, or set HF_HOME to a larger disk"
LARGE_FILES = (".safetensors", ".gguf")  # that go on where an earlier download ended
MAX_JSON_BYTES = 1 << 25
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FOLDER_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A repository, the revision of it that is asked for (None is main), and what the catalog knows of it."""

    repo: str
    revision: str | None = None
    known: KnownRepo | None = None

    def read_start(self, name: str, count: int) -> bytes:
        """Return the first `count` bytes of a file. Raises what huggingface_hub raises."""
        return read_start(self.repo, name, count, self.revision)


@dataclass(frozen=True)
class RemoteFile:
    """What the hub announces of a file: its bytes, and the SHA-256 of a large one."""

    size: int
    sha256: str | None


def pull(
    name: str,
    file_format: Format = "auto",
    quant: str | None = None,
    offline: bool = False,
    revision: str | None = None,
) -> ModelFiles:
    """Fetch a catalog name or hub id and return its files; the library draws its bars on a terminal's standard error.

    `file_format` auto is the GGUF pair, or the checkpoint of a hub id that has no pair. `quant` chooses the
    quantization of the language half, by default the one that the catalog recommends. `revision` is a branch, tag or
    commit. With `offline`, or HF_HUB_OFFLINE=1, nothing is fetched. The notice of what is returned says where a
    repository was made again since the catalog was written.
    Raises ModelError (no such model or quantization, not one that smolcli runs, not what was published, not allowed,
    disk full) and OfflineError (no network, or offline and not in the cache).
    """
    if name == catalog.NANO:
        return resolve.find_files(name)
    if name not in catalog.CATALOG and not hub_cache.HUB_ID.fullmatch(name):
        raise ModelError(f"{name}: not a known name or Hugging Face id", resolve.advise_name(name))
    if offline or hub_cache.is_offline():
        return _require_cached(name, file_format, quant, "--offline" if offline else "HF_HUB_OFFLINE", revision)
    entry = catalog.CATALOG.get(name)
    quant = quant or (entry.quant if entry else None)
    files = ModelFiles(name)
    notices: list[str] = []
    for source, repo_format in _sources(name, file_format, revision):
        with _explained(source.repo):
            announced, commit = _list_files(source)
            pinned = replace(source, revision=commit)  # main may move between this and the last of the requests
            selected = select_files(source.repo, list(announced), repo_format, quant)
            selected = check_model(pinned, selected)
            comparison = Comparison(source.known, commit) if source.known is not None else None
            if comparison is not None:
                comparison.check_announced({file: (announced[file].size, announced[file].sha256) for file in selected})
            sizes = {file: announced[file].size for file in selected}
            folder, unverified = _fetch(pinned, commit, sizes, comparison)
            if comparison is not None:
                comparison.check_fetched(folder, unverified)
                notices += comparison.notices()
            hub_cache.record_commit(source.repo, source.revision or "main", commit)
        files = _with(files, folder, selected)
    return replace(files, notice="; ".join(notices))


def check_model(source: Source, selected: list[str]) -> list[str]:
    """Check, before weights are fetched, that the selected files are a whole model that can be run here.

    Returns the files without weights that the checkpoint does not name. Raises ModelError, UnavailableError where
    llama.cpp alone runs it and is not installed, and what huggingface_hub raises.
    """
    keys = {
        model_files.is_mmproj(name): read_first_keys(
            source.read_start(name, family.HEADER_BYTES), f"{source.repo}: {name}"
        )
        for name in selected
        if name.endswith(".gguf")
    }
    if keys:
        family.check_pair(source.repo, keys[False], keys[True])
    if "config.json" not in selected:
        return selected
    family.check_config(source.repo, _read_json(source, "config.json"))
    weights = _needed_weights(source, selected)
    return [name for name in selected if not name.endswith(".safetensors") or name in weights]


def _needed_weights(source: Source, selected: Iterable[str]) -> list[str]:
    """List the files of weights that a checkpoint is made of. Raises ModelError if one of them is not there."""
    weights = [model_files.WEIGHTS]
    if model_files.WEIGHT_INDEX in selected:
        index = _read_json(source, model_files.WEIGHT_INDEX)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        names = list(weight_map.values()) if isinstance(weight_map, dict) else []
        weights = sorted(set(names)) if all(isinstance(name, str) for name in names) else []
    missing = [name for name in weights if name not in selected]
    if missing or not weights:
        message = f"lacks {missing[0]}" if missing else f"has an {model_files.WEIGHT_INDEX} that names no files"
        count = f", and {len(missing) - 1} more of its {len(weights)} files of weights" if len(missing) > 1 else ""
        raise ModelError(
            f"{source.repo}: {message}{count}", "it is not whole: ask its author, or try another repository"
        )
    return weights


def _read_json(source: Source, name: str) -> object:
    """Read a JSON file of a repository. Raises ModelError for one that is not JSON."""
    try:
        return json.loads(source.read_start(name, MAX_JSON_BYTES))
    except (ValueError, RecursionError):
        advice = "ask its author, or try another repository"
        raise ModelError(f"{source.repo}: its {name} is not JSON", advice) from None


def _sources(name: str, file_format: Format, revision: str | None) -> list[tuple[Source, Format]]:
    """List each repository to fetch from, with the format to fetch from it."""
    if name not in catalog.CATALOG:
        return [(Source(name, revision, find_repository(name)), file_format)]
    facts = facts_of(catalog.CATALOG[name])
    if revision is not None and file_format == "all":
        raise ModelError("--revision is one of a single repository, and --for all takes two", "name one format")
    pair, checkpoint = (Source(known.repo, revision, known) for known in (facts.pair, facts.checkpoint))
    sources: list[tuple[Source, Format]] = []
    if file_format != "checkpoint":
        sources.append((pair, "gguf"))
    if file_format in ("checkpoint", "all"):
        sources.append((checkpoint, "checkpoint"))
    return sources


def _require_cached(name: str, file_format: Format, quant: str | None, reason: str, revision: str | None) -> ModelFiles:
    """Return the files in the cache, with a pair of `quant` if that is given. `reason` forbids the network.

    Raises OfflineError if a format or the quantization is not there, and ModelError for a model that smolcli does not
    run.
    """
    files = resolve.find_files(name)
    if revision is not None:
        [(source, _)] = _sources(name, file_format, revision)
        files = replace(hub_cache.cached_files(source.repo, revision), name=name)
    if file_format == "all":
        formats = {"gguf", "checkpoint"}
    elif file_format == "auto":
        formats = {"gguf" if name in catalog.CATALOG else "any"}
    else:
        formats = {file_format}
    if not formats <= files.formats:
        raise OfflineError(f"{name}: not on this machine and {reason} forbids the network", f"pull it without {reason}")
    if quant is not None and file_format != "checkpoint" and files.gguf is not None:
        repo = catalog.CATALOG[name].gguf_repo if name in catalog.CATALOG else name
        pair = hub_cache.cached_pair(repo, quant, revision)
        if pair is None:
            message = f"{name}: not on this machine in {quant.upper()} and {reason} forbids the network"
            raise OfflineError(message, f"pull it without {reason}")
        files = replace(files, gguf=pair.gguf, mmproj=pair.mmproj)
    family.check_files(files)
    return files


def _list_files(source: Source) -> tuple[dict[str, RemoteFile], str]:
    """Map the files of a repository to what the hub announces of them, and tell the commit that it has them at.

    Raises ModelError where that is not the commit that is asked for, and what huggingface_hub raises.
    """
    info = HfApi(endpoint=endpoint()).model_info(source.repo, revision=source.revision, files_metadata=True)
    files = {
        file.rfilename: RemoteFile(file.size or 0, file.lfs.sha256 if file.lfs else None)
        for file in info.siblings or ()
    }
    asked = source.revision if source.revision and _COMMIT.fullmatch(source.revision) else info.sha
    _check_commit(source.repo, asked, info.sha)
    assert info.sha is not None
    return files, info.sha


def _check_commit(repo: str, asked: str | None, commit: str | None) -> None:
    """Check that the hub answers with the commit that is asked for, whose name is a folder's. Raises ModelError."""
    if commit is None or commit != asked or not _FOLDER_NAME.fullmatch(commit):
        message = f"{repo}: the hub answers with the commit {commit}" + (f", not {asked}" if commit != asked else "")
        raise ModelError(message, "pull it from another address (HF_ENDPOINT)")


def _fetch(
    source: Source, commit: str, sizes: Mapping[str, int], comparison: Comparison | None
) -> tuple[Path, list[str]]:
    """Fetch those of the files of a commit that are not in the cache; `sizes` has their bytes.

    Returns their folder, and those whose SHA-256 was not compared with one that the hub or the catalog tells.
    """
    cache, repo = hub_cache.cache_dir(), source.repo
    kept = {file: try_to_load_from_cache(repo, file, cache, revision=commit) for file in sizes}
    missing = [file for file, path in kept.items() if not isinstance(path, str)]
    verified = {file for file, path in kept.items() if isinstance(path, str) and hub_cache.has_digest(Path(path))}
    needed = sum(sizes[file] for file in missing) - kept_bytes(repo, cache)
    check_free_space(cache, max(0, needed), FREE_SPACE_ADVICE, subject=repo, error=ModelError)
    # Unless they are disabled, one of the library's bars is drawn into pipes and log files too.
    with nullcontext() if sys.stderr.isatty() else disable_progress_bars():
        for file in missing:
            if PurePosixPath(file).suffix in LARGE_FILES:
                sha256 = comparison.sha256(file) if comparison is not None else ""
                if download(repo, file, cache, commit, sha256):
                    verified.add(file)
        folder = Path(
            snapshot_download(repo, revision=commit, cache_dir=cache, endpoint=endpoint(), allow_patterns=list(sizes))
        )
    _check_commit(repo, commit, folder.name)
    return folder, [file for file in sizes if file not in verified or not file.endswith(LARGE_FILES)]


def _with(files: ModelFiles, folder: Path, selected: Iterable[str]) -> ModelFiles:
    """Add what was selected and fetched into a folder to the files of a model."""
    for name in selected:
        if model_files.is_mmproj(name):
            files = replace(files, mmproj=folder / name)
        elif name.endswith(".gguf"):
            files = replace(files, gguf=folder / name)
        elif name == "config.json":
            files = replace(files, checkpoint=folder)
    return files


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
    if isinstance(cause, RevisionNotFoundError):
        return ModelError(f"{repo}: has no such revision", "give a branch, a tag or all 40 digits of a commit")
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
