"""Reading the files of a checkpoint or an adapter: JSON objects, and tensors in blocks of rows.

A safetensors file is the length of its header in 8 bytes, the header in JSON, and the data of its tensors in one piece.
The header maps a tensor's name to its dtype, its shape, and where its bytes begin and end in the data
(https://huggingface.co/docs/safetensors). It is read here without the library, whose import takes longer than to read a
small model.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli.errors import ModelError
from smolcli.models.tensor_names import COMPUTED, DOWNLOAD_AGAIN, MAX_HEADER_BYTES, unwrap

DTYPES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
LENGTH_BYTES = 8  # of the length of the header
# Bytes of a number of each type of the format; those of F4 and F6 are not whole, and no model has them.
WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8, "F64": 8}
WIDTHS |= {"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F16": 2, "BF16": 2, "F32": 4, "C64": 8}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in `file`: its type as the format names it, and the byte at which it begins in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


class Tensors:
    """The tensors of several safetensors files, by name; the constructor reads only the headers.

    The names are the model's own, without `wrappers`, what training programs wrapped the model in, and COMPUTED ones
    are left out. Raises ModelError for a missing or damaged file and for a tensor whose type is not one of DTYPES.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        stored: dict[str, StoredTensor] = {}
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
        return self._tensors[name].shape

    def dtype(self, name: str) -> str:
        """Return the type of one tensor as a key of DTYPES."""
        return self._tensors[name].dtype

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows `start` to `stop` of one tensor as float32 or float16; bfloat16 becomes float32.

        The file is mapped for as long as the array lives, so that only the rows read are in memory. Raises ModelError
        if the file can no longer be read.
        """
        stored = self._tensors[name]
        try:
            with stored.file.open("rb") as file:
                mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
            whole = np.frombuffer(mapped, DTYPES[stored.dtype], math.prod(stored.shape), stored.offset)
        except (OSError, ValueError) as error:  # it was removed or changed after its header was read
            message = f"{stored.file}: cannot be read ({error})"
            raise ModelError(message, "is its disk still there?") from error
        array: NDArray[Any] = whole.reshape(stored.shape)[start:stop]
        return bfloat16_to_float32(array) if stored.dtype == "BF16" else array


def bfloat16_to_float32(bfloat16: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Convert the bits of bfloat16 numbers, each the upper half of a float32, to float32."""
    bits = bfloat16.astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def _header(file: Path) -> dict[str, StoredTensor]:
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
            if length > min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            entries = json.loads(stream.read(length))
        entries.pop("__metadata__", None)
        return _tensors(file, entries, LENGTH_BYTES + length, size)
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file", "download the rest of it") from None
    except PermissionError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror})", "check its rights") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{file}: damaged ({error})", DOWNLOAD_AGAIN) from error


def _tensors(file: Path, entries: dict[str, Any], data_start: int, size: int) -> dict[str, StoredTensor]:
    """The tensors of a header's `entries`, whose data fills the file from `data_start` to its end without a gap.

    Raises ValueError where it does not, as the library does: a file that was cut short, or two that were mixed up.
    """
    tensors: dict[str, StoredTensor] = {}
    expected = 0  # where the next tensor begins in the data
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        (start, end), shape, dtype = entry["data_offsets"], tuple(map(int, entry["shape"])), str(entry["dtype"])
        width = WIDTHS.get(dtype)
        if min(shape, default=0) < 0 or start != expected or (width and end - start != math.prod(shape) * width):
            raise ValueError(f"the offsets of {name} are {start} and {end}")
        tensors[name], expected = StoredTensor(file, dtype, shape, data_start + start), end
    if data_start + expected != size:
        raise ValueError(f"{size} bytes in place of {data_start + expected}")
    return tensors


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
