"""JPEG: whether all of its pixels are there. libjpeg fills what is missing with gray and does not say so."""

from __future__ import annotations

import io
import re
from itertools import product

from PIL import Image

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.pixels import check_size

END = b"\xff\xd9"
_MARKER_START = re.compile(rb"\xff+")  # any number of FF may stand before the code of a marker: ITU-T T.81, B.1.1.2
NO_END_MARK = "has no end mark; all of the picture is there"


def with_end(jpeg: bytes, max_pixels: int) -> tuple[bytes, bool]:
    """Return the JPEG with an end mark, and whether it had one after its first scan.

    Raises InputError: truncated, where it has none and pixels are missing; too-large, where they would have to be
    decoded to know that. Zeros at the end count as missing: they are what an unfinished download is filled with.
    """
    if jpeg.find(END, _scan_start(jpeg)) >= 0:
        return jpeg, True
    received = jpeg.rstrip(b"\0")
    if received.endswith(b"\xff") and len(received) < len(jpeg):
        received += b"\0"  # a scan that ends with FF is stored with a zero after it; else its last bits are ones
    if not _has_all_pixels(received, max_pixels):
        raise InputError("is cut short (it has no end)", "get a whole copy", kind=ErrorKind.TRUNCATED)
    return received + END, False


def _scan_start(jpeg: bytes) -> int:
    """Return the offset of the marker of the first scan, or of where the markers end."""
    offset = 2
    while (match := _MARKER_START.match(jpeg, offset)) is not None:
        code = match.end()
        if jpeg[code : code + 1] in (b"\xda", b""):
            return code - 1
        offset = code + 1 + int.from_bytes(jpeg[code + 1 : code + 3], "big")
    return offset


def _has_all_pixels(jpeg: bytes, max_pixels: int) -> bool:
    """Whether the pixels stay the same, whatever is appended to the data. Raises InputError, too-large.

    If any were missing, the decoder would take them from what is appended. Restart markers are appended too, because a
    decoder that waits for one takes nothing before it.
    """
    pictures = set()
    for filler in (b"\x00", b"\x55", b"\xca"):
        tail = b"".join(filler * 64 + b"\xff" + bytes([marker]) for _, marker in product(range(8), range(0xD0, 0xD8)))
        try:
            with Image.open(io.BytesIO(jpeg + tail + END), formats=("JPEG",)) as image:
                check_size(image.width, image.height, max_pixels)
                image.load()
                pictures.add(hash(image.tobytes()))
        except InputError:
            raise
        except Exception:  # Pillow's decoders raise many classes for damaged data
            return False
    return len(pictures) == 1
