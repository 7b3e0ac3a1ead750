"""The key-value pairs at the head of a GGUF file, by its published layout (ggml's docs/gguf.md, version 3).

The package gguf reads them too, but importing it costs a second at every start; and a damaged file
must be told from a whole one before native code is given it.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

from smolcli.errors import ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def read_header(path: Path) -> dict[str, Any]:
    """Key to value; arrays are left out (None), since only tokenizers have them.

    Raises ModelError for what is no GGUF, another version than 2 or 3, or ends before its keys do.
    """
    try:
        with path.open("rb") as file:
            return _pairs(path, file)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    except (struct.error, UnicodeDecodeError, KeyError, EOFError):
        raise ModelError(f"{path} is a damaged GGUF file", "fetch or convert it again") from None


def _pairs(path: Path, file: BinaryIO) -> dict[str, Any]:
    size = os.fstat(file.fileno()).st_size
    if file.read(4) != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file", "name a .gguf model or a checkpoint directory")
    version, tensors, pairs = struct.unpack("<IQQ", _exactly(file, 20))
    if version not in (2, 3):
        raise ModelError(f"{path} is GGUF version {version}, which is not known", "convert it again")
    if tensors > size or pairs > size:
        raise EOFError
    found = {}
    for _ in range(pairs):
        key = _string(file, size)
        (kind,) = struct.unpack("<I", _exactly(file, 4))
        found[key] = _value(file, kind, size)
    return found


def _value(file: BinaryIO, kind: int, size: int) -> Any:
    if kind == _STRING:
        return _string(file, size)
    if kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _exactly(file, 12))
        if count > size:
            raise EOFError
        if inner in (_STRING, _ARRAY):
            for _ in range(count):
                _value(file, inner, size)
        else:
            _exactly(file, count * struct.calcsize("<" + _SCALARS[inner]))
        return None
    letter = "<" + _SCALARS[kind]
    return struct.unpack(letter, _exactly(file, struct.calcsize(letter)))[0]


def _string(file: BinaryIO, size: int) -> str:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    if length > size:
        raise EOFError
    return _exactly(file, length).decode("utf-8")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
