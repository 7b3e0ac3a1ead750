"""Walks through directories: yields the files that are inputs in natural order, however many there are."""

from __future__ import annotations

import glob
import heapq
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Literal

from smolcli import registry
from smolcli.errors import UnavailableError
from smolcli.inputs.path_patterns import name_matcher, path_regex
from smolcli.inputs.signatures import begins_as
from smolcli.system.temporary import temporary_folder
from smolcli.types import pluralize

# The suffixes taken from directories, by registry.READERS. A file that the user names itself may have any name.
SUFFIXES = {
    "image": frozenset((
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".ppm",
        ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".icb", ".vda", ".vst", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c",
        ".avif", ".avifs", ".qoi", ".sgi", ".rgb", ".rgba", ".bw", ".pcx", ".dds", ".apng", ".ico", ".heic", ".heif",
        ".hif", ".jxl",
        ".dng", ".nef", ".arw", ".cr2", ".cr3", ".raf", ".orf", ".rw2", ".pef", ".srw",
    )),
    "video": frozenset((
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv",
        ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".divx", ".y4m", ".gif", ".apng",
    )),
}  # fmt: skip
SUFFIXES["document"] = SUFFIXES["image"] | {".pdf"}
MEDIA_SUFFIXES = SUFFIXES["document"] | SUFFIXES["video"]
# Files that are left out without a look at their content: sidecars, which would double the reads of a folder of
# pictures, thumbnails that cameras write beside their videos, and files that a program has not finished.
COMPANION_SUFFIXES = frozenset(
    (*registry.SIDECARS, ".caption", ".aae", ".thm", ".tmp", ".part", ".partial", ".crdownload", ".download")
)
EXIFTOOL_COPIES = ("_original", "_exiftool_tmp")  # after the name of a picture: as it was, and while it is written
# Names, in lower case, that file systems and network storage (Synology, QNAP), Windows and macOS give to their own
# files and folders, some of which hold copies of pictures: thumbnails and deleted files.
SYSTEM_NAMES = frozenset((
    "@eadir", "#recycle", "@recycle", "#snapshot", "$recycle.bin", "system volume information", "__macosx",
    "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini",
))  # fmt: skip
MAX_SORTED_IN_MEMORY = 200_000  # names of one folder; more are sorted in parts, in temporary files
_DIGITS = re.compile(r"\d+")
_LISTING_FAILED = "/"  # stands for a name where a listing failed; no file name is like it
Verdict = Literal["taken", "left out", "of another kind"]


@dataclass
class PassedBy:
    """Counts what a walk met and did not take, though nobody asked for it to be left out."""

    other_files: int = 0  # which are not of the kind that is read
    folder_links: int = 0

    def add(self, other: PassedBy) -> None:
        """Add the counts of another walk."""
        self.other_files += other.other_files
        self.folder_links += other.folder_links

    def describe(self, noun: str) -> str:
        """Return the counts in words, "" if there are none; `noun` is what is read.

        >>> PassedBy(3, 1).describe("picture")
        'passed by 3 files that are no pictures and 1 link to a folder (--follow-links walks into links)'
        """
        counts = []
        if self.other_files:
            predicate = f"that is no {noun}" if self.other_files == 1 else f"that are no {noun}s"
            counts.append(f"{pluralize(self.other_files, 'file')} {predicate}")
        if self.folder_links:
            links = "1 link to a folder" if self.folder_links == 1 else f"{self.folder_links:,} links to folders"
            counts.append(f"{links} (--follow-links walks into links)")
        return f"passed by {' and '.join(counts)}" if counts else ""


class FileFilter:
    """Decides which files of a walk are inputs.

    Without `include` these are files of the media kind `reads`, known by their suffix, and where that is unknown by
    their first bytes. With `include` they are the files that match one of its patterns. A pattern without a slash is
    matched against the file name, one with a slash against the path below the directory that is walked; in both, `*`
    matches slashes too, and upper and lower case are the same, as they are for suffixes. Two kinds of files that the
    run itself writes are no inputs: `outputs`, files and folders, and `sidecars`, the suffixes of files written next
    to the inputs.
    """

    def __init__(
        self,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        outputs: Iterable[Path] = (),
        sidecars: tuple[str, ...] = (),
        reads: str = "image",
    ) -> None:
        self._reads, self._suffixes = reads, SUFFIXES[reads]
        self._includes = name_matcher(include) if include else None
        self._pattern: Callable[[str, str, str], bool] | None = None
        self._excludes = name_matcher(exclude) if exclude else None
        self._may_lead_to_match: Callable[[str], bool] | None = None
        self._outputs = {path.name: path for path in outputs}
        self._sidecars = sidecars

    def for_pattern(self, pattern: str) -> FileFilter:
        """Return a filter for the matches of a shell pattern, which replaces the known suffixes.

        Here `*` does not match a slash, and `**` does. If the pattern matches a folder, its files with known suffixes
        are taken.
        """
        match, match_inside = path_regex(pattern), path_regex(f"{pattern}/**")
        parts = pattern.split("/")
        leading = [path_regex("/".join(parts[:depth])) for depth in range(1, len(parts))]
        other = copy(self)
        other._pattern = lambda path, name, below: bool(
            match.fullmatch(below) or (match_inside.fullmatch(below) and self._is_wanted(path, name, below))
        )
        other._may_lead_to_match = lambda below: any(
            regex.fullmatch(below) for regex in (match, match_inside, *leading)
        )
        return other

    def judge_file(self, path: str, name: str, below: str) -> Verdict:
        """Whether the file `path` is an input; `name` is its name, `below` its path below the directory walked.

        A file of unknown suffix is opened. "of another kind" is a file that nobody asked to be left out.
        """
        if name.startswith(".") or (self._sidecars and name.endswith(self._sidecars)):
            return "left out"
        if self._excludes and self._excludes(name, below):
            return "left out"
        if self._is_wanted(path, name, below):
            return "left out" if self._is_output(path, name) else "taken"
        is_asked_for = self._includes is not None or self._pattern is not None
        return "left out" if is_asked_for or _is_companion(name) or self._is_output(path, name) else "of another kind"

    def accepts_folder(self, path: str, name: str, below: str) -> bool:
        """Whether to walk into the folder `path`; the arguments are as those of `judge_file`."""
        if name.startswith(".") or name.lower() in SYSTEM_NAMES or (self._excludes and self._excludes(name, below)):
            return False
        return not self._is_output(path, name) and (self._may_lead_to_match is None or self._may_lead_to_match(below))

    def _is_wanted(self, path: str, name: str, below: str) -> bool:
        """Whether a file matches the pattern or --include, or else is of the kind that is read."""
        if self._pattern is not None:
            return self._pattern(path, name, below)
        if self._includes is not None:
            return self._includes(name, below)
        suffix = _suffix(name)
        if suffix in self._suffixes:
            return True
        return suffix not in MEDIA_SUFFIXES and not _is_companion(name) and begins_as(path, self._reads)

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


def walk(
    folder: str,
    recursive: bool,
    file_filter: FileFilter,
    ordered: bool = True,
    *,
    follow_links: bool = False,
    passed_by: PassedBy | None = None,
) -> Iterator[str]:
    """Yield the paths of the files in a folder that `file_filter` accepts, in natural order if `ordered`.

    Hidden files and whatever is not a plain file are left out; what else is not taken is counted in `passed_by`. Links
    to folders are walked into with `follow_links` alone, and then no folder is walked through twice, by its device and
    inode: so links in a circle end. For a folder that cannot be listed its own path is yielded, which becomes an error
    when it is opened.
    """
    walker = _Walker(recursive, file_filter, ordered, follow_links, passed_by or PassedBy())
    stack = [walker.list_folder(folder, "")]
    while stack:  # not recursive: a tree may be deeper than Python's stack
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        path, below = entry
        if below is None:
            yield path
        else:
            stack.append(walker.list_folder(path, below))


def natural_key(name: str) -> bytes:
    """Make a sort key by which page2 comes before page10. The key has no line end in it.

    >>> sorted(["p10", "p2", "P1"], key=natural_key)
    ['P1', 'p2', 'p10']
    """
    return os.fsencode(_DIGITS.sub(_sortable_number, name.casefold())).replace(b"\n", b"/n")  # no name has a slash


class _Walker:
    """Lists the folders of one walk; the arguments are those of `walk`."""

    def __init__(
        self, recursive: bool, file_filter: FileFilter, ordered: bool, follow_links: bool, passed_by: PassedBy
    ) -> None:
        self._recursive, self._filter, self._ordered = recursive, file_filter, ordered
        self._walked: set[tuple[int, int]] | None = set() if follow_links else None  # device and inode of folders
        self._passed_by = passed_by

    def list_folder(self, folder: str, below: str) -> Iterator[tuple[str, str | None]]:
        """Yield the accepted entries of a folder: files with None, folders with their path below the one walked."""
        try:
            if not self._is_first_visit(folder):
                return
            entries = os.scandir(folder)
        except OSError:
            yield folder, None
            return
        with entries:
            names = self._accepted_names(entries, f"{below}/" if below else "")
            for name in _in_order(names) if self._ordered else _files_first(names):
                if name == _LISTING_FAILED:
                    yield folder, None
                elif name.endswith("/"):
                    yield os.path.join(folder, name[:-1]), os.path.join(below, name[:-1])
                else:
                    yield os.path.join(folder, name), None

    def _is_first_visit(self, folder: str) -> bool:
        """Whether a folder was not walked yet; always true where links are not followed. Raises OSError."""
        if self._walked is None:
            return True
        status = os.stat(folder)
        identity = status.st_dev, status.st_ino
        is_new = identity not in self._walked
        self._walked.add(identity)
        return is_new

    def _accepted_names(self, entries: Iterable[os.DirEntry[str]], below: str) -> Iterator[str]:
        """Yield the accepted names of one folder; those of folders end with a slash."""
        try:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and _leads_to_folder(entry)):
                    if self._recursive and self._accepts_folder(entry, below + name):
                        yield name + "/"
                    continue
                verdict = self._filter.judge_file(entry.path, name, below + name)
                if verdict == "of another kind":
                    self._passed_by.other_files += 1
                elif verdict == "taken" and _may_be_file(entry):
                    yield name
        except OSError:  # a disk or a server has gone away
            yield _LISTING_FAILED

    def _accepts_folder(self, entry: os.DirEntry[str], below: str) -> bool:
        """Whether to walk into a folder or into a link to one, which is counted if links are not followed."""
        if not self._filter.accepts_folder(entry.path, entry.name, below):
            return False
        if self._walked is None and entry.is_symlink():
            self._passed_by.folder_links += 1
            return False
        return True


def _files_first(names: Iterable[str]) -> Iterator[str]:
    """Yield the names of files, then those of folders: a folder is closed before the walk goes into one inside it."""
    folders: list[str] = []
    for name in names:
        if name.endswith("/"):
            folders.append(name)
        else:
            yield name
    yield from folders


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
    file = _open_spill_file()
    file.writelines(line + b"\n" for line in lines)
    file.seek(0)
    return file


def _open_spill_file() -> IO[bytes]:
    """A temporary file; where no folder for one can be written, memory must do."""
    try:
        return tempfile.TemporaryFile(prefix="smolcli-", dir=temporary_folder())
    except UnavailableError:
        return io.BytesIO()


def _stored_lines(file: IO[bytes]) -> Iterator[bytes]:
    return (line[:-1] for line in file)


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a circular link, or one into a folder without permissions
        return False


def _suffix(name: str) -> str:
    """The suffix of a file name in lower case, with its dot; without a dot its last letter, which is no suffix."""
    return name[name.rfind(".") :].lower()


def _is_companion(name: str) -> bool:
    """Whether a file of this name accompanies another one or is of the system: such files are not counted."""
    return _suffix(name) in COMPANION_SUFFIXES or name.lower() in SYSTEM_NAMES or name.lower().endswith(EXIFTOOL_COPIES)


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
