"""The tensors of safetensors files, read from the memory map in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from gguf.utility import LocalTensor, SafetensorsLocal
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from smolcli.errors import ModelError

DTYPES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
AGAIN = "download or save it again"


class Tensors:
    """Every tensor of `files`, by name; opening them reads the headers alone.

    Raises ModelError for a damaged file and for a tensor of another type than DTYPES.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._tensors: dict[str, LocalTensor] = {}
        for file in files:
            for name, tensor in _header(file).items():
                if tensor.dtype not in DTYPES:
                    known = ", ".join(DTYPES)
                    raise ModelError(f"{file}: the tensor {name} is stored as {tensor.dtype}", f"save it as {known}")
                self._tensors[name] = tensor

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> str:
        """How one tensor is stored, a key of DTYPES."""
        return str(self._tensors[name].dtype)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows `start` to `stop` of one tensor, float32 or float16 (bfloat16 is widened).

        The map ends with the array, so that only what is read is in memory.
        """
        stored = self._tensors[name]
        array: NDArray[Any] = stored.mmap_bytes().view(DTYPES[stored.dtype]).reshape(stored.shape)[start:stop]
        if stored.dtype != "BF16":
            return array
        wide = array.astype(np.uint32)  # bfloat16 is the upper half of a float32
        wide <<= 16
        return wide.view(np.float32)


def _header(file: Path) -> dict[str, LocalTensor]:
    try:
        # The safetensors library checks that header and data agree; gguf's reader knows where the data lie.
        with safe_open(file, framework="numpy"):
            return dict(SafetensorsLocal(file).tensors)
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file", "download the rest of it") from None
    except (SafetensorError, OSError, ValueError, KeyError, MemoryError) as error:
        raise ModelError(f"{file}: damaged ({error})", AGAIN) from error
