"""Reads the keys and the tensor table of a GGUF file by its published layout (ggml's docs/gguf.md, version 3).

The package gguf reads them too, but importing it adds a second to each start. A damaged file has to be recognised
before it reaches native code: llama.cpp runs a vision half whose last tensor is cut short, with whatever was in memory
as its weights.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from smolcli.errors import ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_INT32, _STRING, _ARRAY = 5, 8, 9
_MAX_DIMENSIONS = 4  # GGML_MAX_DIMS

# enum ggml_type to the (weights, bytes) of a block. The end of a tensor of any other type is not checked.
BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    30: (1, 2),  # BF16
}


@dataclass(frozen=True)
class Header:
    """The metadata of a GGUF file.

    `keys` maps each key to its value; an array is a list, and one of strings None unless it was asked for. `shapes`
    maps each tensor to its shape, the dimension that varies fastest first. `places` maps it to its type, a number of
    enum ggml_type, and to the offset in bytes at which it begins in the file.
    """

    keys: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, tuple[int, int]]


def read_header(path: Path, with_strings: bool = False) -> Header:
    """Read the metadata of `path`, and `with_strings` its arrays of strings too, such as the vocabulary.

    Raises ModelError for a file that is not GGUF, has another version than 2 or 3, or is cut short.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file, with_strings)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    except (struct.error, UnicodeDecodeError, KeyError, EOFError):
        raise ModelError(f"{path} is a damaged GGUF file", "fetch or convert it again") from None


def read_first_keys(data: bytes, name: str) -> dict[str, Any]:
    """Return the keys at the beginning of a GGUF file: those that are whole in its first bytes `data`.

    `name` is the file's in errors. Raises ModelError for a file that is not GGUF.
    """
    file = io.BytesIO(data)
    if file.read(4) != b"GGUF":
        raise ModelError(f"{name} is not a GGUF file", "name a .gguf model or a checkpoint directory")
    reader = _FieldReader(file, len(data))
    keys: dict[str, Any] = {}
    with contextlib.suppress(struct.error, UnicodeDecodeError, KeyError, EOFError):  # the end of `data`
        _version, _tensor_count, key_count = reader.number("I"), reader.number("Q"), reader.number("Q")
        for _ in range(key_count):
            key = reader.string()
            keys[key] = reader.value(reader.number("I"))
    return keys


def _read(path: Path, file: BinaryIO, with_strings: bool) -> Header:
    if file.read(4) != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file", "name a .gguf model or a checkpoint directory")
    reader = _FieldReader(file, os.fstat(file.fileno()).st_size, with_strings)
    version, tensor_count, key_count = reader.number("I"), reader.number("Q"), reader.number("Q")
    if version not in (2, 3):
        raise ModelError(f"{path} is GGUF version {version}, which is not known", "convert it again")
    keys: dict[str, Any] = {}
    for _ in range(key_count):
        key = reader.string()
        keys[key] = reader.value(reader.number("I"))
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, tuple[int, int]] = {}
    data_size = 0  # bytes of the tensors, as far as their types are known
    for _ in range(tensor_count):
        name = reader.string()
        shapes[name] = reader.shape()
        ggml_type, offset = reader.number("I"), reader.number("Q")
        places[name] = ggml_type, offset
        block_weights, block_bytes = BLOCKS.get(ggml_type, (1, 0))
        data_size = max(data_size, offset + math.prod(shapes[name]) // block_weights * block_bytes)
    alignment = keys.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise EOFError
    data_start = -(-file.tell() // alignment) * alignment
    needed = data_start + data_size if tensor_count else file.tell()
    if needed > reader.file_size:
        raise ModelError(f"{path} is cut short: {reader.file_size} of {needed} bytes", "fetch or copy it again")
    return Header(keys, shapes, {name: (kind, data_start + offset) for name, (kind, offset) in places.items()})


class _FieldReader:
    """Reads the fields of a GGUF file in order. All methods raise EOFError where the file ends too early."""

    def __init__(self, file: BinaryIO, file_size: int, with_strings: bool = False) -> None:
        self._file, self._with_strings = file, with_strings
        self.file_size = file_size

    def number(self, letter: str) -> Any:
        """Read a number whose type is `letter` in module struct."""
        return struct.unpack("<" + letter, self._bytes(struct.calcsize("<" + letter)))[0]

    def string(self) -> str:
        return self._bytes(self.number("Q")).decode("utf-8")

    def shape(self) -> tuple[int, ...]:
        dimensions = self.number("I")
        if dimensions > _MAX_DIMENSIONS:
            raise EOFError
        return struct.unpack(f"<{dimensions}Q", self._bytes(8 * dimensions))

    def value(self, value_type: int) -> Any:
        """Read the value of a key; an array of strings may be skipped, which gives None.

        Raises KeyError for an unknown type.
        """
        if value_type == _STRING:
            return self.string()
        if value_type != _ARRAY:
            return self.number(_SCALARS[value_type])
        item_type, count = self.number("I"), self.number("Q")
        if item_type != _STRING:  # an array of arrays is a KeyError; llama.cpp does not read it either
            items = f"<{count}{_SCALARS[item_type]}"
            return list(struct.unpack(items, self._bytes(struct.calcsize(items))))
        if self._with_strings:
            return [self.string() for _ in range(count)]
        for _ in range(count):
            self._skip(self.number("Q"))
        return None

    def _skip(self, count: int) -> None:
        if count > self.file_size - self._file.tell():
            raise EOFError
        self._file.seek(count, os.SEEK_CUR)

    def _bytes(self, count: int) -> bytes:
        if count > self.file_size:  # checked before the memory is allocated
            raise EOFError
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError
        return data
