"""Finds the files of a model by its name, without the network.

    resolve(Model(model="256m"), "llamacpp")   # the GGUF pair in the hub's cache
    resolve(Model(model="dir/"), "torch")      # a checkpoint directory
    resolve(Model(), "llamacpp")               # the best model that was pulled, else the built-in nano

No library is loaded: the hub's cache is read as plain directories, `models--org--name/snapshots/<revision>/<file>`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from smolcli import registry
from smolcli.errors import ModelError, UsageError
from smolcli.models.catalog import CATALOG, NANO, NANO_NOTICE
from smolcli.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BUILT_IN,
    ModelFiles,
    find_mmproj,
    is_mmproj,
    scan,
    shards_lacking,
    weight_files,
)
from smolcli.models.hub_cache import HUB_ID, cached_files, cached_ids
from smolcli.models.tensor_names import DOWNLOAD_AGAIN, PEFT_ROOT, stored_types, unwrap, wrapper_notice
from smolcli.options import Model
from smolcli.terminal.words import closest


def model_names() -> list[str]:
    """List the names that a model can be asked for by: the catalog, nano, and the Hugging Face ids that were pulled."""
    return [*CATALOG, NANO, *cached_ids()]


def resolve(options: Model, backend: str) -> ModelFiles:
    """Return the files of the model that `options` name, in the file format that `backend` reads.

    Without `options.model` that is the best model that was pulled, else the built-in nano (with a notice). Raises
    ModelError if the files are not on this machine.
    """
    return resolve_with_backend(options, (backend,))[0]


def resolve_with_backend(options: Model, backends: Sequence[str]) -> tuple[ModelFiles, str]:
    """Resolve the model for the first of `backends` (best first) that can run it, and return that backend too.

    Raises as `resolve` does.
    """
    name = options.model or ""
    if options.mmproj and not name:
        raise UsageError("--mmproj is given without a model", "name the language half with -m")
    if not name:
        with readable(NANO):
            return _best_available(backends)
    files = find_files(name, options.mmproj)
    if options.mmproj and files.checkpoint and not files.gguf:
        raise UsageError(f"{name}: is a checkpoint, which has its vision half", "leave out --mmproj")
    for backend in backends:
        if files.can_run_on(backend):
            if options.mmproj and registry.BACKENDS[backend].file_format == "any":
                return replace(files, checkpoint=None), backend  # which has a vision half of its own
            if files.format_read_by(backend) == "checkpoint":
                _refuse_two_in_one(files, name)
                files = replace(files, notice=_names_notice(files))
            return files, backend
    raise _not_available(files, name, backends[0])


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what the system refuses to read of the model `name` into ModelError."""
    try:
        yield
    except OSError as error:
        path = error.filename or name
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})", "check its permissions") from error


def find_files(name: str, mmproj: Path | None = None) -> ModelFiles:
    """Find the files on this machine of a catalog name, Hugging Face id, directory or .gguf file; there may be none.

    `mmproj` replaces the vision half. Raises ModelError for a name that is none of these, for a .gguf file without
    its vision half, and for what cannot be read.
    """
    with readable(name):
        return _find_files(name, mmproj)


def _find_files(name: str, mmproj: Path | None) -> ModelFiles:
    path = Path(os.path.expanduser(name))
    if name == NANO:
        files = replace(scan(BUILT_IN), name=NANO)
    elif name in CATALOG:
        entry = CATALOG[name]
        pair = cached_files(entry.gguf_repo, quant=entry.quant)
        files = replace(pair, name=name, checkpoint=cached_files(entry.repo).checkpoint)
    elif path.suffix.lower() == ".gguf":
        return _complete_gguf_pair(path, name, mmproj)
    elif path.is_dir():
        files = scan(path)
        if not files.formats and (path / ADAPTER_CONFIG).is_file():
            files = _with_base(path, name)
    elif HUB_ID.fullmatch(name) and not path.exists():
        files = cached_files(name)
    else:
        raise ModelError(f"{name}: not a known name, Hugging Face id, directory or .gguf file", advise_name(name))
    return replace(files, mmproj=_checked_mmproj(mmproj)) if mmproj and files.gguf else files


def _with_base(adapter: Path, label: str) -> ModelFiles:
    """Find the checkpoint of an adapter's base. Raises ModelError that names the adapter if it is not here."""
    try:
        base = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{adapter / ADAPTER_CONFIG}: cannot be read ({error})", DOWNLOAD_AGAIN) from error
    convert = f"smolcli convert-to-gguf BASE --lora {label} makes a model of both"
    if not isinstance(base, str) or not base:
        raise ModelError(f"{label}: an adapter that does not name its base model", convert)
    try:
        files = scan(Path(base)) if os.path.isdir(base) else find_files(base)
    except ModelError:
        files = ModelFiles(base)
    if files.checkpoint is None:
        raise ModelError(f"{label}: an adapter whose base model, the checkpoint {base}, is not here", convert)
    return ModelFiles(adapter.resolve().name, checkpoint=files.checkpoint, adapter=adapter)


def advise_name(name: str) -> str:
    """What to do about a name that no model has: one guess, or the command that lists the names."""
    guess = closest(name, model_names())
    return f"did you mean {guess}?" if guess else "smolcli models list shows the names"


def find_or_empty(name: str) -> ModelFiles:
    """Find the files of a catalog name; where they are damaged, unreadable or missing the result has no format."""
    try:
        return find_files(name)
    except ModelError:
        return ModelFiles(name)


def _best_available(backends: Sequence[str]) -> tuple[ModelFiles, str]:
    """The best model of the catalog that one of `backends` can run, nano where there is none.

    A reference backend, slow with all of the catalog, gets a model that nobody asked for only if it is alone.
    """
    faster = [backend for backend in backends if not registry.BACKENDS[backend].is_reference]
    for name in CATALOG:
        if name == "docling":  # it replies in DocTags, which caption and ask have no use for
            continue
        try:
            files = _find_files(name, None)
        except ModelError:  # damaged; what cannot be read is an error, and no reason to take a lesser model
            continue
        for backend in faster or backends:
            if files.can_run_on(backend):
                return files, backend
    files = find_or_empty(NANO)
    for backend in backends:
        if files.can_run_on(backend):
            return replace(files, is_fallback=True, notice=NANO_NOTICE), backend
    raise ModelError(f"{NANO}: the built-in model's files are missing", "install smolcli again")


def _refuse_two_in_one(files: ModelFiles, label: str) -> None:
    """Raise ModelError for a checkpoint whose folder holds an adapter too: is it merged into the weights or not?"""
    folder = files.checkpoint
    if folder is not None and (folder / ADAPTER_CONFIG).is_file() and (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{label}: holds a checkpoint and an adapter", "put them into folders of their own")


def _names_notice(files: ModelFiles) -> str:
    """A line about what is taken off the names of the tensors of a checkpoint and its adapter, "" for nothing."""
    lines = []
    if files.checkpoint is not None:
        lines += [wrapper_notice(files.checkpoint, unwrap(stored_types(weight_files(files.checkpoint))).wrappers)]
    if files.adapter is not None:
        wrappers = unwrap(stored_types([files.adapter / ADAPTER_WEIGHTS])).wrappers
        lines += [wrapper_notice(files.adapter, [wrapper for wrapper in wrappers if wrapper != PEFT_ROOT])]
    return "; ".join(filter(None, lines))


def not_here(name: str, pull: str = "") -> ModelError:
    """The error that says why a model has no files here; `pull` the command that helps."""
    if name not in CATALOG and os.path.isdir(os.path.expanduser(name)):
        if lacking := shards_lacking(Path(os.path.expanduser(name))):
            return ModelError(f"{name}: lacks {lacking[0]}, which its index of weights names", DOWNLOAD_AGAIN)
        return ModelError(
            f"{name}: holds neither config.json, tokenizer.json and safetensors nor a .gguf with its mmproj",
            "give the directory of a checkpoint, or a .gguf file",
        )
    return ModelError(f"{name}: not on this machine", pull or f"smolcli models pull {name}")


def _not_available(files: ModelFiles, name: str, backend: str) -> ModelError:
    """The error that says why `backend` cannot run `files`, and which command helps."""
    entry = registry.BACKENDS[backend]
    is_in_catalog = name in CATALOG
    needs_checkpoint = entry.file_format == "checkpoint"
    pull = f"smolcli models pull {name}"
    if is_in_catalog and needs_checkpoint:
        pull += f" --for {backend}"
    if name == NANO:
        return ModelError(f"{name}: the built-in model's files are missing", "install smolcli again")
    if not files.formats:
        return not_here(name, pull)
    if needs_checkpoint:
        available, advice = "GGUF pair", "give its checkpoint"
    else:
        available, advice = "checkpoint", f"smolcli convert-to-gguf {name}"
    others = [other for other in registry.backends() if files.can_run_on(other)]
    here = [other for other in others if registry.installed(registry.BACKENDS[other])]
    return ModelError(
        f"{name}: only its {available} is here, which {entry.title} cannot run",
        f"{pull if is_in_catalog else advice}, or use -b {(here or others)[0]}",
    )


def _complete_gguf_pair(path: Path, label: str, mmproj: Path | None) -> ModelFiles:
    """Return the pair of the language half `path` and of `mmproj`, by default the vision half in the same folder."""
    if not path.is_file():
        raise ModelError(f"{label}: no such file", "check the path, or see smolcli models list")
    if is_mmproj(path.name):
        raise ModelError(f"{label}: is the vision half of a model", "give the language half of the pair")
    if mmproj:
        return ModelFiles(path.stem, gguf=path, mmproj=_checked_mmproj(mmproj))
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    vision_half = find_mmproj(path.name, names)
    if vision_half is None:
        problem = "several vision halves (mmproj) are" if any(map(is_mmproj, names)) else "no vision half (mmproj) is"
        raise ModelError(f"{label}: {problem} beside it", "name it with --mmproj FILE")
    return ModelFiles(path.stem, gguf=path, mmproj=path.parent / vision_half)


def _checked_mmproj(mmproj: Path) -> Path:
    if not mmproj.is_file():
        raise ModelError(f"{mmproj}: no such file", "check the path given with --mmproj")
    return mmproj
