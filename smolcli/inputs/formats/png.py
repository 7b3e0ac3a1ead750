"""PNG: the checksums of its pixels, its size without metadata, and the colors that a cICP chunk names."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from smolcli.errors import ErrorKind, InputError

METADATA = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP"))


def chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each complete chunk of a PNG."""
    start = 8
    while start + 12 <= len(png):
        length, name = struct.unpack_from(">I4s", png, start)
        if (end := start + 12 + length) > len(png):
            return
        yield name, start, end
        start = end


def check_checksums(png: bytes) -> None:
    """Check the pixel data. Pillow does not, and reads the zeros of an unfinished download as black.

    Raises InputError, truncated.
    """
    view = memoryview(png)
    for name, start, end in chunks(png):
        if name == b"IDAT" and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise InputError("is damaged (a checksum is wrong)", "get a whole copy", kind=ErrorKind.TRUNCATED)


def without_metadata(png: bytes) -> bytes:
    """Return the PNG without its texts and color profile."""
    kept = [png[start:end] for name, start, end in chunks(png) if name not in METADATA]
    return b"".join([png[:8], *kept])


def coding(png: bytes) -> tuple[int, int] | None:
    """Return the codes of primaries and transfer (ITU-T H.273) that the cICP chunk names, if there is one."""
    for name, start, _ in chunks(png):
        if name == b"cICP":
            return png[start + 8], png[start + 9]
        if name == b"IDAT":
            break
    return None
