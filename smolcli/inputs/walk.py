"""What lies in a directory: the files a command reads, in natural order, whatever their number."""

from __future__ import annotations

import fnmatch
import heapq
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

# What a walk through a directory takes up; a file named outright is read whatever it is called.
SUFFIXES = frozenset(
    (
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
        ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".avif", ".qoi", ".sgi", ".pcx",
        ".dds", ".apng", ".heic", ".heif", ".hif", ".jxl",
    )
)  # fmt: skip
SORTED_AT_ONCE = 200_000  # names of one folder held in memory; more are sorted in parts, on disk
_DIGITS = re.compile(r"\d+")


class Wanted:
    """Which files of a walk are inputs.

    A pattern without a slash is matched with a name, one with a slash with the path below the directory walked; `*`
    crosses slashes. `include` replaces the rule of known suffixes. `outputs` are files and folders that the run writes
    itself, `made` the suffixes of files it writes beside its inputs: neither is read back.
    """

    def __init__(
        self,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        outputs: Iterable[Path] = (),
        made: tuple[str, ...] = (),
    ) -> None:
        self._include = _Patterns(include) if include else None
        self._exclude = _Patterns(exclude)
        self._outputs = {path.name: path for path in outputs}
        self._made = made

    def file(self, path: str, below: str) -> bool:
        """Whether the file `path` is wanted, which is `below` the directory walked."""
        name = os.path.basename(below)
        if name.startswith(".") or (self._made and name.endswith(self._made)) or self._is_output(path, name):
            return False
        taken = self._include.match(name, below) if self._include else os.path.splitext(name)[1].lower() in SUFFIXES
        return taken and not self._exclude.match(name, below)

    def folder(self, path: str, below: str) -> bool:
        """Whether the walk goes into the folder `path`."""
        name = os.path.basename(below)
        return not (name.startswith(".") or self._is_output(path, name) or self._exclude.match(name, below))

    def _is_output(self, path: str, name: str) -> bool:
        one = self._outputs.get(name)  # by name first: the system is asked about very few
        return one is not None and one.exists() and os.path.exists(path) and os.path.samefile(path, one)


class _Patterns:
    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._names = [re.compile(fnmatch.translate(one)) for one in patterns if "/" not in one]
        self._paths = [re.compile(fnmatch.translate(one.strip("/"))) for one in patterns if "/" in one]

    def match(self, name: str, below: str) -> bool:
        return any(one.match(name) for one in self._names) or any(one.match(below) for one in self._paths)


def walk(folder: str, recursive: bool, wanted: Wanted, ordered: bool = True) -> Iterator[str]:
    """The wanted files of a folder, in natural order unless not `ordered`.

    Hidden ones, links to folders and everything that is not a plain file are left out. A folder that cannot be listed
    is given itself, so that it becomes an error.
    """
    yield from _walk(folder, "", recursive, wanted, ordered)


def natural(name: str) -> bytes:
    """A sort key by which page2 comes before page10; no line end is in it.

    >>> sorted(["p10", "p2", "P1"], key=natural)
    ['P1', 'p2', 'p10']
    """
    return os.fsencode(_DIGITS.sub(_number, name.casefold())).replace(b"\n", b"/n")  # no name has a slash


def _walk(folder: str, below: str, recursive: bool, wanted: Wanted, ordered: bool) -> Iterator[str]:
    try:
        entries = os.scandir(folder)
    except OSError:
        yield folder
        return
    with entries:
        names = _names(entries, f"{below}/" if below else "", recursive, wanted)
        for name in _in_order(names) if ordered else names:
            if name.endswith("/"):
                inside = os.path.join(folder, name[:-1])
                yield from _walk(inside, os.path.join(below, name[:-1]), recursive, wanted, ordered)
            else:
                yield os.path.join(folder, name)


def _names(entries: Iterable[os.DirEntry[str]], below: str, recursive: bool, wanted: Wanted) -> Iterator[str]:
    """The wanted names of one folder, those of folders with a slash at their end."""
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if recursive and wanted.folder(entry.path, below + entry.name):
                yield entry.name + "/"
        elif wanted.file(entry.path, below + entry.name) and _may_be_file(entry):
            yield entry.name


def _in_order(names: Iterator[str]) -> Iterator[str]:
    """`names` in natural order; of very many only a part is in memory at a time."""
    parts: list[IO[bytes]] = []
    while True:
        lines = sorted(map(_line, islice(names, SORTED_AT_ONCE)))
        if len(lines) < SORTED_AT_ONCE:
            break
        parts.append(_stored(lines))
    try:
        for line in heapq.merge(*(_lines(part) for part in parts), lines) if parts else lines:
            yield os.fsdecode(line[line.index(b"\0") + 1 :].replace(b"//", b"\n"))
    finally:
        for part in parts:
            part.close()


def _line(name: str) -> bytes:
    return natural(name.removesuffix("/")) + b"\0" + os.fsencode(name).replace(b"\n", b"//")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return (line[:-1] for line in file)


def _stored(lines: list[bytes]) -> IO[bytes]:
    file = tempfile.TemporaryFile(prefix="smolcli-")
    file.writelines(line + b"\n" for line in lines)
    file.seek(0)
    return file


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle, or into a folder without rights: an error when it is opened
        return True


def _number(match: re.Match[str]) -> str:
    """A number as text that sorts by its value, before any other text."""
    digits = str(int(match[0]))
    return f"\x01{len(digits):02x}{digits}"
