"""Splits standard input where several pictures follow one another, as `ffmpeg -f image2pipe` and `cat` write them.

Where a picture ends is known of PNG, JPEG, BMP, WebP and binary Netpbm files, from their headers alone. Whatever else
follows a picture is left a part of it, like the film that some phones append to a photo.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import IO

from smolcli.inputs.signatures import kind_of

_CHUNK = 2**20  # bytes
_JPEG = b"\xff\xd8\xff"
_SIGNATURE = 16  # bytes by which the beginning of a picture is known
# A marker of JPEG that is no part of the entropy-coded data (ITU-T T.81, B.1.1): not FF 00, which is a byte of it, nor
# a restart marker. Any number of bytes FF may stand before it.
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_JPEG_ALONE, _JPEG_END, _JPEG_APP2 = (0x01, 0xD8), 0xD9, 0xE2  # the first ones have no segment after them
_GAP = rb"(?:\s|#[^\n]*\n)+"
_NUMBER = rb"(\d{1,10})"
_PBM = re.compile(rb"P4%s%s%s%s\s" % (_GAP, _NUMBER, _GAP, _NUMBER))  # width, height
# Kind, width, height, largest value.
_PGM_PPM = re.compile(rb"P([56])%s%s%s%s%s%s\s" % (_GAP, _NUMBER, _GAP, _NUMBER, _GAP, _NUMBER))
_NETPBM_HEADER = 2**16  # bytes, with comments; a longer one is not looked for again and again
_ONE_PICTURE = -1  # stands for a position: the file holds several pictures that belong together

# Goes on looking for the end of the picture at the beginning of the bytes. Returns where to go on with more bytes, and
# whether that is the end.
Finder = Callable[[bytes | bytearray, int], tuple[int, bool]]


def split_pictures(file: IO[bytes], max_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Yield each picture of a stream, and whether it is the last one, as soon as the next one begins or there is none.

    A stream that is empty, or whose pictures cannot be told apart, is given as one. Of a picture of more than
    `max_bytes` bytes a byte more than these is given, and the rest of the stream is not read.
    """
    stream = _Stream(file)
    while True:
        end = stream.find_end(max_bytes)
        if end is None or not stream.has_picture_at(end):
            stream.read_until(max_bytes + 1)
            yield bytes(stream.data[: max_bytes + 1]), True
            return
        yield bytes(stream.data[:end]), False
        del stream.data[:end]


def has_several(data: bytes) -> bool:
    """Whether the bytes of a file are several pictures in a row."""
    return _begins_picture(_rest(data)[:_SIGNATURE])


def foreign_bytes(data: bytes) -> int:
    """How many bytes after a picture belong to no picture; 0 for padding, and for what phones append to a JPEG."""
    rest = _rest(data)
    return 0 if data.startswith(_JPEG) or not rest.strip(b"\0 \t\r\n") or _begins_picture(rest) else len(rest)


def _rest(data: bytes) -> bytes:
    """The bytes after the first picture; none where its end is not known."""
    finder = _finder_of(data[:_SIGNATURE])
    position, is_end = finder(data, 0) if finder is not None else (0, False)
    return data[position:] if is_end else b""


class _Stream:
    """What was read of a file and not yet given out."""

    def __init__(self, file: IO[bytes]) -> None:
        self._read: Callable[[int], bytes] = getattr(file, "read1", file.read)  # gives what a pipe has, without waiting
        self.data = bytearray()

    def read_until(self, size: int) -> bool:
        """Read until there are `size` bytes. Returns whether there are so many."""
        while len(self.data) < size and (chunk := self._read(_CHUNK)):
            self.data += chunk
        return len(self.data) >= size

    def find_end(self, max_bytes: int) -> int | None:
        """Where the first picture ends; None if that is not known, or comes after `max_bytes` bytes."""
        self.read_until(_SIGNATURE)
        finder, position, is_end = _finder_of(self.data), 0, False
        while finder is not None:
            position, is_end = finder(self.data, position)
            if is_end or position == _ONE_PICTURE or len(self.data) > max_bytes:
                break
            if not self.read_until(len(self.data) + 1):
                break
        return position if is_end and position <= max_bytes else None

    def has_picture_at(self, position: int) -> bool:
        """Whether another picture begins at a position."""
        self.read_until(position + _SIGNATURE)
        return _begins_picture(bytes(self.data[position : position + _SIGNATURE]))


def _begins_picture(head: bytes) -> bool:
    return bool(head) and (_finder_of(head) is not None or bool(kind_of(head)))


def _finder_of(head: bytes | bytearray) -> Finder | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _find_png_end
    if head.startswith(_JPEG):
        return _find_jpeg_end
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return lambda data, _: _size_reached(data, int.from_bytes(data[2:6], "little"))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return lambda data, _: _size_reached(data, 8 + int.from_bytes(data[4:8], "little"))
    return _find_netpbm_end if re.match(rb"P[456]\s", head) else None


def _size_reached(data: bytes | bytearray, size: int) -> tuple[int, bool]:
    return size, 0 < size <= len(data)


def _find_png_end(data: bytes | bytearray, position: int) -> tuple[int, bool]:
    """After the chunk IEND; a chunk is its length, its name, the data and a checksum (PNG specification, 5.3)."""
    position = position or 8
    while position + 8 <= len(data):
        name = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if name == b"IEND":
            return (end, True) if end <= len(data) else (position, False)
        position = end
    return position, False


def _find_jpeg_end(data: bytes | bytearray, position: int) -> tuple[int, bool]:
    """After the marker EOI; a segment before it is skipped by its length, and with it a thumbnail's EOI.

    A segment MPF (CIPA DC-007) says that the pictures behind this one belong to it.
    """
    while match := _JPEG_MARKER.search(data, position):
        marker, after = match[1][0], match.end()
        if marker == _JPEG_END:
            return after, True
        if marker in _JPEG_ALONE:
            position = after
        elif len(data) < after + 6:
            return match.start(), False
        elif marker == _JPEG_APP2 and data[after + 2 : after + 6] == b"MPF\0":
            return _ONE_PICTURE, False
        else:
            position = after + int.from_bytes(data[after : after + 2], "big")
    return max(position, len(data) - 1), False  # the last byte may be the first one of a marker


def _find_netpbm_end(data: bytes | bytearray, _: int) -> tuple[int, bool]:
    """After the pixels, whose number and size the header says."""
    if match := _PBM.match(data, 0, _NETPBM_HEADER):
        width, height = map(int, match.groups())
        return _size_reached(data, match.end() + (width + 7) // 8 * height)
    if match := _PGM_PPM.match(data, 0, _NETPBM_HEADER):
        kind, width, height, largest = map(int, match.groups())
        samples = width * height * (3 if kind == 6 else 1)
        return _size_reached(data, match.end() + samples * (1 if largest < 256 else 2))
    return 0, False
