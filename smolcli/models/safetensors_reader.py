"""Reading the files of a checkpoint or an adapter: JSON objects, and tensors in blocks of rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from gguf.utility import LocalTensor, SafetensorsLocal
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from smolcli.errors import ModelError
from smolcli.models.tensor_names import COMPUTED, DOWNLOAD_AGAIN, unwrap

DTYPES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Tensors:
    """The tensors of several safetensors files, by name; the constructor reads only the headers.

    The names are the model's own, without `wrappers`, what training programs wrapped the model in, and COMPUTED ones
    are left out. Raises ModelError for a missing or damaged file and for a tensor whose type is not one of DTYPES.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        stored: dict[str, LocalTensor] = {}
        for file in files:
            for name, tensor in _header(file).items():
                if name.endswith(COMPUTED):
                    continue
                if tensor.dtype not in DTYPES:
                    known = ", ".join(DTYPES)
                    raise ModelError(f"{file}: the tensor {name} is stored as {tensor.dtype}", f"save it as {known}")
                stored[name] = tensor
        unwrapped = unwrap(stored)
        self._tensors = {unwrapped.names[name]: tensor for name, tensor in stored.items()}
        self.wrappers = unwrapped.wrappers

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> list[str]:
        """Return the names of all tensors, sorted."""
        return sorted(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one tensor."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> str:
        """Return the type of one tensor as a key of DTYPES."""
        return str(self._tensors[name].dtype)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows `start` to `stop` of one tensor as float32 or float16; bfloat16 becomes float32.

        The file is mapped for as long as the array lives, so that only the rows read are in memory. Raises ModelError
        if the file can no longer be read.
        """
        stored = self._tensors[name]
        try:
            data = stored.mmap_bytes()
        except (OSError, ValueError) as error:  # it was removed or changed after its header was read
            message = f"{stored.data_range.filename}: cannot be read ({error})"
            raise ModelError(message, "is its disk still there?") from error
        array: NDArray[Any] = data.view(DTYPES[stored.dtype]).reshape(stored.shape)[start:stop]
        if stored.dtype != "BF16":
            return array
        bits = array.astype(np.uint32)  # bfloat16 is the upper half of a float32
        bits <<= 16
        return bits.view(np.float32)


def _header(file: Path) -> dict[str, LocalTensor]:
    try:
        # The safetensors library checks that header and data agree; gguf's reader gives the offsets of the data.
        with safe_open(file, framework="numpy"):
            return dict(SafetensorsLocal(file).tensors)
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file", "download the rest of it") from None
    except PermissionError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror})", "check its rights") from error
    except (SafetensorError, OSError, ValueError, KeyError, MemoryError) as error:
        raise ModelError(f"{file}: damaged ({error})", DOWNLOAD_AGAIN) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ModelError if the file is missing, damaged or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent}: has no {path.name}", "give a checkpoint directory") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error})", DOWNLOAD_AGAIN) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a JSON object", DOWNLOAD_AGAIN)
    return value


def optional_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or return {} if there is no such file. Raises ModelError as `read_json` does."""
    return read_json(path) if os.path.lexists(path) else {}
