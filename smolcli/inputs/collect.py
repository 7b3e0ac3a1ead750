"""Turns the inputs that a user named into items: files, directories, patterns, lists, URLs, standard input."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path, PurePath
from typing import IO, BinaryIO, NamedTuple

from smolcli.errors import ErrorKind, UsageError
from smolcli.inputs.path_list import read_paths
from smolcli.inputs.picture_stream import split_pictures
from smolcli.inputs.walk import EXIFTOOL_COPIES, FileFilter, PassedBy, split_pattern, walk
from smolcli.options import Input, Output
from smolcli.process.child import stream
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Fault, Item, Source, is_url

MAX_PIPED_BYTES = 2**28  # of one input from a pipe, which is held in memory
IsDone = Callable[[str, str | None], bool]  # of a path, and its stamp if it is known
OWN_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # in another process these are other files


class FoundPath(NamedTuple):
    """The path of an input: whether the user named it itself, its stamp if it is known, and why it is no input."""

    path: str
    is_named: bool = False
    stamp: str | None = None
    fault: Fault | None = None


class InputCollector:
    """Collects all inputs that the options name. Only lists and pipes are opened.

        collector = InputCollector(input, output, reads="video")
        collector.has_many, collector.reads_path(path)     # before anything is read
        for item in collector.items(is_done):
            ...

    `reads` is the kind of media to look for in directories, one of registry.READERS. `output` names the files that
    the run itself writes, which are no inputs. `passed_by` counts what was met in directories and not taken; it is
    complete when the items have ended.

    Raises UsageError for options that contradict each other, and for a list that cannot be read.
    """

    def __init__(
        self, input: Input, output: Output | None = None, stdin: BinaryIO | None = None, reads: str = "image"
    ) -> None:
        self._input, self._output, self._reads = input, output or Output(), reads
        self._in_background: Iterator[FoundPath | PassedBy] | None = None
        self.passed_by = PassedBy()
        self._filter = _file_filter(input, self._output, reads)
        self._stdin = stdin
        self._shard = _parse_shard(input.shard)
        if input.files_from == "-" and "-" in input.inputs:
            raise UsageError("standard input is both the list and an input", "give the list as a file")
        if input.null and input.files_from is None:
            raise UsageError("-0 is for --files-from", "find . -print0 | smolcli ... --files-from - -0")
        if input.files_from not in (None, "-") and not os.access(str(input.files_from), os.R_OK):
            raise UsageError(f"{input.files_from}: cannot be read", "give --files-from a list of paths")

    # ---- what can be said before anything is read ----

    @property
    def has_many(self) -> bool:
        """Whether there may be more than one item."""
        arguments = self._input.inputs
        if self._input.files_from is not None or self._input.watch or len(arguments) != 1:
            return True
        return os.path.isdir(arguments[0]) or _is_pattern(arguments[0])

    def reads_path(self, path: Path) -> bool:
        """Whether the file `path` is itself an input or the list of inputs, also if a link leads to it."""
        named = (*self._input.inputs, *filter(None, (self._input.files_from,)))
        files = (name for name in named if name == "-" or os.path.isfile(name))
        return path.is_file() and any(
            os.path.samestat(os.fstat(0), path.stat()) if name == "-" else os.path.samefile(name, path)
            for name in files
        )

    def common_folder(self) -> str:
        """The folder whose tree --out-dir repeats: the one directory named, else what all inputs have in common.

        URLs do not count; of a list of inputs it is the current directory.
        """
        paths = (*self._input.inputs, *self._input.watch)
        folders = [_folder_of(path) for path in paths if not is_url(path)]
        if self._input.files_from is not None or not folders:
            return "."
        if len(paths) == 1:
            return folders[0] or "."
        try:
            return os.path.commonpath([os.path.abspath(folder) for folder in folders])
        except ValueError:  # they are on two drives of Windows
            return "."

    # ---- items ----

    def items(self, is_done: IsDone = lambda path, stamp: False) -> Iterator[Item]:
        """Yield one item for each input of this shard; an input that cannot be used fails when it is opened.

        Paths for which `is_done` is true are left out. It is not asked about pipes, which can be read only once.
        """
        for entry in self._in_background or self._found_paths(self.passed_by):
            if isinstance(entry, PassedBy):
                self.passed_by.add(entry)
                continue
            path, is_named, stamp, fault = entry
            shown = without_password(path) if is_named and is_url(path) else path
            if is_named and (path == "-" or path.startswith(OWN_DESCRIPTORS)):
                yield from self._piped_items(path)
            elif not is_done(shown, stamp):
                yield Item(shown, (Source(path),), fault)

    def collect_in_background(self) -> None:
        """Begin to find the inputs and their stamps in a child process, if another process can read the list."""
        list_name = self._input.files_from
        if (list_name is None or os.path.isfile(list_name)) and "-" not in self._input.inputs:
            self._in_background = stream("smolcli.inputs.collect:stamped", self._input, self._output, self._reads)

    def with_stamps(self) -> Iterator[FoundPath | PassedBy]:
        """Yield the path of each input of this shard with its stamp, and in the end what was passed by."""
        yield from (entry._replace(stamp=stamp_of(entry.path)) for entry in self._found_paths(self.passed_by))
        yield self.passed_by

    def survey(self) -> Iterator[tuple[int, int]]:
        """Count items and the bytes of their files; yield both totals after each item.

        Yields nothing if they cannot be known: for a list on standard input, and if more inputs may arrive.
        """
        list_name = self._input.files_from
        if self._input.watch or (list_name is not None and not os.path.isfile(list_name)):
            return
        count = total_bytes = 0
        for entry in self._found_paths(PassedBy(), ordered=False):
            count, total_bytes = count + 1, total_bytes + _size(entry.path)
            yield count, total_bytes

    # ---- watched folders ----

    def accepts(self, path: str) -> bool:
        """Whether a file that arrives in a watched folder is an input."""
        folder = max((watched for watched in self._input.watch if _is_below(path, watched)), key=len, default="")
        parts = PurePath(os.path.relpath(path, folder or ".")).parts
        parents = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        return (
            self._filter.judge_file(path, parts[-1], "/".join(parts)) == "taken"
            and all(self._filter.accepts_folder(os.path.join(folder, p), os.path.basename(p), p) for p in parents)
            and self._is_in_shard(path)
        )

    def existing_files(self) -> Iterator[str]:
        """Yield the inputs that are in the watched folders already."""
        for folder in self._input.watch:
            yield from filter(self._is_in_shard, self._walk(folder, self._filter, True, self.passed_by))

    # ---- paths ----

    def _found_paths(self, passed_by: PassedBy, ordered: bool = True) -> Iterator[FoundPath]:
        return (entry for entry in self._paths(ordered, passed_by) if self._is_in_shard(entry.path))

    def _is_in_shard(self, path: str) -> bool:
        """Whether a path belongs to this shard. Its name alone decides, so that new files move no other one."""
        number, count = self._shard
        return count == 1 or int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:8], "big") % count == number

    def _paths(self, ordered: bool, passed_by: PassedBy) -> Iterator[FoundPath]:
        for argument, is_line in self._arguments():
            if not is_url(argument) and os.path.isdir(argument):
                yield from self._files_in(argument, ordered, passed_by)
            elif not is_line and _is_pattern(argument):
                yield from self._matches(argument, ordered, passed_by)
            else:
                yield FoundPath(argument, is_named=True)

    def _arguments(self) -> Iterator[tuple[str, bool]]:
        """Yield each argument and each line of the list, and whether it is a line, in which a pattern has no effect."""
        yield from zip(self._input.inputs, repeat(False))
        if self._input.files_from is not None:
            for line in read_paths(self._input.files_from, self._input.null, self._stdin):
                yield ("./-" if line == "-" else line), True  # in a list, "-" is a file and not standard input

    def _files_in(self, folder: str, ordered: bool, passed_by: PassedBy) -> Iterator[FoundPath]:
        """Yield the files of a folder; of an empty one the folder itself, which is an error when it is opened."""
        is_empty = True
        for path in self._walk(folder, self._filter, ordered, passed_by):
            is_empty = False
            yield FoundPath(path)
        if is_empty and self._input.include:
            patterns = " ".join(self._input.include)
            fault = Fault(ErrorKind.NO_INPUT, f"no file in it matches --include {patterns}; check the pattern")
            yield FoundPath(folder, fault=fault)
        elif is_empty:
            yield FoundPath(folder)

    def _matches(self, pattern: str, ordered: bool, passed_by: PassedBy) -> Iterator[FoundPath]:
        """Yield the files that match a pattern which the shell has not expanded; if there are none, a fault."""
        root, rest = split_pattern(pattern)
        has_match = False
        for path in self._walk(root, self._filter.for_pattern(rest), ordered, passed_by, recursive=True):
            if path != root:  # a walk gives its root itself where there is no such folder
                has_match = True
                yield FoundPath(path.removeprefix("./"))
        if not has_match:
            yield FoundPath(pattern, fault=Fault(ErrorKind.NO_INPUT, "no file matches; check the pattern"))

    def _walk(
        self, folder: str, file_filter: FileFilter, ordered: bool, passed_by: PassedBy, recursive: bool | None = None
    ) -> Iterator[str]:
        recursive = self._input.recursive if recursive is None else recursive
        return walk(
            folder, recursive, file_filter, ordered, follow_links=self._input.follow_links, passed_by=passed_by
        )  # fmt: skip

    def _piped_items(self, path: str) -> Iterator[Item]:
        """Yield the medium in a pipe, or each picture where several follow one another, then numbered from 1.

        The pipe is standard input or a descriptor of this process, which no other process can read. Where it cannot be
        read, that is the fault of an item.
        """
        try:
            with self._open_pipe(path) as pipe:
                if self._reads == "video":
                    yield Item.of(path, read_up_to(pipe, MAX_PIPED_BYTES))
                    return
                for number, (data, is_last) in enumerate(split_pictures(pipe, MAX_PIPED_BYTES), 1):
                    in_row = number > 1 or not is_last
                    yield Item(f"{path}#{number}" if in_row else path, (Source(path, data),), in_row=in_row)
        except OSError as error:
            message = f"cannot be read ({error.strerror or error}); is it open for reading?"
            yield Item(path, (Source(path),), Fault(ErrorKind.UNREADABLE, message))

    def _open_pipe(self, path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a pipe, which is closed at the end of the block unless it is standard input. Raises OSError."""
        if path != "-":
            return open(path, "rb")
        return contextlib.nullcontext(self._stdin or open(0, "rb", closefd=False))


def stamped(input: Input, output: Output, reads: str) -> Iterator[FoundPath | PassedBy]:
    """Yield what InputCollector.collect_in_background finds in a child process."""
    return InputCollector(input, output, reads=reads).with_stamps()


def without_password(url: str) -> str:
    """Remove `user:password@` from a URL, for messages and records.

    >>> without_password("https://me:secret@example.org/a.png")
    'https://example.org/a.png'
    """
    return re.sub(r"(?<=://)[^/?#]*@", "", url, count=1)


def read_up_to(file: IO[bytes], limit: int) -> bytes:
    """Read a file in parts until its end; from a file without an end, stop one byte after `limit`."""
    data = bytearray()
    while len(data) <= limit and (chunk := file.read(min(2**20, limit + 1 - len(data)))):
        data += chunk
    return bytes(data)


def _file_filter(input: Input, output: Output, reads: str) -> FileFilter:
    outputs = [path for path in (output.output, output.out_dir) if path is not None]
    sidecars = output.sidecar if output.out_dir is None else ()
    if output.write_metadata:
        sidecars = (*sidecars, *EXIFTOOL_COPIES)
    return FileFilter(input.include, input.exclude, outputs, sidecars, reads)


def _is_below(path: str, folder: str) -> bool:
    return PurePath(os.path.relpath(path, folder)).parts[0] != ".."


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not is_url(argument) and not os.path.lexists(argument)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def _folder_of(path: str) -> str:
    if os.path.isdir(path):
        return path
    return split_pattern(path)[0] if _is_pattern(path) else os.path.dirname(path)


def _parse_shard(shard: str | None) -> tuple[int, int]:
    """Parse I/N, counted from 1, to (I - 1, N)."""
    if shard is None:
        return 0, 1
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {shard} is not one of the shards", "give 1/4, 2/4, 3/4 and 4/4 to four runs")
    return int(number) - 1, int(count)
