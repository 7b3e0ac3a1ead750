"""One half of a model, language or vision: its weights, its keys, and what a file of it would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUF_DEFAULT_ALIGNMENT, GGUFWriter

from .quantization import Quantization, Type, size
from .tensor_mapping import Weight


@dataclass(frozen=True)
class Half:
    """`prefix` begins its files' names; `describe` adds its keys to a writer that has its tensors.

    `notices` are lines that the user should see.
    """

    prefix: str
    architecture: str
    weights: tuple[Weight, ...]
    describe: Callable[[GGUFWriter, Quantization], None]
    notices: tuple[str, ...] = ()

    def start(self, path: Path, quantization: Quantization, kinds: Mapping[str, Type]) -> Started:
        """A file whose header is written, with a type for each weight."""
        writer = GGUFWriter(None, self.architecture)
        for weight in self.weights:
            kind = kinds[weight.name]
            writer.add_tensor_info(weight.name, weight.shape, np.dtype(np.float32), size(weight, kind), raw_dtype=kind)
        self.describe(writer, quantization)
        return Started(path, writer, kinds)

    def data_size(self, kinds: Mapping[str, Type]) -> int:
        """The bytes of all weights in a file, padding included."""
        sizes = (size(weight, kinds[weight.name]) for weight in self.weights)
        return sum(GGUFWriter.ggml_pad(one, GGUF_DEFAULT_ALIGNMENT) for one in sizes)


class Started:
    """A GGUF file whose header is written and whose weights follow in the order of `kinds`."""

    def __init__(self, path: Path, writer: GGUFWriter, kinds: Mapping[str, Type]) -> None:
        self.kinds = kinds
        self._writer = writer
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        self._file = writer.fout[0]
        self.end_tensor()
        self.header_size = int(self._file.tell())

    def write(self, data: np.ndarray) -> int:
        """Some bytes of the current tensor; how many."""
        return int(self._file.write(np.ascontiguousarray(data).data.cast("B")))

    def end_tensor(self) -> None:
        """Pads to where the next one begins."""
        self._writer.write_padding(self._file, self._file.tell())

    def close(self) -> None:
        """Closes the file, which may fail: what is buffered is written."""
        self._writer.close()
