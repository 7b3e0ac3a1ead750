"""One GGUF file, written tensor by tensor; it appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_VERSION, GGUFWriter, Metadata, size_label
from yaml import YAMLError  # type: ignore[import-untyped]

from smolcli.errors import ModelError

from .checkpoint import AGAIN, Checkpoint
from .quantize import Quantization, encode, size, tensor_type
from .smolvlm import Weight, arrange


def write_gguf(
    path: Path,
    writer: GGUFWriter,
    describe: Callable[[GGUFWriter], None],
    checkpoint: Checkpoint,
    weights: Sequence[Weight],
    quantization: Quantization,
) -> None:
    """Write `weights` of the checkpoint to `path`, after what `describe` adds to the header.

    Raises ModelError for a tensor that is missing, misshapen or not finite, and if `path` cannot be written.
    """
    kinds = {weight.name: tensor_type(weight, quantization) for weight in weights}
    for weight in weights:
        shape = checkpoint.shape(weight.source)
        if shape != weight.shape:
            raise ModelError(f"the tensor {weight.source} has the shape {shape}, not {weight.shape}", AGAIN)
        kind = kinds[weight.name]
        writer.add_tensor_info(weight.name, shape, np.dtype(np.float32), size(weight, kind), raw_dtype=kind)
    describe(writer)
    with _whole(path) as unfinished, closing(writer):
        writer.write_header_to_file(unfinished)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for weight in weights:
            array = arrange(checkpoint.tensor(weight.source), weight)
            writer.write_tensor_data(encode(array, kinds[weight.name], weight.source))


def add_metadata(writer: GGUFWriter, checkpoint: Checkpoint, name: str | None) -> None:
    """Name, size, license, base models and such, from the model card and the directory's name; `name` overrides."""
    parameters = writer.get_total_parameter_count()
    try:
        metadata = Metadata.load(None, checkpoint.directory, name, parameters[0])
    except YAMLError as error:
        raise ModelError(f"{checkpoint.directory / 'README.md'} is not valid YAML: {error}", "mend its head") from error
    metadata.name = metadata.name or checkpoint.directory.name
    metadata.size_label = metadata.size_label or size_label(*parameters)
    metadata.set_gguf_meta_model(writer)


def add_quantization(writer: GGUFWriter, quantization: Quantization) -> None:
    """What the file says of the types within it."""
    writer.add_file_type(quantization.file)
    writer.add_quantization_version(GGML_QUANT_VERSION)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, which becomes `path` if the block ends well and vanishes if not."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            _sync(unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}", "choose another directory") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
