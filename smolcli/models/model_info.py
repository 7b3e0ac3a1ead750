"""What can be told of a model without loading it: the catalog's facts, the headers of its files, and what to beware of.

describe("256m")["context"]                     # 8192, whether it is on this machine or not
describe("mmproj-model-f16.gguf")["warnings"]   # of any file, checkpoint or pair
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolcli.errors import ModelError
from smolcli.models import catalog, family, resolve
from smolcli.models import files as model_files
from smolcli.models.catalog import CATALOG, CatalogEntry
from smolcli.models.catalog_facts import facts_of
from smolcli.models.checkpoint import Checkpoint
from smolcli.models.files import ModelFiles, weight_files
from smolcli.models.gguf_header import Header, read_header
from smolcli.models.other_family import other_family_facts
from smolcli.system.file_digest import sha256_and_size

TOKENS = "tokenizer.ggml.tokens"
LONGEST_EDGE = "clip.vision.preproc_image_size"
PLACE_TOKEN = "<global-img>"  # of the whole picture; with it there are those of the rows and columns of tiles
_DIGEST = re.compile(r"[0-9a-f]{64}")
BARE_VISION_HALF = (
    "the vision half does not say the longest edge of pictures: llama.cpp's own tools cut them otherwise than the "
    "reference does; smolcli cuts them itself"
)
NO_PLACE_TOKEN = (
    "its tokenizer has no token for the place of a tile, which llama.cpp's own tools need; smolcli spells the place out"
)


def describe(name: str, check: bool = False) -> dict[str, Any]:
    """Return what is known of a catalog name, hub id, directory or GGUF file, in an order for people.

    `files` are those on this machine, each with what of it was compared with what was published (None: nothing was
    published), `warnings` are lines about them. With `check` every byte is read to compare. Raises ModelError for what
    is no model, not one of the family, not here, or cannot be read.
    """
    with resolve.readable(name):
        return _describe(name, check)


def _describe(name: str, check: bool) -> dict[str, Any]:
    files = _find(name)
    entry = CATALOG.get(name) or _entry_of(files)
    facts: dict[str, Any] = {"name": files.name}
    if entry is not None:
        facts |= _catalog_facts(entry)
    elif files.is_built_in:
        facts |= {"about": catalog.NANO_ABOUT, "licence": catalog.NANO_LICENCE, "x_height": catalog.NANO_X_HEIGHT}
    if files.formats:
        family.check_files(files)
    warnings: list[str] = []
    if files.checkpoint is not None:
        facts |= _checkpoint_facts(files.checkpoint, warnings)
    if files.gguf is not None or files.mmproj is not None:
        facts |= _pair_facts(files, warnings)
    facts["backends"] = family.backends_here(files)
    facts["files"] = [_file_facts(path, entry, check) for path in _paths(files)]
    warnings += [
        f"{Path(file['path']).name} is not as published" for file in facts["files"] if file["published"] is False
    ]
    if entry is not None:
        warnings += _catalog_warnings(entry, files)
    if family.is_base(files):
        warnings.append(f"it {family.BASE_NOTICE}")
    facts["warnings"] = list(dict.fromkeys(warnings))
    return facts


def _find(name: str) -> ModelFiles:
    """Find the files of a model; a half of a pair alone is taken too."""
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() == ".gguf" and path.is_file():
        names = [other.name for other in path.parent.iterdir() if other.is_file()]
        if model_files.is_mmproj(path.name):
            return ModelFiles(path.stem, mmproj=path)
        vision_half = model_files.find_mmproj(path.name, names)
        return ModelFiles(path.stem, gguf=path, mmproj=path.parent / vision_half if vision_half else None)
    files = resolve.find_files(name)
    if not files.formats and name not in CATALOG:
        raise resolve.not_here(name)
    return files


def _entry_of(files: ModelFiles) -> CatalogEntry | None:
    """The catalog's model of which a GGUF file or a repository in the cache has the name."""
    half = files.gguf or files.mmproj
    for entry in CATALOG.values():
        stem = entry.repo.split("/")[1].lower()
        if files.name in (entry.repo, entry.gguf_repo) or (
            half is not None and model_files.model_stem(half.name) == stem
        ):
            return entry
    return None


def _catalog_facts(entry: CatalogEntry) -> dict[str, Any]:
    facts = facts_of(entry)
    return {
        "about": facts.about,
        "good_for": facts.good_for,
        "licence": facts.licence,
        "repo": entry.repo,
        "revision": facts.checkpoint.revision or None,
        "gguf_repo": entry.gguf_repo,
        "gguf_revision": facts.pair.revision or None,
        "quant": entry.quant,
        "pair_bytes": facts.pair_bytes,
        "checkpoint_bytes": facts.checkpoint_bytes,
        "checkpoint_dtype": facts.checkpoint.dtype,
        "parameters": facts.parameters,
        "context": facts.context,
        "tile": facts.tile,
        "tile_tokens": facts.tile_tokens,
        "picture_tokens": facts.picture_tokens,
        "x_height": entry.x_height,
    }


def _checkpoint_facts(directory: Path, warnings: list[str]) -> dict[str, Any]:
    """Facts of a checkpoint from its configuration; what is damaged is a warning."""
    try:
        checkpoint = Checkpoint(directory)
        text, vision = checkpoint.text, checkpoint.vision
        edge = checkpoint.preprocessor["size"]["longest_edge"]
    except ModelError as error:
        warnings.append(error.what)
        return {}
    return {
        "context": text.positions,
        "tile": vision.image,
        "tile_tokens": (vision.image // vision.patch // vision.scale) ** 2,
        "longest_edge": edge,
    }


def _pair_facts(files: ModelFiles, warnings: list[str]) -> dict[str, Any]:
    """Facts of a GGUF pair, or of a half of one, from their headers; what is damaged or does not fit is a warning."""
    if family.is_other_family(files):
        return other_family_facts(files, warnings)
    facts: dict[str, Any] = {}
    language = _header(files.gguf, warnings, with_strings=True)
    vision = _header(files.mmproj, warnings)
    if files.gguf is None:
        warnings.append("half a model: the language half is missing")
    if files.mmproj is None:
        warnings.append("half a model: the vision half (mmproj) is not beside it")
    if language is not None:
        facts["context"] = language.keys.get("llama.context_length")
        if PLACE_TOKEN not in (language.keys.get(TOKENS) or (PLACE_TOKEN,)):
            warnings.append(NO_PLACE_TOKEN)
    if vision is not None:
        facts |= _vision_facts(vision)
        if LONGEST_EDGE not in vision.keys:
            warnings.append(BARE_VISION_HALF)
    if language is not None and vision is not None:
        width, projector = language.keys.get("llama.embedding_length"), vision.shapes.get("mm.model.fc.weight", (0,))
        if width and projector[-1] not in (0, width):
            warnings.append(f"the halves are of two models: the vision half has {projector[-1]} values, not {width}")
        shapes = [*language.shapes.values(), *vision.shapes.values()]
        facts["parameters"] = sum(map(math.prod, shapes))
    return {key: value for key, value in facts.items() if value is not None}


def _vision_facts(header: Header) -> dict[str, Any]:
    keys = ("image_size", "patch_size", "projector.scale_factor")
    sizes = [size for key in keys if isinstance(size := header.keys.get(f"clip.vision.{key}"), int) and size > 0]
    facts: dict[str, Any] = {"longest_edge": header.keys.get(LONGEST_EDGE)}
    if len(sizes) == len(keys):
        side, patch, scale = sizes
        facts |= {"tile": side, "tile_tokens": (side // patch // scale) ** 2}
    return facts


def _header(path: Path | None, warnings: list[str], with_strings: bool = False) -> Header | None:
    """The header of a GGUF file; that of a damaged one is a warning."""
    try:
        return read_header(path, with_strings) if path is not None else None
    except ModelError as error:
        warnings.append(error.what)
        return None


def _paths(files: ModelFiles) -> Iterator[Path]:
    yield from (path for path in (files.gguf, files.mmproj) if path is not None)
    if files.checkpoint is not None:
        yield from weight_files(files.checkpoint)
    if files.adapter is not None:
        yield files.adapter / model_files.ADAPTER_WEIGHTS


def _file_facts(path: Path, entry: CatalogEntry | None, check: bool) -> dict[str, Any]:
    """Path, bytes, quantization and SHA-256 of a file, the last as far as it is known without reading the file."""
    size, sha256 = path.stat().st_size, None
    if check:
        with path.open("rb") as file:
            sha256, _ = sha256_and_size(file)
    elif path.is_symlink() and _DIGEST.fullmatch(path.resolve().name):  # the hub's cache names large files so
        sha256 = path.resolve().name
    known = None
    if entry is not None:
        known = {**facts_of(entry).pair.files, **facts_of(entry).checkpoint.files}.get(path.name)
    compared = None
    if known is not None and known.sha256 and sha256:
        compared = "SHA-256"
    elif known is not None and known.bytes is not None:
        compared = "bytes"
    return {
        "path": str(path),
        "bytes": size,
        "quant": model_files.quantization(path.name) or None,
        "sha256": sha256,
        "compared": compared,
        "published": known.is_like(size, sha256) if known is not None and compared else None,
    }


def _catalog_warnings(entry: CatalogEntry, files: ModelFiles) -> Iterator[str]:
    facts = facts_of(entry)
    here = model_files.quantization(files.gguf.name) if files.gguf is not None else None
    for quant in facts.called_wrong:
        if here in (None, quant):
            yield f"llama.cpp's own tests always get a wrong answer from it in {quant}; {entry.quant} is recommended"
    if facts.checkpoint.dtype == "float32" and (files.checkpoint is not None or not files.formats):
        yield "its checkpoint is stored in float32, twice the bytes that it needs"
    if files.gguf is not None:
        earlier = facts.pair.earlier.get(files.gguf.name)
        if earlier is not None and earlier.is_like(files.gguf.stat().st_size, None):
            yield "it is of before its repository was made again; smolcli models pull fetches the files of today"
    yield from facts.beware
