"""The user's words to items, in order: files, directories, standard input."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from smolcli import registry
from smolcli.errors import InputError
from smolcli.options import Input
from smolcli.types import Item, Media

# What a walk through a directory takes up; a file named outright is read whatever it is called.
SUFFIXES = frozenset(
    (
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
        ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".avif", ".qoi", ".sgi", ".pcx",
        ".dds", ".apng",
    )
)  # fmt: skip


CHUNK = 2**20  # bytes read at once
MOST_BYTES = 2**30  # a picture file is not larger; what is may have no end, like /dev/zero


def items(options: Input, stdin: BinaryIO | None = None) -> Iterator[Item]:
    """One item for each input; a word that cannot be used is an item whose `read` raises InputError."""
    for path in _paths(options):
        yield Item(path, partial(_open, path, options, stdin))


def is_many(options: Input) -> bool:
    """Whether the words may give more than one item, told without opening anything."""
    return len(options.inputs) != 1 or os.path.isdir(options.inputs[0])


def takes(options: Input, path: Path) -> bool:
    """Whether the file `path` is one of the inputs, under whatever name, or one that a directory of theirs gives."""
    return path.is_file() and any(_is_or_gives(word, path) for word in options.inputs)


def _is_or_gives(word: str, path: Path) -> bool:
    if word == "-":
        return os.path.samestat(os.fstat(0), path.stat())
    if os.path.isdir(word):
        return _is_picture_name(path.name) and path.resolve().is_relative_to(Path(word).resolve())
    return os.path.exists(word) and os.path.samefile(path, word)


def _paths(options: Input) -> Iterator[str]:
    for word in options.inputs:
        if word != "-" and os.path.isdir(word):
            yield from _walk(word, options.recursive)
        else:
            yield word


def _walk(folder: str, recursive: bool) -> Iterator[str]:
    """Pictures of a folder in natural order; hidden ones and everything that is not a plain file left out.

    A folder that cannot be listed is given itself, so that it becomes an error.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if recursive:
                yield from _walk(entry.path, recursive)
        elif _is_picture_name(entry.name) and _may_be_file(entry):
            yield entry.path


def _is_picture_name(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle, or into a folder without rights: an error when it is opened
        return True


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which page2 comes before page10.

    >>> sorted(["p10", "p2", "P1"], key=natural)
    ['P1', 'p2', 'p10']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _content(file: BinaryIO) -> bytes:
    """All of it, bit by bit: it may be small, or have no end."""
    data = bytearray()
    while chunk := file.read(CHUNK):
        data += chunk
        if len(data) > MOST_BYTES:
            raise InputError(f"has more than {MOST_BYTES:,} bytes", "give a picture", kind="too-large")
    return bytes(data)


def _open(word: str, options: Input, stdin: BinaryIO | None) -> Media:
    """Reads and decodes one word, by the reader for its kind."""
    try:
        if word == "-":
            data = _content(stdin or sys.stdin.buffer)
        else:
            with open(word, "rb") as file:
                data = _content(file)
    except FileNotFoundError:
        url = word.startswith(("http://", "https://"))
        advice = "addresses are not fetched; curl it into smolcli's standard input" if url else "check the path"
        raise InputError("no such file", advice, kind="missing") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be read ({error})", "check the path and its permissions", kind="unreadable"
        ) from error
    if not data:
        raise InputError("is empty", "give a picture", kind="empty")
    media: Media = registry.load(registry.READERS, "image")(data, options)
    return media
