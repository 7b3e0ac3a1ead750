"""AVIF: the color codes of its primary picture, which Pillow does not give. Layout: ISO/IEC 14496-12 and 23008-12."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_ITEMS = 2**16  # in a file, as many as the first version of the format can number
Box = tuple[int, int]  # where the content of a box begins and ends


def coding(data: bytes) -> tuple[int, int] | None:
    """Return the codes of primaries and transfer (ITU-T H.273) of the primary picture, if it has some.

    >>> coding(b"") is None
    True
    """
    try:
        return _coding(data)
    except (struct.error, IndexError, StopIteration):
        return None


def _coding(data: bytes) -> tuple[int, int] | None:
    meta = _child(data, (0, len(data)), b"meta")
    meta = meta[0] + 4, meta[1]  # after version and flags
    primary = _child(data, meta, b"pitm")
    [version] = struct.unpack_from(">B", data, primary[0])
    [item] = struct.unpack_from(">I" if version else ">H", data, primary[0] + 4)
    properties = _child(data, meta, b"iprp")
    available = list(_boxes(data, _child(data, properties, b"ipco")))
    for number in _associated(data, _child(data, properties, b"ipma"), item):
        name, (start, _) = available[number - 1]
        if name == b"colr" and data[start : start + 4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", data, start + 4)
            return primaries, transfer
    return None


def _associated(data: bytes, box: Box, item: int) -> list[int]:
    """Return the numbers of the properties of an item, counted from 1: ItemPropertyAssociationBox."""
    version_and_flags, count = struct.unpack_from(">II", data, box[0])
    id_code = ">H" if version_and_flags >> 24 < 1 else ">I"
    code, mask = (">H", 0x7FFF) if version_and_flags & 1 else (">B", 0x7F)
    offset = box[0] + 8
    for _ in range(min(count, MAX_ITEMS)):
        [number] = struct.unpack_from(id_code, data, offset)
        offset += struct.calcsize(id_code)
        [length] = struct.unpack_from(">B", data, offset)
        offset += 1
        values = [struct.unpack_from(code, data, offset + n * struct.calcsize(code))[0] & mask for n in range(length)]
        offset += length * struct.calcsize(code)
        if number == item:
            return [value for value in values if value]
    return []


def _child(data: bytes, box: Box, name: bytes) -> Box:
    """Return a box inside another by its name. Raises StopIteration."""
    return next(content for other, content in _boxes(data, box) if other == name)


def _boxes(data: bytes, box: Box) -> Iterator[tuple[bytes, Box]]:
    """Yield the name and content of each box inside another."""
    offset, end = box
    while offset + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, offset)
        head = 8
        if size == 1:
            [size] = struct.unpack_from(">Q", data, offset + 8)
            head = 16
        size = size or end - offset
        if size < head:
            return
        yield name, (offset + head, min(offset + size, end))
        offset += size
