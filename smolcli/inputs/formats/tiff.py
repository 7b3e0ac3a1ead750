"""TIFF: the directories of a file, one for each picture in it, and which of them are pages.

A directory is a table of tags. The main ones form a chain; a directory may have sub-directories, where cameras keep
previews and the sensor's data. Layout: TIFF 6.0, section 2, and BigTIFF; tags also from TIFF/EP and DNG 1.7.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

# Entries of all directories, and directories that they name: some 100,000 pages. A file made to mislead may name the
# same bytes again and again.
MAX_ENTRIES = 2**21
MAX_SUB_DIRECTORIES = 1024  # of one directory
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # struct's code by the type of a tag's values
REDUCED, PAGE_MASK = 1, 4  # bits of NewSubfileType

# Tags
SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION = 254, 255, 256, 257, 258, 259
PHOTOMETRIC, STRIP_OFFSETS, ORIENTATION, STRIP_BYTES, SUB_DIRECTORIES = 262, 273, 274, 279, 330
JPEG_OFFSET, JPEG_BYTES, DNG_VERSION = 513, 514, 50706
WANTED = frozenset((
    SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, ORIENTATION, STRIP_BYTES,
    SUB_DIRECTORIES, JPEG_OFFSET, JPEG_BYTES, DNG_VERSION,
))  # fmt: skip


@dataclass(frozen=True)
class Directory:
    """One picture of a TIFF: its tags that are integers; `offset` is where the directory begins.

    A tag with several values has the first two of them, but SUB_DIRECTORIES has all.

    `number` counts the directories of the main chain from 0; it is None for a sub-directory.
    """

    offset: int
    tags: Mapping[int, tuple[int, ...]] = field(repr=False)
    number: int | None

    def value(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        return (self.tags.get(tag) or (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as stored."""
        return self.value(WIDTH), self.value(HEIGHT)

    @property
    def is_page(self) -> bool:
        """Whether it is a picture of its own: neither a smaller copy of another one nor a mask."""
        kind = self.value(SUBFILE_TYPE)
        return not kind & (REDUCED | PAGE_MASK) and self.value(OLD_SUBFILE_TYPE) != 2 and all(self.size)


class Directories:
    """The directories of a TIFF, each once, so that a chain that leads back to itself ends.

    `is_cut` says that the chain leads out of the file.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        self._is_big = data[2:4] in (b"+\0", b"\0+")
        self._count_code, self._code = ("Q", "Q") if self._is_big else ("H", "I")
        self._seen: set[int] = set()
        self._entries_left = MAX_ENTRIES
        self.is_cut = False
        self.main: list[Directory] = []
        self.sub: list[Directory] = []
        self._read_chain(self._unpack(self._code, 8 if self._is_big else 4)[0])
        self._read_sub_directories()

    def _read_chain(self, offset: int) -> None:
        while offset and offset not in self._seen:
            try:
                tags, following = self._read(offset)
            except struct.error:
                self.is_cut = True
                return
            self.main.append(Directory(offset, tags, len(self.main)))
            offset = following

    def _read_sub_directories(self) -> None:
        waiting = deque(self.main)
        while waiting:
            for offset in waiting.popleft().tags.get(SUB_DIRECTORIES, ()):
                if offset not in self._seen:
                    with contextlib.suppress(struct.error):  # the others may be whole
                        self.sub.append(Directory(offset, self._read(offset)[0], None))
                        waiting.append(self.sub[-1])

    def _read(self, offset: int) -> tuple[dict[int, tuple[int, ...]], int]:
        """Return the tags of the directory at `offset`, and the offset of the next one. Raises struct.error."""
        self._seen.add(offset)
        entry_size, inline = (20, 8) if self._is_big else (12, 4)
        [count] = self._unpack(self._count_code, offset)
        start = offset + struct.calcsize(f"={self._count_code}")
        end = start + count * entry_size
        [following] = self._unpack(self._code, end)
        self._take_entries(1 + count)
        tags: dict[int, tuple[int, ...]] = {}
        for entry in range(start, end, entry_size):
            tag, kind, length = self._unpack(f"HH{self._code}", entry)
            if tag not in WANTED or kind not in INTEGERS:
                continue
            used = length
            if tag != SUB_DIRECTORIES:
                used = min(length, 2)
            elif length > MAX_SUB_DIRECTORIES:
                continue
            else:
                self._take_entries(length)
            with contextlib.suppress(struct.error):  # of a damaged tag nothing is known
                at = entry + entry_size - inline
                is_inline = length * struct.calcsize(f"={INTEGERS[kind]}") <= inline
                at = at if is_inline else self._unpack(self._code, at)[0]
                tags[tag] = self._unpack(f"{used}{INTEGERS[kind]}", at)
        return tags, following

    def _take_entries(self, count: int) -> None:
        self._entries_left -= count
        if self._entries_left < 0:
            raise struct.error("too many entries")

    def _unpack(self, code: str, offset: int) -> tuple[int, ...]:
        if offset > len(self._data):
            raise struct.error("outside the file")
        return struct.unpack_from(self._order + code, self._data, offset)


def opened_at(data: bytes, directory: Directory) -> Image.Image:
    """Open a directory that is not in the main chain, which Pillow cannot: as if it were the first."""
    order, is_big = ("<" if data[:2] == b"II" else ">"), data[2:4] in (b"+\0", b"\0+")
    file = io.BytesIO(data)
    file.seek(8 if is_big else 4)
    file.write(struct.pack(order + ("Q" if is_big else "I"), directory.offset))
    file.seek(0)
    return Image.open(file, formats=("TIFF",))


def correct_deep_gray(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Do what Pillow leaves undone in gray of 12 and 16 bits: scale 12 bits to 16, and invert white-is-zero."""
    if not image.mode.startswith("I;16"):
        return image
    values: np.ndarray = np.asarray(image).astype(np.uint16)
    if tags.get(BITS) == (12,):
        values = values << 4 | values >> 8
    return Image.fromarray(65535 - values if tags.get(PHOTOMETRIC) == 0 else values)


def largest(directories: Sequence[Directory]) -> Directory | None:
    """Return the directory with the most pixels."""
    return max(directories, key=lambda directory: directory.size[0] * directory.size[1], default=None)
