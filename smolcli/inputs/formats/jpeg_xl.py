"""JPEG XL. Its Pillow plugin is not used: it decodes while it opens, and gives the last frame of an animation.

It also reads 16-bit gray with transparency as 8-bit. So the decoder is called here, after the header has been read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.pixels import check_size, scale_16_to_8_bits

RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width : height
SAMPLE_TYPES = {1: "u1", 2: "u2", 4: "f4"}  # NumPy types by bytes per sample, in the machine's byte order
HEADER_BYTES = 64  # at the start of a codestream, more than its sizes take


class DecodedJpegXl(NamedTuple):
    """The picture, upright, and its ICC profile."""

    image: Image.Image
    profile: bytes


def decode(data: bytes, max_pixels: int, decoder: Callable[[], Callable[[bytes], Any]]) -> bytes | DecodedJpegXl:
    """Decode a JPEG XL with the `Decoder` of pillow_jxl, or unpack the JPEG that was repacked as one.

    Raises InputError: too-large, or unsupported for an animation.
    """
    width, height, is_animated = _parse_header(_codestream(data))
    check_size(width, height, max_pixels)
    if is_animated:
        raise InputError("is an animated JPEG XL", "convert its first frame to PNG", kind=ErrorKind.UNSUPPORTED)
    is_jpeg, info, pixels, profile, _ = decoder()(data)
    if is_jpeg:  # `pixels` are the JPEG's original bytes, with the orientation in its EXIF
        return bytes(pixels)
    bands = 1 if info.mode in ("I;16", "F", "F;16") else len(info.mode)
    values = np.frombuffer(pixels, SAMPLE_TYPES[len(pixels) // (info.width * info.height * bands)])
    shaped = values.reshape(info.height, info.width, bands)
    if shaped.dtype == np.uint16:
        shaped = scale_16_to_8_bits(shaped)
    elif shaped.dtype == np.float32:
        shaped = np.rint(np.clip(np.nan_to_num(shaped), 0, 1) * 255).astype(np.uint8)
    return DecodedJpegXl(Image.fromarray(shaped.squeeze(2) if bands == 1 else shaped), bytes(profile or b""))


def _codestream(data: bytes) -> bytes:
    """Return the first bytes of the codestream, which may be in a container of boxes."""
    if data.startswith(b"\xff\x0a"):
        return data[:HEADER_BYTES]
    codestream, offset = b"", 0
    while offset + 16 <= len(data) and len(codestream) < HEADER_BYTES:
        size, name, long_size = struct.unpack_from(">I4sQ", data, offset)
        head, size = (16, long_size) if size == 1 else (8, size or len(data) - offset)
        body = offset + head + (4 if name == b"jxlp" else 0)  # a jxlp box begins with its number
        if name in (b"jxlc", b"jxlp"):
            codestream += data[body : min(offset + size, body + HEADER_BYTES)]
        offset += max(size, head)
    return codestream


def _parse_header(codestream: bytes) -> tuple[int, int, bool]:
    """Return width and height in pixels, and whether it is an animation.

    ISO/IEC 18181-1, SizeHeader and ImageMetadata.
    """
    rest = int.from_bytes(codestream[2:HEADER_BYTES], "little")

    def take(bits: int) -> int:  # the next bits as a number
        nonlocal rest
        value, rest = rest & ((1 << bits) - 1), rest >> bits
        return value

    def side(small: int) -> int:
        return 8 * (1 + take(5)) if small else 1 + take((9, 13, 18, 30)[take(2)])

    def size() -> tuple[int, int]:
        small = take(1)
        height = side(small)
        ratio = take(3)
        wide, high = RATIOS[ratio - 1]
        return (height * wide // high if ratio else side(small)), height

    width, height = size()
    all_default = take(1)
    if all_default or not take(1):
        return width, height, False
    take(3)  # the orientation, which the decoder applies
    if take(1):
        size()  # the intrinsic size, at which the picture should be shown
    has_preview = take(1)
    return width, height, not has_preview and bool(take(1))
