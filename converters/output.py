"""GGUF files, written block by block; they appear whole, all together, or not at all."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import numpy as np
from gguf import GGML_QUANT_VERSION, GGUFWriter, Metadata, size_label
from yaml import YAMLError  # type: ignore[import-untyped]

from smolcli.errors import ModelError, OutputError, UsageError

from .checkpoint import Checkpoint
from .faults import named
from .half import Started
from .quantize import Quantization, Type, encode
from .smolvlm import Weight, interleave
from .tensors import AGAIN

BLOCK = 1 << 21  # weights in memory at once
HUB = "https://huggingface.co/"

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
                    with named(f"{checkpoint.directory}: {weight.source}"):
                        encoded[kind] = encode(rows, kind)
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
    metadata = Metadata.apply_metadata_heuristic(Metadata(), card, settings, place, parameters[0])
    metadata.name = name or metadata.name or directory.name
    metadata.size_label = metadata.size_label or size_label(*parameters)
    if hub_id := hub_id_of(directory):
        metadata.source_repo_url = HUB + hub_id
    metadata.set_gguf_meta_model(writer)


def hub_id_of(directory: Path) -> str:
    """The hub id of a snapshot in the hub's cache, `models--org--name/snapshots/<revision>`; else empty."""
    match = re.fullmatch(r"models--(.+?)--(.+)", directory.parent.parent.name)
    return f"{match[1]}/{match[2]}" if match and directory.parent.name == "snapshots" else ""


def add_quantization(writer: GGUFWriter, quantization: Quantization) -> None:
    """What the file says of the types within it."""
    writer.add_file_type(quantization.file)
    writer.add_quantization_version(GGML_QUANT_VERSION)


class Unfinished:
    """Files beside their final places, which they take together when the block ends well; else they vanish.

    with Unfinished() as unfinished:
        write_to(unfinished.path(Path("model.gguf")))

    A file that stays `temporary` never takes a place. Raises OutputError for a full disk, UsageError for a folder
    that cannot be written.
    """

    def __init__(self) -> None:
        self._parts: dict[Path, Path] = {}
        self._temporary: list[Path] = []

    def path(self, final: Path, temporary: bool = False) -> Path:
        """Where to write what shall become `final`; its folder is made. What a killed run left there is removed."""
        with told(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            for stale in final.parent.glob(f".{final.name}.*.part"):
                if not _is_alive(stale.suffixes[-2].lstrip(".")):
                    stale.unlink(missing_ok=True)
            part = final.with_name(f".{final.name}.{os.getpid()}.part")
            part.touch()
        if temporary:
            self._temporary.append(part)
        else:
            self._parts[final] = part
        return part

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for final, part in self._parts.items():
                    with told(final):
                        _sync(part)
                for final, part in self._parts.items():
                    with told(final):
                        part.replace(final)
                for folder in {final.parent for final in self._parts}:
                    with suppress(OSError):  # not every file system lets a folder be synchronised
                        _sync(folder)
        finally:
            for part in (*self._parts.values(), *self._temporary):
                part.unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write `path` into an error that names it."""
    try:
        yield
    except OSError as error:
        what = f"{path}: cannot be written ({error.strerror or error})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutputError(what, "make room, or choose another directory with -o") from error
        raise UsageError(what, "choose another directory with -o") from error


def _is_alive(pid: str) -> bool:
    if not pid.isdecimal():
        return True  # not ours
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
