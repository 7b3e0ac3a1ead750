"""What lies in a directory: the files a command reads, in natural order, whatever their number."""

from __future__ import annotations

import fnmatch
import glob
import heapq
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import islice
from pathlib import Path
from typing import IO

# What a walk through a directory takes up, by registry.READERS; a file named outright is read whatever it is called.
SUFFIXES = {
    "image": frozenset((
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
        ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".avif", ".qoi", ".sgi", ".pcx",
        ".dds", ".apng", ".heic", ".heif", ".hif", ".jxl",
    )),
    "video": frozenset((
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv",
        ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".divx", ".gif", ".apng",
    )),
}  # fmt: skip
MEDIA = SUFFIXES["image"] | SUFFIXES["video"]
SORTED_AT_ONCE = 200_000  # names of one folder held in memory; more are sorted in parts, on disk
_DIGITS = re.compile(r"\d+")
_BROKEN = "/"  # no name: a listing that broke off


class Wanted:
    """Which files of a walk are inputs.

    A pattern without a slash is matched with a name, one with a slash with the path below the directory walked; `*`
    crosses slashes. `include` replaces the rule of known suffixes, those of `reads`. `outputs` are files and folders
    that the run writes itself, `made` the suffixes of files it writes beside its inputs: neither is read back.
    """

    def __init__(
        self,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        outputs: Iterable[Path] = (),
        made: tuple[str, ...] = (),
        reads: str = "image",
    ) -> None:
        known = SUFFIXES[reads]
        self._included = _matcher(include) if include else lambda name, _: name[name.rfind(".") :].lower() in known
        self._excluded = _matcher(exclude) if exclude else None
        self._leads: Callable[[str], bool] | None = None
        self._outputs = {path.name: path for path in outputs}
        self._made = made

    def matching(self, pattern: str) -> Wanted:
        """The same rules for what a shell's pattern stands for: it takes the place of the known suffixes.

        `*` does not cross slashes here, `**` does. Of a folder that it stands for, the known suffixes are taken.
        """
        whole, inside = _shell(pattern), _shell(f"{pattern}/**")
        parts = pattern.split("/")
        leading = [_shell("/".join(parts[:depth])) for depth in range(1, len(parts))]
        other = copy(self)
        other._included = lambda name, below: bool(
            whole.fullmatch(below) or (inside.fullmatch(below) and self._included(name, below))
        )
        other._leads = lambda below: any(one.fullmatch(below) for one in (whole, inside, *leading))
        return other

    def file(self, path: str, name: str, below: str) -> bool:
        """Whether the file `path` is wanted, called `name`, which is `below` the directory walked."""
        if name.startswith(".") or (self._made and name.endswith(self._made)) or not self._included(name, below):
            return False
        return not ((self._excluded and self._excluded(name, below)) or self._is_output(path, name))

    def folder(self, path: str, name: str, below: str) -> bool:
        """Whether the walk goes into the folder `path`."""
        if name.startswith(".") or (self._excluded and self._excluded(name, below)):
            return False
        return not self._is_output(path, name) and (self._leads is None or self._leads(below))

    def _is_output(self, path: str, name: str) -> bool:
        one = self._outputs.get(name)  # by name first: the system is asked about very few
        return one is not None and one.exists() and os.path.exists(path) and os.path.samefile(path, one)


def parts_of(pattern: str) -> tuple[str, str]:
    """The folder where a shell's pattern begins, and the rest of it.

    >>> parts_of("photos/20*/**/a?.png")
    ('photos', '20*/**/a?.png')
    """
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else "."), "/".join(parts[first:])


def _matcher(patterns: Iterable[str]) -> Callable[[str, str], bool]:
    """A function of a name and a path that says whether one of the patterns is like it."""
    patterns = tuple(patterns)
    names = [re.compile(fnmatch.translate(one)) for one in patterns if "/" not in one]
    paths = [re.compile(fnmatch.translate(one.strip("/"))) for one in patterns if "/" in one]
    return lambda name, below: any(one.match(name) for one in names) or any(one.match(below) for one in paths)


def _shell(pattern: str) -> re.Pattern[str]:
    """A pattern of the shell for a path: `*` and `?` are within a name, `**` is any folders."""
    translated = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^]]+\])", pattern):
        fixed = {"**/": "(?:[^/]+/)*", "**": ".+", "*": "[^/]*", "?": "[^/]"}
        if part in fixed:
            translated += fixed[part]
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            inside = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            translated += f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
        else:
            translated += re.escape(part)
    return re.compile(translated, re.DOTALL)


def walk(folder: str, recursive: bool, wanted: Wanted, ordered: bool = True) -> Iterator[str]:
    """The wanted files of a folder, in natural order unless not `ordered`.

    Hidden ones, links to folders and everything that is not a plain file are left out. A folder that cannot be listed
    is given itself, so that it becomes an error.
    """
    stack = [_listed(folder, "", recursive, wanted, ordered)]
    while stack:  # a tree may be deeper than Python's own stack
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        path, below = found
        if below is None:
            yield path
        else:
            stack.append(_listed(path, below, recursive, wanted, ordered))


def natural_key(name: str) -> bytes:
    """A sort key by which page2 comes before page10; no line end is in it.

    >>> sorted(["p10", "p2", "P1"], key=natural_key)
    ['P1', 'p2', 'p10']
    """
    return os.fsencode(_DIGITS.sub(_number, name.casefold())).replace(b"\n", b"/n")  # no name has a slash


def _listed(
    folder: str, below: str, recursive: bool, wanted: Wanted, ordered: bool
) -> Iterator[tuple[str, str | None]]:
    """What is wanted of one folder: files, and folders with their path below the directory walked."""
    try:
        entries = os.scandir(folder)
    except OSError:
        yield folder, None
        return
    with entries:
        names = _names(entries, f"{below}/" if below else "", recursive, wanted)
        for name in _in_order(names) if ordered else names:
            if name == _BROKEN:
                yield folder, None
            elif name.endswith("/"):
                yield os.path.join(folder, name[:-1]), os.path.join(below, name[:-1])
            else:
                yield os.path.join(folder, name), None


def _names(entries: Iterable[os.DirEntry[str]], below: str, recursive: bool, wanted: Wanted) -> Iterator[str]:
    """The wanted names of one folder, those of folders with a slash at their end."""
    try:
        for entry in entries:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                if recursive and wanted.folder(entry.path, name, below + name):
                    yield name + "/"
            elif wanted.file(entry.path, name, below + name) and _may_be_file(entry):
                yield name
    except OSError:  # a disk or a server that has gone away
        yield _BROKEN


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
    return natural_key(name.removesuffix("/")) + b"\0" + os.fsencode(name).replace(b"\n", b"//")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return (line[:-1] for line in file)


def _stored(lines: list[bytes]) -> IO[bytes]:
    file = tempfile.TemporaryFile(prefix="smolcli-")
    file.writelines(line + b"\n" for line in lines)
    file.seek(0)
    return file


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))  # it is missing
    except OSError:  # a link in a circle, or into a folder without rights: an error when it is opened
        return True


def _number(match: re.Match[str]) -> str:
    """A number as text that sorts by its value, before any other text."""
    digits = str(int(match[0]))
    return f"\x01{len(digits):02x}{digits}"
