"""Writing GGUF files block by block; all files of a conversion appear together, each of them whole, or none."""

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
from smolcli.models.checkpoint import Checkpoint
from smolcli.models.file_errors import UnsupportedError, errors_about
from smolcli.models.tensor_mapping import Weight, interleave
from smolcli.system.atomic_file import PartFile

from .gguf_model import GgufFile
from .quantization import GgmlType, Quantization, encode

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BLOCK = 1 << 21  # numbers in memory at once
HUB = "https://huggingface.co/"
# Settings of generation_config.json: the field of gguf's Metadata and the type of number.
SAMPLING: dict[str, tuple[str, type[int] | type[float]]] = {
    "temperature": ("sampling_temp", float),
    "top_k": ("sampling_top_k", int),
    "top_p": ("sampling_top_p", float),
    "min_p": ("sampling_min_p", float),
    "repetition_penalty": ("sampling_penalty_repeat", float),
}

Progress = Callable[[int], object]  # called with the number of bytes just written


def write_weights(
    checkpoint: Checkpoint, weights: Sequence[Weight], files: Sequence[GgufFile], progress: Progress
) -> None:
    """Read each weight once, in blocks of rows, and write it to every file as the type that it has there.

    Raises ModelError for numbers that are not finite or too large for their type, OSError for a full disk.
    """
    for weight in weights:
        for start, stop in _blocks(weight):
            rows = checkpoint.rows(weight.source, start, stop)
            if weight.rotary_heads:
                rows = interleave(rows, (stop - start) * weight.rotary_heads // weight.shape[0])
            encoded: dict[GgmlType, np.ndarray] = {}
            for file in files:
                type = file.types[weight.name]
                if type not in encoded:
                    try:
                        encoded[type] = encode(rows, type)
                    except UnsupportedError as error:
                        message = f"{checkpoint.directory}: {weight.source}: {error}"
                        raise ModelError(message, error.advice) from None
                progress(file.write(encoded[type]))
        for file in files:
            file.end_tensor()


def _blocks(weight: Weight) -> Iterator[tuple[int, int]]:
    """Yield the first row of each block and the row after its last; whole heads if their rows are reordered."""
    count = weight.shape[0]
    unit = count // weight.rotary_heads if weight.rotary_heads else 1
    width = int(np.prod(weight.shape[1:]))
    step = max(BLOCK // (width * unit), 1) * unit
    for start in range(0, count, step):
        yield start, min(start + step, count)


def add_metadata(writer: GGUFWriter, checkpoint: Checkpoint, name: str | None) -> None:
    """Add name, size, license, base models, source and sampling settings, from the model card and the configuration.

    `writer` must have its tensors already; `name` defaults to that of the directory. Raises ModelError for a damaged
    card or configuration.
    """
    parameters = writer.get_total_parameter_count()
    directory = checkpoint.directory
    try:
        card = Metadata.load_model_card(directory)
    except (YAMLError, ValueError) as error:  # ValueError: not UTF-8
        raise ModelError(f"{directory / 'README.md'}: not valid YAML ({error})", "repair its head") from error
    settings = Metadata.load_hf_parameters(directory)
    named_path = Path(name) if name else directory
    with errors_about(directory / "README.md"):
        metadata = Metadata.apply_metadata_heuristic(Metadata(), card, settings, named_path, parameters[0])
    sampling = checkpoint.optional_json("generation_config.json")
    with errors_about(directory / "generation_config.json"):
        for key, (name_in_gguf, type) in SAMPLING.items():
            setattr(metadata, name_in_gguf, None if sampling.get(key) is None else type(sampling[key]))
    metadata.name = name or metadata.name or directory.name
    for field in fields(metadata):
        value = getattr(metadata, field.name)
        setattr(metadata, field.name, _gguf_value(value, is_text=str(field.type) == "Optional[str]"))
    metadata.size_label = metadata.size_label or size_label(*parameters)
    hub_id = hub_id_of(directory)
    if checkpoint.adapter is not None:
        organization, _, base = hub_id.rpartition("/")
        origin = {"organization": organization, "repo_url": HUB + hub_id} if hub_id else {}
        metadata.base_models = [{"name": base or directory.name, **origin}]
    elif hub_id:
        metadata.source_repo_url = HUB + hub_id
    metadata.set_gguf_meta_model(writer)


def _gguf_value(value: Any, is_text: bool) -> Any:
    """Return a value of the card as a GGUF key stores it: YAML reads `no`, Norwegian, as False and 2024 as a number."""
    if isinstance(value, list) and not is_text and not any(isinstance(item, dict) for item in value):
        return [_gguf_value(item, True) for item in value if item is not None] or None
    if isinstance(value, list) and is_text:
        return ", ".join(map(str, value))
    if is_text and value is not None and not isinstance(value, str):
        return {False: "no", True: "yes"}[value] if isinstance(value, bool) else str(value)
    return value


def hub_id_of(directory: Path) -> str:
    """Return the hub id of a snapshot in the hub's cache, `models--org--name/snapshots/<revision>`, or ""."""
    match = re.fullmatch(r"models--(.+?)--(.+)", directory.parent.parent.name)
    return f"{match[1]}/{match[2]}" if match and directory.parent.name == "snapshots" else ""


def add_quantization(writer: GGUFWriter, quantization: Quantization) -> None:
    """Add the keys that say how the file is quantized."""
    writer.add_file_type(quantization.file)
    writer.add_quantization_version(GGML_QUANT_VERSION)


class PartFiles:
    """Part files that are renamed to their targets, one after the other, if the block ends well, or else removed.

    with PartFiles(overwrite=False) as parts:
        write_to(parts.path(Path("model.gguf")))

    A `temporary` file is removed in any case. Raises OutputError for a full disk, UsageError for a folder that cannot
    be written or, without `overwrite`, for a target that another process has made in the meantime.
    """

    def __init__(self, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._parts: list[PartFile] = []
        self._temporary: list[PartFile] = []

    def path(self, target: Path, temporary: bool = False) -> Path:
        """Make the part file of `target`, and its folder, and return its path; remove what killed runs left there."""
        with convert_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            for stale in target.parent.glob(".*.gguf.????????.part"):
                _remove_unless_locked(stale)
            part = PartFile(target, target.with_name(f".{target.name}.{secrets.token_hex(4)}.part"))
            (self._temporary if temporary else self._parts).append(part)
            _lock(part.file.fileno())
        return part.path

    def __enter__(self) -> PartFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for part in self._parts:
                    with convert_os_errors(part.target):
                        part.sync()
                for part in self._parts:
                    with convert_os_errors(part.target):
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
            raise already_exists(part.target) from None


def already_exists(path: Path) -> UsageError:
    """Return the error for a file that exists."""
    return UsageError(f"{path}: exists already", "--if-exists overwrite replaces it, skip keeps it")


@contextmanager
def convert_os_errors(path: Path, advice: str = "choose another directory with -o") -> Iterator[None]:
    """Convert an OSError to OutputError (no space) or UsageError about `path`; `advice` says how to write elsewhere."""
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror or error})"
        if error.errno == errno.EFBIG:
            raise OutputError(message, "raise the limit on the length of files (ulimit -f)") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(message, f"make room, or {advice}") from error
        raise UsageError(message, advice) from error


def _lock(descriptor: int) -> bool:
    """Lock a part file until its process ends; return False if another process has locked it or locks do not exist."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_unless_locked(part: Path) -> None:
    with suppress(OSError):  # it was removed in the meantime, or belongs to another user
        descriptor = os.open(part, os.O_RDWR)
        try:
            if _lock(descriptor):
                part.unlink()
        finally:
            os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system can open or sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
