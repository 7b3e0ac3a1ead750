"""Uncompressed video, YUV4MPEG2 (.y4m): whether the file ends with a whole frame. FFmpeg passes over a part of one.

Layout: yuv4mpeg(5) of the MJPEG tools; the depths and the alpha channel are FFmpeg's (libavformat/yuv4mpegenc.c).
"""

from __future__ import annotations

import re

from smolcli.inputs.decoders import open_source

SIGNATURE = b"YUV4MPEG2 "
MAX_LINE = 2**12  # bytes of the header and of the line before each frame
# Of the tag C: the sampling, whether there is alpha, and the bits of a sample where these are more than 8.
_FORMAT = re.compile(rb"(420|422|444|411|mono)(alpha)?[a-z0-9]*?(?:p?(9|1[0246]))?$")
_DIVISORS = {b"420": (2, 2), b"422": (2, 1), b"444": (1, 1), b"411": (4, 1)}  # of the planes of color, by sampling


def is_cut_y4m(source: str | bytes) -> bool:
    """Whether a source is YUV4MPEG2 and ends within a frame; False if it is of a format that is not known here."""
    with open_source(source) as file:
        size = _frame_bytes(file.readline(MAX_LINE))
        if not size:
            return False
        end = file.seek(0, 2)
        file.seek(0)
        offset = len(file.readline(MAX_LINE))
        while offset < end:
            file.seek(offset)
            offset += len(file.readline(MAX_LINE)) + size
        return offset > end


def _frame_bytes(header: bytes) -> int:
    """Return the bytes of a frame's pixels by the first line of the file, 0 if they are not known."""
    if not header.startswith(SIGNATURE):
        return 0
    tags = {word[:1]: word[1:] for word in header.split()[1:] if not word.startswith(b"X")}
    format = _FORMAT.match(tags.get(b"C", b"420jpeg"))
    width, height = tags.get(b"W", b""), tags.get(b"H", b"")
    if format is None or not (width.isdigit() and height.isdigit() and len(width + height) < 20):
        return 0
    sampling, alpha, bits = format.groups()
    samples = int(width) * int(height) * (2 if alpha else 1)
    if sampling in _DIVISORS:
        across, down = _DIVISORS[sampling]
        samples += 2 * -(-int(width) // across) * -(-int(height) // down)
    return samples * (2 if bits else 1)
