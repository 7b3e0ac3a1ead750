"""The content of one of the two GGUF files of a model, and a file that is being written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUF_DEFAULT_ALIGNMENT, GGUFWriter

from smolcli.models.tensor_mapping import Weight

from .quantization import GgmlType, Quantization, tensor_bytes


@dataclass(frozen=True)
class GgufModel:
    """What a GGUF file holds: the language model, or the vision encoder and projector (mmproj).

    `prefix` begins the names of its files; `describe` adds its keys to a writer that already has its tensors;
    `notices` are lines for the user.
    """

    prefix: str
    architecture: str
    weights: tuple[Weight, ...]
    describe: Callable[[GGUFWriter, Quantization], None]
    notices: tuple[str, ...] = ()

    def start(self, path: Path, quantization: Quantization, types: Mapping[str, GgmlType]) -> GgufFile:
        """Write the header of a file that stores each weight as its type in `types` (by GGUF name). Raises OSError."""
        writer = GGUFWriter(None, self.architecture)
        for weight in self.weights:
            type = types[weight.name]
            size = tensor_bytes(weight, type)
            writer.add_tensor_info(weight.name, weight.shape, np.dtype(np.float32), size, raw_dtype=type)
        self.describe(writer, quantization)
        return GgufFile(path, writer, types)

    def data_size(self, types: Mapping[str, GgmlType]) -> int:
        """Return the bytes of all weights in a file, including padding."""
        sizes = (tensor_bytes(weight, types[weight.name]) for weight in self.weights)
        return sum(GGUFWriter.ggml_pad(size, GGUF_DEFAULT_ALIGNMENT) for size in sizes)


class GgufFile:
    """A GGUF file whose header is written and whose weights are to be written in the order of the header."""

    def __init__(self, path: Path, writer: GGUFWriter, types: Mapping[str, GgmlType]) -> None:
        self.types = types
        self._writer = writer
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        self._file = writer.fout[0]
        self.end_tensor()
        self.header_size = int(self._file.tell())

    def write(self, data: np.ndarray) -> int:
        """Write some bytes of the current tensor and return their number. Raises OSError."""
        return int(self._file.write(np.ascontiguousarray(data).data.cast("B")))

    def end_tensor(self) -> None:
        """Pad the current tensor to the offset at which the next one begins."""
        self._writer.write_padding(self._file, self._file.tell())

    def close(self) -> None:
        """Write what is buffered and close the file. Raises OSError."""
        self._writer.close()
