"""Walks through directories: yields the files that are inputs in natural order, however many there are."""

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

# The suffixes taken from directories, by registry.READERS. A file that the user names itself may have any name.
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
MEDIA_SUFFIXES = SUFFIXES["image"] | SUFFIXES["video"]
MAX_SORTED_IN_MEMORY = 200_000  # names of one folder; more are sorted in parts, in temporary files
_DIGITS = re.compile(r"\d+")
_LISTING_FAILED = "/"  # stands for a name where a listing failed; no file name is like it


class FileFilter:
    """Decides which files of a walk are inputs.

    A pattern without a slash is matched against the file name, one with a slash against the path below the directory
    that is walked; in both, `*` matches slashes too. With `include`, its patterns replace the known suffixes of the
    media kind `reads`. Two kinds of files that the run itself writes are no inputs: `outputs`, files and folders, and
    `sidecars`, the suffixes of files written next to the inputs.
    """

    def __init__(
        self,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        outputs: Iterable[Path] = (),
        sidecars: tuple[str, ...] = (),
        reads: str = "image",
    ) -> None:
        suffixes = SUFFIXES[reads]
        self._includes = _matcher(include) if include else lambda name, _: name[name.rfind(".") :].lower() in suffixes
        self._excludes = _matcher(exclude) if exclude else None
        self._may_lead_to_match: Callable[[str], bool] | None = None
        self._outputs = {path.name: path for path in outputs}
        self._sidecars = sidecars

    def for_pattern(self, pattern: str) -> FileFilter:
        """Return a filter for the matches of a shell pattern, which replaces the known suffixes.

        Here `*` does not match a slash, and `**` does. If the pattern matches a folder, its files with known suffixes
        are taken.
        """
        match, match_inside = _shell_regex(pattern), _shell_regex(f"{pattern}/**")
        parts = pattern.split("/")
        leading = [_shell_regex("/".join(parts[:depth])) for depth in range(1, len(parts))]
        other = copy(self)
        other._includes = lambda name, below: bool(
            match.fullmatch(below) or (match_inside.fullmatch(below) and self._includes(name, below))
        )
        other._may_lead_to_match = lambda below: any(
            regex.fullmatch(below) for regex in (match, match_inside, *leading)
        )
        return other

    def accepts_file(self, path: str, name: str, below: str) -> bool:
        """Whether the file `path` is an input; `name` is its name, `below` its path below the directory walked."""
        if name.startswith(".") or (self._sidecars and name.endswith(self._sidecars)):
            return False
        if not self._includes(name, below) or (self._excludes and self._excludes(name, below)):
            return False
        return not self._is_output(path, name)

    def accepts_folder(self, path: str, name: str, below: str) -> bool:
        """Whether to walk into the folder `path`; the arguments are as those of `accepts_file`."""
        if name.startswith(".") or (self._excludes and self._excludes(name, below)):
            return False
        return not self._is_output(path, name) and (self._may_lead_to_match is None or self._may_lead_to_match(below))

    def _is_output(self, path: str, name: str) -> bool:
        output = self._outputs.get(name)  # comparing names first saves system calls
        return output is not None and output.exists() and os.path.exists(path) and os.path.samefile(path, output)


def split_pattern(pattern: str) -> tuple[str, str]:
    """Split a shell pattern into the folder at which to start and the rest.

    >>> split_pattern("photos/20*/**/a?.png")
    ('photos', '20*/**/a?.png')
    """
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else "."), "/".join(parts[first:])


def walk(folder: str, recursive: bool, file_filter: FileFilter, ordered: bool = True) -> Iterator[str]:
    """Yield the paths of the files in a folder that `file_filter` accepts, in natural order if `ordered`.

    Hidden files, links to folders and whatever is not a plain file are left out. For a folder that cannot be listed
    its own path is yielded, which becomes an error when it is opened.
    """
    stack = [_list_folder(folder, "", recursive, file_filter, ordered)]
    while stack:  # not recursive: a tree may be deeper than Python's stack
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        path, below = entry
        if below is None:
            yield path
        else:
            stack.append(_list_folder(path, below, recursive, file_filter, ordered))


def natural_key(name: str) -> bytes:
    """Make a sort key by which page2 comes before page10. The key has no line end in it.

    >>> sorted(["p10", "p2", "P1"], key=natural_key)
    ['P1', 'p2', 'p10']
    """
    return os.fsencode(_DIGITS.sub(_sortable_number, name.casefold())).replace(b"\n", b"/n")  # no name has a slash


def _matcher(patterns: Iterable[str]) -> Callable[[str, str], bool]:
    """Make a function that says whether a name, or the path below the directory walked, matches one of the patterns."""
    patterns = tuple(patterns)
    names = [re.compile(fnmatch.translate(pattern)) for pattern in patterns if "/" not in pattern]
    paths = [re.compile(fnmatch.translate(pattern.strip("/"))) for pattern in patterns if "/" in pattern]
    return lambda name, below: any(regex.match(name) for regex in names) or any(regex.match(below) for regex in paths)


def _shell_regex(pattern: str) -> re.Pattern[str]:
    """Translate a shell pattern for paths: `*` and `?` match within a name, `**` matches any folders."""
    wildcards = {"**/": "(?:[^/]+/)*", "**": ".+", "*": "[^/]*", "?": "[^/]"}
    translated = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^]]+\])", pattern):
        if part in wildcards:
            translated += wildcards[part]
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            characters = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            translated += f"[^{characters[1:]}]" if characters.startswith("!") else f"[{characters}]"
        else:
            translated += re.escape(part)
    return re.compile(translated, re.DOTALL)


def _list_folder(
    folder: str, below: str, recursive: bool, file_filter: FileFilter, ordered: bool
) -> Iterator[tuple[str, str | None]]:
    """Yield the accepted entries of one folder: files with None, folders with their path below the directory walked."""
    try:
        entries = os.scandir(folder)
    except OSError:
        yield folder, None
        return
    with entries:
        names = _accepted_names(entries, f"{below}/" if below else "", recursive, file_filter)
        for name in _in_order(names) if ordered else names:
            if name == _LISTING_FAILED:
                yield folder, None
            elif name.endswith("/"):
                yield os.path.join(folder, name[:-1]), os.path.join(below, name[:-1])
            else:
                yield os.path.join(folder, name), None


def _accepted_names(
    entries: Iterable[os.DirEntry[str]], below: str, recursive: bool, file_filter: FileFilter
) -> Iterator[str]:
    """Yield the accepted names of one folder; those of folders end with a slash."""
    try:
        for entry in entries:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                if recursive and file_filter.accepts_folder(entry.path, name, below + name):
                    yield name + "/"
            elif file_filter.accepts_file(entry.path, name, below + name) and _may_be_file(entry):
                yield name
    except OSError:  # a disk or a server has gone away
        yield _LISTING_FAILED


def _in_order(names: Iterator[str]) -> Iterator[str]:
    """Yield `names` in natural order; at most MAX_SORTED_IN_MEMORY of them are in memory at a time."""
    parts: list[IO[bytes]] = []
    while True:
        lines = sorted(map(_sort_line, islice(names, MAX_SORTED_IN_MEMORY)))
        if len(lines) < MAX_SORTED_IN_MEMORY:
            break
        parts.append(_store_lines(lines))
    try:
        for line in heapq.merge(*(_stored_lines(part) for part in parts), lines) if parts else lines:
            yield os.fsdecode(line[line.index(b"\0") + 1 :].replace(b"//", b"\n"))
    finally:
        for part in parts:
            part.close()


def _sort_line(name: str) -> bytes:
    """Make one line of the sort key and the name, so that sorted lines are sorted names."""
    return natural_key(name.removesuffix("/")) + b"\0" + os.fsencode(name).replace(b"\n", b"//")


def _store_lines(lines: list[bytes]) -> IO[bytes]:
    file = tempfile.TemporaryFile(prefix="smolcli-")
    file.writelines(line + b"\n" for line in lines)
    file.seek(0)
    return file


def _stored_lines(file: IO[bytes]) -> Iterator[bytes]:
    return (line[:-1] for line in file)


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a broken link, which is an error when it is opened."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # a circular link, or one into a folder without permissions: also an error when it is opened
        return True


def _sortable_number(match: re.Match[str]) -> str:
    """Write a number as text that sorts by its value, and before any other text."""
    digits = str(int(match[0]))
    return f"\x01{len(digits):02x}{digits}"
