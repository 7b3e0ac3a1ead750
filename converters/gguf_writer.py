"""GGUF files, written block by block; they appear whole, all together, or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from gguf import GGML_QUANT_VERSION, GGUFWriter, Metadata, size_label
from yaml import YAMLError  # type: ignore[import-untyped]

from smolcli.errors import ModelError, OutputError, UsageError
from smolcli.system.atomic_file import PartFile

from .checkpoint import Checkpoint
from .errors import AGAIN, Unfit, named
from .gguf_model import Started
from .quantization import Quantization, Type, encode
from .tensor_mapping import Weight, interleave

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BLOCK = 1 << 21  # weights in memory at once
HUB = "https://huggingface.co/"
# Settings of generation_config.json, gguf's fields for them and the kind of number each is.
SAMPLING: dict[str, tuple[str, type[int] | type[float]]] = {
    "temperature": ("sampling_temp", float),
    "top_k": ("sampling_top_k", int),
    "top_p": ("sampling_top_p", float),
    "min_p": ("sampling_min_p", float),
    "repetition_penalty": ("sampling_penalty_repeat", float),
}

Progress = Callable[[int], None]  # is told of bytes written


def write_weights(
    checkpoint: Checkpoint, weights: Sequence[Weight], files: Sequence[Started], progress: Progress
) -> None:
    """Read every weight once, in blocks of rows, and write it into every file as the type it has there.

    Raises ModelError for what is not finite or too large for its type.
    """
    for weight in weights:
        for start, stop in _blocks(weight):
            rows = checkpoint.rows(weight.source, start, stop)
            if weight.rotary_heads:
                rows = interleave(rows, (stop - start) * weight.rotary_heads // weight.shape[0])
            encoded: dict[Type, np.ndarray] = {}
            for file in files:
                kind = file.kinds[weight.name]
                if kind not in encoded:
                    try:
                        encoded[kind] = encode(rows, kind)
                    except Unfit as unfit:
                        what = f"{checkpoint.directory}: {weight.source}: {unfit}"
                        raise ModelError(what, unfit.advice) from None
                progress(file.write(encoded[kind]))
        for file in files:
            file.end_tensor()


def _blocks(weight: Weight) -> Iterator[tuple[int, int]]:
    """First and last row of each block; whole heads where rows of a head change places."""
    count = weight.shape[0]
    unit = count // weight.rotary_heads if weight.rotary_heads else 1
    width = int(np.prod(weight.shape[1:]))
    step = max(BLOCK // (width * unit), 1) * unit
    for start in range(0, count, step):
        yield start, min(start + step, count)


def check_shapes(checkpoint: Checkpoint, weights: Sequence[Weight]) -> None:
    """ModelError if one of the weights is missing or misshapen, or the adapter does not fit it."""
    for weight in weights:
        shape = checkpoint.shape(weight.source)
        if shape != weight.shape:
            what = f"{checkpoint.directory}: the tensor {weight.source} has the shape {shape}, not {weight.shape}"
            raise ModelError(what, AGAIN)
        if checkpoint.adapter is not None and weight.source in checkpoint.adapter.changed:
            checkpoint.adapter.check(weight.source, shape)


def add_metadata(writer: GGUFWriter, checkpoint: Checkpoint, name: str | None) -> None:
    """Name, size, license, base models, source and such, from the model card and the name.

    `writer` has its tensors already; `name` is the directory's unless given.
    """
    parameters = writer.get_total_parameter_count()
    directory = checkpoint.directory
    try:
        card = Metadata.load_model_card(directory)
    except (YAMLError, ValueError) as error:  # the latter: no UTF-8
        raise ModelError(f"{directory / 'README.md'}: not valid YAML ({error})", "mend its head") from error
    settings = Metadata.load_hf_parameters(directory)
    place = Path(name) if name else directory
    with named(directory / "README.md"):
        metadata = Metadata.apply_metadata_heuristic(Metadata(), card, settings, place, parameters[0])
    sampling = checkpoint.optional_json("generation_config.json")
    with named(directory / "generation_config.json"):
        for key, (field, kind) in SAMPLING.items():
            setattr(metadata, field, None if sampling.get(key) is None else kind(sampling[key]))
    metadata.name = name or metadata.name or directory.name
    for one in fields(metadata):
        setattr(metadata, one.name, _plain(getattr(metadata, one.name), is_text=str(one.type) == "Optional[str]"))
    metadata.size_label = metadata.size_label or size_label(*parameters)
    hub_id = hub_id_of(directory)
    if checkpoint.adapter is not None:
        organization, _, base = hub_id.rpartition("/")
        place_of = {"organization": organization, "repo_url": HUB + hub_id} if hub_id else {}
        metadata.base_models = [{"name": base or directory.name, **place_of}]
    elif hub_id:
        metadata.source_repo_url = HUB + hub_id
    metadata.set_gguf_meta_model(writer)


def _plain(value: Any, is_text: bool) -> Any:
    """What a card says as what a GGUF key holds: YAML reads `no`, Norwegian, as False and 2024 as a number."""
    if isinstance(value, list) and not is_text and not any(isinstance(one, dict) for one in value):
        return [_plain(one, True) for one in value if one is not None] or None
    if isinstance(value, list) and is_text:
        return ", ".join(map(str, value))
    if is_text and value is not None and not isinstance(value, str):
        return {False: "no", True: "yes"}[value] if isinstance(value, bool) else str(value)
    return value


def hub_id_of(directory: Path) -> str:
    """The hub id of a snapshot in the hub's cache, `models--org--name/snapshots/<revision>`; else empty."""
    match = re.fullmatch(r"models--(.+?)--(.+)", directory.parent.parent.name)
    return f"{match[1]}/{match[2]}" if match and directory.parent.name == "snapshots" else ""


def add_quantization(writer: GGUFWriter, quantization: Quantization) -> None:
    """What the file says of the types within it."""
    writer.add_file_type(quantization.file)
    writer.add_quantization_version(GGML_QUANT_VERSION)


class Unfinished:
    """Files beside their final places, which they take one after the other when the block ends well; else they vanish.

    with Unfinished(overwrite=False) as unfinished:
        write_to(unfinished.path(Path("model.gguf")))

    A file that stays `temporary` never takes a place. Raises OutputError for a full disk, UsageError for a folder
    that cannot be written, or, unless `overwrite`, for a place that was taken meanwhile.
    """

    def __init__(self, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._parts: list[PartFile] = []
        self._temporary: list[PartFile] = []

    def path(self, final: Path, temporary: bool = False) -> Path:
        """Where to write what shall become `final`; its folder is made. What a killed run left there is removed."""
        with told(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            for stale in final.parent.glob(".*.gguf.????????.part"):
                _remove_unless_locked(stale)
            part = PartFile(final, final.with_name(f".{final.name}.{secrets.token_hex(4)}.part"))
            (self._temporary if temporary else self._parts).append(part)
            _lock(part.file.fileno())
        return part.path

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for part in self._parts:
                    with told(part.target):
                        part.sync()
                for part in self._parts:
                    with told(part.target):
                        self._commit(part)
                for folder in {part.target.parent for part in self._parts}:
                    _sync_folder(folder)
        finally:
            for part in (*self._parts, *self._temporary):
                part.discard()

    def _commit(self, part: PartFile) -> None:
        try:
            part.commit(self._overwrite)
        except FileExistsError:
            raise taken(part.target) from None


def taken(path: Path) -> UsageError:
    """The error for a file that is there."""
    return UsageError(f"{path}: exists already", "--if-exists overwrite replaces it, skip keeps it")


@contextmanager
def told(path: Path, where: str = "choose another directory with -o") -> Iterator[None]:
    """Turns the system's refusal to write `path` into an error that names it; `where` says how to write elsewhere."""
    try:
        yield
    except OSError as error:
        what = f"{path}: cannot be written ({error.strerror or error})"
        if error.errno == errno.EFBIG:
            raise OutputError(what, "raise the limit on the length of files (ulimit -f)") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(what, f"make room, or {where}") from error
        raise UsageError(what, where) from error


def _lock(descriptor: int) -> bool:
    """Takes the lock of a part file, which ends with its process; False where another has it, or there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_unless_locked(part: Path) -> None:
    with suppress(OSError):  # it went meanwhile, or is not ours to remove
        descriptor = os.open(part, os.O_RDWR)
        try:
            if _lock(descriptor):
                part.unlink()
        finally:
            os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system lets a folder be opened or synchronised
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
