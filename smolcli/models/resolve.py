"""A model's name to its files and format, offline.

    resolve(Model(model="256m"), "llamacpp")   # the GGUF pair in the hub's cache
    resolve(Model(model="dir/"), "torch")      # a checkpoint directory
    resolve(Model(), "llamacpp")               # the best model pulled, else the built-in nano

Nothing here touches the network or loads a library: the hub's cache is read as the plain directories it is,
`models--org--name/snapshots/<revision>/<file>`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smolcli.errors import ModelError, UsageError
from smolcli.models.catalog import CATALOG, NANO, NANO_NOTICE
from smolcli.models.files import BUILT_IN, ModelFiles, _is_mmproj, mmproj_of, scan
from smolcli.models.hub_cache import HUB_ID, _cached, cached_ids
from smolcli.options import Model
from smolcli.terminal.words import closest


def names() -> list[str]:
    """What may be asked for by name: the table, the built-in one, and what was pulled by its hub id."""
    return [*CATALOG, NANO, *cached_ids()]


def resolve(options: Model, backend: str) -> ModelFiles:
    """The files of the model that `options` ask for, in the format of `backend` (torch, llamacpp; others take either).

    Without `options.model`: SMOLCLI_MODEL, the config file, the best model pulled, the built-in nano (with a
    notice). Raises ModelError where the files are not on this machine, UsageError for a broken config file.
    """
    return choose(options, (backend,))[0]


def choose(options: Model, backends: Sequence[str]) -> tuple[ModelFiles, str]:
    """As `resolve`, for the first of `backends` that the model serves, and that backend; `backends` best first."""
    word, source = _asked(options)
    label = f"{word} ({source})" if source else word
    if options.mmproj and not word:
        raise UsageError("--mmproj is given without a model", "name the language half with -m")
    try:
        if not word:
            return _default(backends)
        found = find(word, label, options.mmproj)
    except OSError as error:
        raise ModelError(f"{error.filename or label}: cannot be read ({error.strerror})", "check its rights") from error
    if options.mmproj and found.checkpoint and not found.gguf:
        raise UsageError(f"{label}: is a checkpoint, which has its vision half", "leave out --mmproj")
    for backend in backends:
        if found.serves(backend):
            return found, backend
    raise _missing(found, word, label, backends[0])


def find(word: str, label: str = "", mmproj: Path | None = None) -> ModelFiles:
    """What this machine holds of a registry name, hub id, directory or .gguf file; a name may hold nothing.

    `mmproj` replaces the vision half; `label` is what errors call the model. Raises ModelError for a word that
    is none of these and for a .gguf without its vision half.
    """
    label = label or word
    path = Path(os.path.expanduser(word))
    if word == NANO:
        found = replace(scan(BUILT_IN), name=NANO)
    elif word in CATALOG:
        known = CATALOG[word]
        found = replace(_cached(known.gguf_repo), name=word, checkpoint=_cached(known.repo).checkpoint)
    elif path.suffix.lower() == ".gguf":
        return _single(path, label, mmproj)
    elif path.is_dir():
        found = scan(path)
    elif HUB_ID.fullmatch(word) and not path.exists():
        found = _cached(word)
    else:
        raise ModelError(f"{label}: not a known name, hub id, directory or .gguf file", advise_name(word))
    return replace(found, mmproj=_file(mmproj)) if mmproj and found.gguf else found


def advise_name(word: str) -> str:
    """What to do about a name that no model has: one guess, or the command that lists the names."""
    guess = closest(word, names())
    return f"did you mean {guess}?" if guess else "smolcli models list shows the names"


def whole(name: str) -> ModelFiles:
    """As `find`, of a name of the table: what is damaged holds nothing, until it is asked for."""
    try:
        return find(name)
    except ModelError:
        return ModelFiles(name)


def config_file() -> Path:
    """The user's config file: config.toml in $XDG_CONFIG_HOME/smolcli, else ~/.config/smolcli."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "smolcli" / "config.toml"


def _asked(options: Model) -> tuple[str, str]:
    """The model's word and, where it is not from the command line, who said it; empty where nobody did."""
    if options.model:
        return options.model, ""
    if word := os.environ.get("SMOLCLI_MODEL"):
        return word, "from SMOLCLI_MODEL"
    path = config_file()
    try:
        config = _toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})", "correct it or remove it") from error
    word = config.get("model", "")
    if not isinstance(word, str):
        raise UsageError(f"{path}: model is not a string", 'write it as model = "256m"')
    return word, f"from {path}"


def _toml(text: str) -> dict[str, Any]:
    """What TOML says; most users have no config file to load the reader for."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]
    read: dict[str, Any] = tomllib.loads(text)
    return read


def _default(backends: Sequence[str]) -> tuple[ModelFiles, str]:
    for name in (*CATALOG, NANO):
        if name == "docling":  # it answers in DocTags, which is not what caption and ask are for
            continue
        found = whole(name)
        for backend in backends:
            if found.serves(backend):
                notice = NANO_NOTICE if name == NANO else ""
                return replace(found, notice=notice), backend
    raise ModelError(f"{NANO}: the built-in model's files are missing", "install smolcli again")


def _missing(found: ModelFiles, word: str, label: str, backend: str) -> ModelError:
    """Why `found` does not serve `backend`, and the command that helps."""
    named = word in CATALOG
    if word == NANO:
        return ModelError(f"{label}: the built-in model's files are missing", "install smolcli again")
    if not found.formats:
        if not named and os.path.isdir(os.path.expanduser(word)):
            return ModelError(
                f"{label}: holds neither config.json, tokenizer.json and safetensors nor a .gguf with its mmproj",
                "give the directory of a checkpoint, or a .gguf file",
            )
        wanted = " --for torch" if named and backend == "torch" else ""
        return ModelError(f"{label}: not on this machine", f"smolcli models pull {word}{wanted}")
    if backend == "torch":
        way = f"smolcli models pull {word} --for torch" if named else "give its checkpoint"
        return ModelError(f"{label}: only its GGUF pair is here, which torch cannot run", f"{way}, or use -b llamacpp")
    way = f"smolcli models pull {word}" if named else f"smolcli convert-to-gguf {word}"
    return ModelError(f"{label}: only its checkpoint is here, which llama.cpp cannot run", f"{way}, or use -b torch")


def _single(path: Path, label: str, mmproj: Path | None) -> ModelFiles:
    if not path.is_file():
        raise ModelError(f"{label}: no such file", "check the path, or see smolcli models list")
    if _is_mmproj(path.name):
        raise ModelError(f"{label}: is the vision half of a model", "give the language half of the pair")
    if mmproj:
        return ModelFiles(path.stem, gguf=path, mmproj=_file(mmproj))
    names = [one.name for one in path.parent.iterdir() if one.is_file()]
    vision = mmproj_of(path.name, names)
    if vision is None:
        several = any(map(_is_mmproj, names))
        what = "several vision halves (mmproj) are" if several else "no vision half (mmproj) is"
        raise ModelError(f"{label}: {what} beside it", "name it with --mmproj FILE")
    return ModelFiles(path.stem, gguf=path, mmproj=path.parent / vision)


def _file(mmproj: Path) -> Path:
    if not mmproj.is_file():
        raise ModelError(f"{mmproj}: no such file", "check the path given with --mmproj")
    return mmproj
