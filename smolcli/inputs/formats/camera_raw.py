"""Camera raw: the largest preview in the file. The sensor's own data is not developed here.

DNG, NEF, ARW, PEF and CR2 are TIFFs whose directories say where their previews are. In other raw files a JPEG is looked
for by its first bytes. Their layouts: DNG 1.7; exiftool's tables of tags for the others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.formats import tiff
from smolcli.inputs.formats.tiff import Directories, Directory
from smolcli.inputs.signatures import raw_kind_of

SENSOR_PHOTOMETRICS = frozenset((32803, 34892))  # CFA, of TIFF/EP; LinearRaw, of DNG
SENSOR_COMPRESSIONS = frozenset((32767, 34713, 65535))  # Sony's, Nikon's, Pentax's
TIFF_COMPRESSIONS = frozenset((1, 5, 7, 8, 32773, 32946))  # of previews: none, LZW, JPEG, deflate, PackBits
TIFF_LIKE = ("ORF", "RW2")  # TIFFs with another number in their third and fourth byte
MIN_PREVIEW = 480  # pixels along the longest edge: thumbnails have 160 x 120 to 320 x 240, and print is lost in them
JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2))  # start of frame: baseline, extended, progressive; the sensor's is lossless
MAX_SEGMENTS = 200  # before the frame of a JPEG
MAX_SIGNATURES = 10_000  # that are looked at; in the sensor's data one stands by chance in 16 MB


class Preview(NamedTuple):
    """A preview in a raw file and its size in pixels: a JPEG from `start` to `end`, or a directory that TIFF codes."""

    width: int
    height: int
    start: int = 0
    end: int = 0
    directory: Directory | None = None


def is_raw(data: bytes, directories: Directories) -> bool:
    """Whether a TIFF holds the data of a camera's sensor."""
    return data[8:11] == b"CR\x02" or any(
        _is_of_sensor(directory) or tiff.DNG_VERSION in directory.tags
        for directory in (*directories.main, *directories.sub)
    )


def largest_preview(data: bytes, directories: Directories | None) -> Preview:
    """Return the largest preview. Raises InputError, unsupported, if there is none larger than a thumbnail.

    `directories` are those of a TIFF, None for other raw files.
    """
    previews = _previews_anywhere(data) if directories is None else _previews_of(data, directories)
    preview = max(previews, key=lambda preview: preview.width * preview.height, default=None)
    if preview is None or max(preview.width, preview.height) < MIN_PREVIEW:
        size = "no preview" if preview is None else f"a preview of only {preview.width} x {preview.height} pixels"
        raise InputError(
            f"is camera raw with {size} in it", "develop it to JPEG or TIFF with darktable-cli or the like",
            kind=ErrorKind.UNSUPPORTED,
        )  # fmt: skip
    return preview


def orientation(data: bytes, directories: Directories | None) -> int | None:
    """Return the orientation of the picture in EXIF's numbers, if the raw file says it."""
    directories = directories or _tiff_like_directories(data)
    if directories is None or not directories.main:
        return None
    return directories.main[0].value(tiff.ORIENTATION) or None


def _tiff_like_directories(data: bytes) -> Directories | None:
    """Return the directories of a raw file that is no ordinary TIFF, where it has some."""
    kind = raw_kind_of(data)
    try:
        if kind in TIFF_LIKE:
            return Directories(data[:2] + (b"*\0" if data[:2] == b"II" else b"\0*") + data[4:])
        if kind == "CR3" and (start := data.find(b"CMT1", 0, 2**16)) >= 0:  # a box with a TIFF in it
            return Directories(data[start + 4 : start + 2**16])
    except struct.error:
        pass
    return None


# ---- previews -----------------------------------------------------------------------------------------


def _previews_of(data: bytes, directories: Directories) -> Iterator[Preview]:
    for directory in (*directories.main, *directories.sub):
        start, length = _jpeg_extent(directory)
        if (size := _jpeg_size(data, start)) is not None:
            if start + length <= len(data):
                yield Preview(*size, start, start + length)
        elif directory.value(tiff.COMPRESSION) in TIFF_COMPRESSIONS and _has_colors(directory) and all(directory.size):
            yield Preview(*directory.size, directory=directory)


def _jpeg_extent(directory: Directory) -> tuple[int, int]:
    """Return offset and length of the data of a directory if that may be one JPEG, else zeros."""
    if tiff.JPEG_OFFSET in directory.tags:
        return directory.value(tiff.JPEG_OFFSET), directory.value(tiff.JPEG_BYTES)
    if len(directory.tags.get(tiff.STRIP_OFFSETS, ())) == 1 and not _is_of_sensor(directory):
        return directory.value(tiff.STRIP_OFFSETS), directory.value(tiff.STRIP_BYTES)
    return 0, 0


def _is_of_sensor(directory: Directory) -> bool:
    return (
        directory.value(tiff.PHOTOMETRIC) in SENSOR_PHOTOMETRICS
        or directory.value(tiff.COMPRESSION) in SENSOR_COMPRESSIONS
    )


def _has_colors(directory: Directory) -> bool:
    """Whether a directory says what its colors are; that of the sensor's data in CR2 does not."""
    return tiff.PHOTOMETRIC in directory.tags and not _is_of_sensor(directory)


def _previews_anywhere(data: bytes) -> Iterator[Preview]:
    start = -1
    for _ in range(MAX_SIGNATURES):
        if (start := data.find(b"\xff\xd8\xff", start + 1)) < 0:
            return
        if (size := _jpeg_size(data, start)) is not None:
            yield Preview(*size, start, len(data))


def _jpeg_size(data: bytes, start: int) -> tuple[int, int] | None:
    """Return width and height of the JPEG at `start`, None if there is none that can be decoded."""
    if data[start : start + 3] != b"\xff\xd8\xff":
        return None
    offset = start + 2
    for _ in range(MAX_SEGMENTS):
        if offset + 9 > len(data) or data[offset] != 0xFF:
            return None
        marker = data[offset + 1]
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return (width, height) if width and height and data[offset + 4] == 8 else None
        if marker in (0xC3, 0xDA, 0xD9):
            return None
        offset += 1 if marker == 0xFF else 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return None
