"""The head of a GGUF file, keys and tensor shapes, by its published layout (ggml's docs/gguf.md, version 3).

The package gguf reads them too, but importing it costs a second at every start; and a damaged file
must be told from a whole one before native code is given it: llama.cpp runs a vision half whose last
tensor is cut short, with whatever was in memory as its weights.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from smolcli.errors import ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4  # GGML_MAX_DIMS

# enum ggml_type to (weights, bytes) of a block. The end of a tensor of another type is not checked.
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
    """`keys`: arrays are left out (None), since only tokenizers have them. `shapes`: the fastest dimension first.
    `places`: each tensor's number of enum ggml_type, and where in the file it begins.
    """

    keys: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, tuple[int, int]]


def read_header(path: Path) -> Header:
    """Raises ModelError for what is no GGUF, another version than 2 or 3, or ends before its keys or weights do."""
    try:
        with path.open("rb") as file:
            return _header(path, file)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    except (struct.error, UnicodeDecodeError, KeyError, EOFError):
        raise ModelError(f"{path} is a damaged GGUF file", "fetch or convert it again") from None


def _header(path: Path, file: BinaryIO) -> Header:
    size = os.fstat(file.fileno()).st_size
    if file.read(4) != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file", "name a .gguf model or a checkpoint directory")
    version, tensors, pairs = struct.unpack("<IQQ", _exactly(file, 20, size))
    if version not in (2, 3):
        raise ModelError(f"{path} is GGUF version {version}, which is not known", "convert it again")
    keys = {}
    for _ in range(pairs):
        key = _string(file, size)
        keys[key] = _value(file, _unpack(file, "I", size), size)
    shapes, places, end = {}, {}, 0
    for _ in range(tensors):
        name = _string(file, size)
        dimensions = _unpack(file, "I", size)
        if dimensions > _MOST_DIMENSIONS:
            raise EOFError
        shapes[name] = struct.unpack(f"<{dimensions}Q", _exactly(file, 8 * dimensions, size))
        kind, offset = _unpack(file, "I", size), _unpack(file, "Q", size)
        places[name] = kind, offset
        weights, stored = BLOCKS.get(kind, (1, 0))
        end = max(end, offset + math.prod(shapes[name]) // weights * stored)
    alignment = keys.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise EOFError
    begin = -(-file.tell() // alignment) * alignment
    needed = begin + end if tensors else file.tell()
    if needed > size:
        raise ModelError(f"{path} is cut short: {size} of {needed} bytes", "fetch or copy it again")
    return Header(keys, shapes, {name: (kind, begin + offset) for name, (kind, offset) in places.items()})


def _value(file: BinaryIO, kind: int, size: int) -> Any:
    if kind == _STRING:
        return _string(file, size)
    if kind == _ARRAY:
        inner, count = _unpack(file, "I", size), _unpack(file, "Q", size)
        if inner == _STRING:
            for _ in range(count):
                _skip(file, _unpack(file, "Q", size), size)
        else:  # an array of arrays is no GGUF for llama.cpp either: a KeyError
            _skip(file, count * struct.calcsize("<" + _SCALARS[inner]), size)
        return None
    return _unpack(file, _SCALARS[kind], size)


def _string(file: BinaryIO, size: int) -> str:
    return _exactly(file, _unpack(file, "Q", size), size).decode("utf-8")


def _unpack(file: BinaryIO, letter: str, size: int) -> Any:
    return struct.unpack("<" + letter, _exactly(file, struct.calcsize("<" + letter), size))[0]


def _skip(file: BinaryIO, count: int, size: int) -> None:
    if count > size - file.tell():
        raise EOFError
    file.seek(count, os.SEEK_CUR)


def _exactly(file: BinaryIO, count: int, size: int) -> bytes:
    if count > size:  # before memory is asked for
        raise EOFError
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
