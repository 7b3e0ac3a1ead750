"""The user's words to items, in order: files, directories, patterns, lists, URLs, standard input."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path, PurePath
from typing import IO, BinaryIO

from smolcli.errors import UsageError
from smolcli.inputs.walk import Wanted, parts_of, walk
from smolcli.options import Input, Output
from smolcli.process.child import stream
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Item, Source, is_url

MOST_PIPED = 2**28  # bytes of one medium from a pipe, which is held in memory
IsDone = Callable[[str, str | None], bool]  # of a path, and its stamp where it is known
_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # a file there is not that of another process


class InputCollector:
    """All that the options name, as items; nothing is opened but lists and pipes.

    `reads` is the kind of media that directories are searched for, one of registry.READERS.

    Raises UsageError for options that contradict each other or a list that cannot be read.
    """

    def __init__(
        self, input: Input, output: Output | None = None, stdin: BinaryIO | None = None, reads: str = "image"
    ) -> None:
        self._input, self._output, self._reads = input, output or Output(), reads
        self._ahead: Iterator[tuple[str, bool, str | None]] | None = None
        self._wanted = wanted(input, output or Output(), reads)
        self._stdin = stdin
        self._shard = _shard(input.shard)
        if input.files_from == "-" and "-" in input.inputs:
            raise UsageError("standard input is both the list and an input", "give the list as a file")
        if input.null and input.files_from is None:
            raise UsageError("-0 is for --files-from", "find . -print0 | smolcli ... --files-from - -0")
        if input.files_from not in (None, "-") and not os.access(str(input.files_from), os.R_OK):
            raise UsageError(f"{input.files_from}: cannot be read", "give --files-from a list of paths")

    def items(self, is_done: IsDone = lambda path, mark: False) -> Iterator[Item]:
        """One item for each input of this shard; one that cannot be used fails when it is opened.

        `is_done` says of a path and its stamp whether to leave it out; of what can be read only once it is not asked.
        """
        for path, named, mark in self._ahead or self._ours():
            shown = without_password(path) if named and is_url(path) else path
            data = self._piped(path) if named else None
            if data is not None or not is_done(shown, mark):
                yield Item(shown, (Source(path, data),))

    def look_ahead(self) -> None:
        """Begins to find the inputs and their stamps in a process of its own, where that is possible."""
        listed = self._input.files_from
        if (listed is None or os.path.isfile(listed)) and "-" not in self._input.inputs:  # a pipe is this process's
            self._ahead = stream("smolcli.inputs.collect:stamped", self._input, self._output, self._reads)

    def stamped(self) -> Iterator[tuple[str, bool, str | None]]:
        """Every input of this shard, whether it was named by itself, and its stamp."""
        return ((path, named, stamp_of(path)) for path, named, _ in self._ours())

    def survey(self) -> Iterator[tuple[int, int]]:
        """How many items there are and how many bytes their files have, one after the other.

        Nothing where that cannot be known: of a list on standard input, and where more may arrive.
        """
        listed = self._input.files_from
        if self._input.watch or (listed is not None and not os.path.isfile(listed)):
            return
        count = size = 0
        for path, _ in self._paths(False):
            if self._is_ours(path):
                count, size = count + 1, size + _size(path)
                yield count, size

    def accepts(self, path: str) -> bool:
        """Whether a file that arrives in a watched folder is an input."""
        folder = max((one for one in self._input.watch if _is_below(path, one)), key=len, default="")
        parts = PurePath(os.path.relpath(path, folder or ".")).parts
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        return (
            self._wanted.file(path, parts[-1], "/".join(parts))
            and all(self._wanted.folder(os.path.join(folder, one), os.path.basename(one), one) for one in above)
            and self._is_ours(path)
        )

    def watched(self) -> Iterator[str]:
        """What lies in the watched folders already."""
        for folder in self._input.watch:
            yield from filter(self._is_ours, walk(folder, self._input.recursive, self._wanted))

    @property
    def is_many(self) -> bool:
        """Whether there may be more than one item, told without opening anything."""
        words = self._input.inputs
        if self._input.files_from is not None or self._input.watch or len(words) != 1:
            return True
        return os.path.isdir(words[0]) or _is_pattern(words[0])

    def _ours(self) -> Iterator[tuple[str, bool, str | None]]:
        return ((path, named, None) for path, named in self._paths(True) if self._is_ours(path))

    def _is_ours(self, path: str) -> bool:
        """Whether a path belongs to this shard, told by its name alone: new files move no other."""
        number, of = self._shard
        return of == 1 or int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:8], "big") % of == number

    def _paths(self, ordered: bool) -> Iterator[tuple[str, bool]]:
        """Every input, and whether it was named by itself."""
        for word, listed in self._words():
            if not is_url(word) and os.path.isdir(word):
                yield from zip(self._files(word, ordered), repeat(False))
            elif not listed and _is_pattern(word):
                yield from zip(self._matches(word, ordered), repeat(False))
            else:
                yield word, True

    def _words(self) -> Iterator[tuple[str, bool]]:
        """Every word, and whether it is a line of the list, which is no pattern."""
        yield from zip(self._input.inputs, repeat(False))
        if self._input.files_from is not None:
            with _open_list(self._input.files_from, self._stdin) as file:
                for line in _lines(file, b"\0" if self._input.null else b"\n"):
                    yield ("./-" if line == "-" else line), True  # a file: standard input is no line of a list

    def _files(self, folder: str, ordered: bool) -> Iterator[str]:
        """The files of a folder; the folder itself where it has none, which is an error when it is opened."""
        found = False
        for path in walk(folder, self._input.recursive, self._wanted, ordered):
            found = True
            yield path
        if not found:
            yield folder

    def _matches(self, pattern: str, ordered: bool) -> Iterator[str]:
        """What a pattern that the shell has not replaced stands for; itself, which is missing, where it is nothing."""
        root, rest = parts_of(pattern)
        found = False
        for path in walk(root, True, self._wanted.matching(rest), ordered):
            found = found or path != root
            if path != root:  # that is what a walk gives where there is no such folder
                yield path.removeprefix("./")
        if not found:
            yield pattern

    def _piped(self, word: str) -> bytes | None:
        """The bytes of what only this process can read, and only once: standard input, a descriptor of it."""
        try:
            if word == "-":
                return content(self._stdin or open(0, "rb", closefd=False), MOST_PIPED)
            if word.startswith(_DESCRIPTORS):
                with open(word, "rb") as file:
                    return content(file, MOST_PIPED)
        except (OSError, ValueError):
            pass  # it is an error when it is opened again
        return None


def stamped(input: Input, output: Output, reads: str) -> Iterator[tuple[str, bool, str | None]]:
    """What `Words.look_ahead` has made in a process of its own."""
    return InputCollector(input, output, reads=reads).stamped()


def wanted(input: Input, output: Output, reads: str) -> Wanted:
    """The rule for walks, by the options; what the run itself writes is no input."""
    outputs = [path for path in (output.output, output.out_dir) if path is not None]
    return Wanted(input.include, input.exclude, outputs, output.sidecar if output.out_dir is None else (), reads)


def reads_path(input: Input, path: Path) -> bool:
    """Whether the file `path` is itself one of the inputs or the list of them, under whatever name."""
    named = (*input.inputs, *filter(None, (input.files_from,)))
    words = (word for word in named if word == "-" or os.path.isfile(word))
    return path.is_file() and any(
        os.path.samestat(os.fstat(0), path.stat()) if word == "-" else os.path.samefile(word, path) for word in words
    )


def _is_below(path: str, folder: str) -> bool:
    return PurePath(os.path.relpath(path, folder)).parts[0] != ".."


def _is_pattern(word: str) -> bool:
    return glob.has_magic(word) and not is_url(word) and not os.path.lexists(word)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def content(file: IO[bytes], most: int) -> bytes:
    """All of it, bit by bit, or what is one byte more than `most`: it may be small, or have no end."""
    data = bytearray()
    while len(data) <= most and (chunk := file.read(min(2**20, most + 1 - len(data)))):
        data += chunk
    return bytes(data)


def _open_list(name: str, stdin: BinaryIO | None = None) -> IO[bytes]:
    try:
        return stdin or open(0, "rb", closefd=False) if name == "-" else open(name, "rb")
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror})", "give --files-from a list of paths") from error


def _lines(file: IO[bytes], end: bytes) -> Iterator[str]:
    """The paths of a list as they come; empty ones are left out."""
    held = b""
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)  # of a pipe what is there, without waiting
    while chunk := read(2**16):
        if end == b"\n" and b"\0" in chunk:
            raise UsageError("the list of inputs has NUL characters", "add -0 if its paths end with them")
        *lines, held = (held + chunk).split(end)
        yield from _decoded(lines, end)
    yield from _decoded([held], end)


def _decoded(lines: Iterable[bytes], end: bytes) -> Iterator[str]:
    if end == b"\n":
        lines = (line.removesuffix(b"\r") for line in lines)  # a list from Windows
    return (os.fsdecode(line) for line in lines if line)


def _shard(word: str | None) -> tuple[int, int]:
    """I/N, counted from 1, as (I - 1, N)."""
    if word is None:
        return 0, 1
    number, _, of = word.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(f"--shard {word} is not one of the shards", "give 1/4, 2/4, 3/4 and 4/4 to four runs")
    return int(number) - 1, int(of)


def without_password(url: str) -> str:
    """The address for people and records: `user:password@` left out.

    >>> without_password("https://me:secret@example.org/a.png")
    'https://example.org/a.png'
    """
    return re.sub(r"(?<=://)[^/?#]*@", "", url, count=1)


def common_folder(words: Sequence[str]) -> str:
    """The folder that --out-dir repeats the tree below: the one directory named, else what all words have in common."""
    folders = [_folder(word) for word in words if not is_url(word)]
    if len(words) == 1 and folders:
        return folders[0] or "."
    try:
        return os.path.commonpath([os.path.abspath(folder) for folder in folders]) if folders else "."
    except ValueError:  # of two drives of Windows
        return "."


def _folder(word: str) -> str:
    if os.path.isdir(word):
        return word
    return parts_of(word)[0] if _is_pattern(word) else os.path.dirname(word)
