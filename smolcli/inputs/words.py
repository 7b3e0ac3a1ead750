"""The user's words to items, in order: files, directories, standard input."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
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
        ".pbm", ".pnm", ".tga", ".ico", ".jp2", ".j2k", ".heic", ".heif", ".avif", ".jxl", ".qoi", ".sgi", ".pcx",
        ".dds", ".apng",
    )
)  # fmt: skip


def items(options: Input, stdin: BinaryIO | None = None) -> Iterator[Item]:
    """One item for each input; a word that cannot be used is an item whose `read` raises InputError."""
    for index, (path, word) in enumerate(_paths(options)):
        yield Item(path, index, _reader(word, options, stdin))


def is_many(options: Input) -> bool:
    """Whether the words may give more than one item, told without opening anything."""
    return len(options.inputs) != 1 or Path(options.inputs[0]).is_dir()


def _paths(options: Input) -> Iterator[tuple[str, str]]:
    for word in options.inputs:
        if word != "-" and Path(word).is_dir():
            yield from ((path, path) for path in _walk(Path(word), options.recursive))
        else:
            yield word, word


def _walk(folder: Path, recursive: bool) -> Iterator[str]:
    """Pictures of a folder in natural order; hidden ones and everything that is not a plain file left out."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if recursive:
                yield from _walk(Path(entry.path), recursive)
        elif entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES:
            yield entry.path


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which page2 comes before page10.

    >>> sorted(["p10", "p2", "P1"], key=natural)
    ['P1', 'p2', 'p10']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


class _reader:
    """Opens one word when it is called, by the reader for its kind."""

    def __init__(self, word: str, options: Input, stdin: BinaryIO | None) -> None:
        self.word, self.options, self.stdin = word, options, stdin

    def __call__(self) -> Media:
        media: Media = registry.load(registry.READERS, "image")(self._bytes(), self.options)
        return media

    def _bytes(self) -> bytes:
        data = (self.stdin or sys.stdin.buffer).read() if self.word == "-" else self._file()
        if not data:
            raise InputError("the file is empty", "give a picture", kind="empty")
        return data

    def _file(self) -> bytes:
        path = Path(self.word)
        try:
            if path.exists() and not path.is_file():
                raise InputError("is not a regular file", "name a picture, or - for standard input", kind="unsupported")
            return path.read_bytes()
        except FileNotFoundError:
            raise InputError("no such file", "check the path", kind="missing") from None
        except OSError as error:
            raise InputError(
                f"cannot be read ({error.strerror})", "check its permissions", kind="unreadable"
            ) from error
