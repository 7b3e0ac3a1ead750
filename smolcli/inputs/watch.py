"""Watches folders, and yields each file that arrives in them when it is completely written."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from watchfiles import Change, watch

from smolcli.errors import ErrorKind, InputError, UnavailableError, UsageError

if sys.platform == "linux":
    import fcntl

SETTLE = 0.5  # seconds without a change after which a file counts as complete
EMPTY = 10.0  # seconds after which an empty file counts as complete; before, it may be a copy that begins
MAX_REMEMBERED = 10_000  # files that were yielded, so that another event for one of them is recognised
CLOCK_SLACK = 2.0  # seconds by which a file system's times may be behind the clock
MAX_STARTS = 10  # attempts to start watching while folders come and go

_Events = set[tuple[Change, str]]


def watch_arrivals(
    folders: Sequence[str],
    accepts: Callable[[str], bool],
    stop: threading.Event,
    recursive: bool = True,
    existing: Iterable[str] = (),
    *,
    follow_links: bool = False,
    settle: float = SETTLE,
    empty: float = EMPTY,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Yield the path of each file that arrives in the folders from this call on, until `stop` is set.

    The files of `existing`, which were there before, are yielded first. One that is still being written is yielded when
    it is complete, like those that arrive.

    A file is complete when nothing has written to it for `settle` seconds (`empty` seconds if it has no bytes). Files
    are yielded in the order of completion, and again after they were written anew. `accepts` says whether a path is an
    input; paths begin as the folder was given. Hidden files and folders, whatever is not a plain file and, without
    `follow_links`, links to folders are left out. Memory grows with the number of folders and of incomplete files.

    Raises UsageError for a path that is no folder, UnavailableError if the system cannot watch it, and InputError,
    while iterating, if a folder disappears.
    """
    changes = _Changes(folders, stop, recursive, follow_links, settle / 2)  # begins here, not at the first iteration
    return _complete_files(changes, accepts, existing, Settling(settle, empty, clock))


def _complete_files(
    changes: _Changes, accepts: Callable[[str], bool], existing: Iterable[str], settling: Settling
) -> Iterator[str]:
    for path in existing:
        if settling.is_complete_already(path):
            yield path
    for paths in changes:
        settling.note([path for path in paths if accepts(path)])
        yield from settling.complete()


# ---- which files are complete ----------------------------------------------------------------------


class _Stamp(NamedTuple):
    size: int
    mtime_ns: int


class _Waiting(NamedTuple):
    since: float  # time by the clock at which it was last found changed, or open for writing
    stamp: _Stamp


class Settling:
    """Tracks files that may still be written to, and the files yielded last, so that none is yielded twice."""

    def __init__(self, settle: float, empty: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._settle = settle
        self._empty = empty
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._yielded: OrderedDict[str, _Stamp] = OrderedDict()

    def note(self, paths: Sequence[str]) -> None:
        """Note that something has happened to these files just now."""
        now = self._clock()
        for path in paths:
            stamp = _stamp(path)
            if stamp is None:
                self._waiting.pop(path, None)
                self._yielded.pop(path, None)
            elif stamp != self._yielded.get(path) and (path not in self._waiting or stamp != self._waiting[path].stamp):
                self._waiting[path] = _Waiting(now, stamp)

    def is_complete_already(self, path: str) -> bool:
        """Whether a file that was there before watching began is complete; if not, wait for it like for the others."""
        stamp = _stamp(path)
        if stamp is not None and (time.time() - stamp.mtime_ns / 1e9 < self._settle or _has_writer(path)):
            self.note([path])
            return False
        if stamp is not None:
            self._remember(path, stamp)
        return True  # a file that is gone is an error when it is opened

    def complete(self) -> Iterator[str]:
        """Yield the files that are complete. Each is checked just before, however long the ones before it took."""
        for path in sorted(self._waiting, key=self._order):
            if self._is_complete(path):
                self._remember(path, self._waiting.pop(path).stamp)
                yield path

    def _remember(self, path: str, stamp: _Stamp) -> None:
        self._yielded[path] = stamp
        self._yielded.move_to_end(path)
        if len(self._yielded) > MAX_REMEMBERED:
            self._yielded.popitem(last=False)

    def _order(self, path: str) -> tuple[float, int]:
        return self._waiting[path].since, self._waiting[path].stamp.mtime_ns

    def _is_complete(self, path: str) -> bool:
        waiting, now = self._waiting[path], self._clock()
        if now - waiting.since < self._settle:
            return False
        stamp = _stamp(path)
        if stamp is None:
            del self._waiting[path]
            return False
        if stamp != waiting.stamp or _has_writer(path):
            self._waiting[path] = _Waiting(now, stamp)
            return False
        return stamp.size > 0 or now - waiting.since >= self._empty


def _stamp(path: str) -> _Stamp | None:
    """Return the stamp of a plain file; None for anything else, and for a file that is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _Stamp(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _has_writer(path: str) -> bool:
    """Whether a process has the file open for writing; False if the system cannot tell.

    Linux grants a read lease on a file that is not open for writing. It grants none on files of another user and on
    NFS.
    """
    if sys.platform != "linux":
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False  # it is an error when the file is opened
    try:
        # If another process opens the file for writing while the lease is held, the kernel sends this process a signal.
        # The default, SIGIO, would end it; SIGURG is ignored.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(file)
    return False


# ---- what has happened in the folders --------------------------------------------------------------


class _Changes:
    """Iterates over lists of changed files; at least every `tick` seconds there is a list, which may be empty.

    Each folder is watched separately: the recursion of watchfiles follows links, fails at a folder without permissions,
    and misses files that are written into a new folder before it is watched. A sub-folder whose name is not UTF-8 is
    not watched.
    """

    def __init__(
        self, folders: Sequence[str], stop: threading.Event, recursive: bool, follow_links: bool, tick: float
    ) -> None:
        for folder in folders:
            _check_folder(folder)
        self._roots = {os.path.realpath(folder): folder for folder in reversed(folders)}
        self._stop = stop
        self._recursive, self._follow_links = recursive, follow_links
        self._tick_ms = max(1, round(tick * 1000))
        self._names: dict[str, str] = {}  # real path of each watched folder to its path as given
        self._stream: Generator[_Events, None, None] | None = None
        self._is_broken = False
        self._last_events_at = time.time()
        self._first_events = self._rewatch()

    def __iter__(self) -> Iterator[list[str]]:
        events = self._first_events
        while not self._stop.is_set():
            files, new_folders = self._split(events)
            if new_folders or self._is_broken:
                events = self._rewatch()
                files += [path for folder in new_folders for path in self._files_below(folder)]
                yield files
            else:
                yield files
                events = self._next_events()

    def _split(self, events: _Events) -> tuple[list[str], list[str]]:
        """Return the changed files, as paths that begin as the folder was given, and the real paths of new folders."""
        files, new_folders = [], []
        for change, path in events:
            folder, name = os.path.split(path)
            if change == Change.deleted and path in self._roots:
                new_folders.append(path)  # another may have taken its place
            elif folder not in self._names or name.startswith("."):
                continue
            elif change == Change.added and os.path.isdir(path) and (self._follow_links or not os.path.islink(path)):
                new_folders += [os.path.realpath(path)] if self._recursive else []
            else:
                files.append(os.path.join(self._names[folder], name))
        return files, new_folders

    def _next_events(self) -> _Events:
        assert self._stream is not None
        events = self._take(self._stream)
        if not events:
            self._check_roots()
        if not self._is_broken:
            self._last_events_at = time.time()
        return events

    def _take(self, stream: Generator[_Events, None, None]) -> _Events:
        try:
            return next(stream, set())
        except RuntimeError:  # a name that is not UTF-8 has ended the stream, or the system failed to watch
            self._is_broken = True
            return set()

    def _rewatch(self) -> _Events:
        """Watch the folders that there are now, then end the old watch; return what happened in between."""
        old, known = self._stream, set(self._names)
        events = self._start_watching()
        if self._is_broken:
            self._is_broken = False
            events |= self._missed_events(self._names.keys() - known if old is not None else ())
        elif old is not None:
            events |= self._take(old)
        if old is not None:
            old.close()
        return events

    def _start_watching(self) -> _Events:
        problem: Exception | None = None
        for _ in range(MAX_STARTS):
            self._names = self._find_folders()
            self._stream = watch(
                *self._names, watch_filter=None, debounce=400, stop_event=self._stop, rust_timeout=self._tick_ms,
                yield_on_timeout=True, recursive=False, ignore_permission_denied=False,
            )  # fmt: skip
            try:
                return next(self._stream, set())
            except FileNotFoundError as error:  # a folder has gone since it was listed
                problem = error
                self._check_roots()
            except RuntimeError as error:
                problem = error
                self._is_broken = True
            except OSError as error:
                problem = error
                break
        message = f"the folders cannot be watched ({problem})"
        raise UnavailableError(message, "raise the limits fs.inotify.max_user_watches and max_user_instances")

    def _check_roots(self) -> None:
        for path, name in self._roots.items():
            if not os.path.isdir(path):
                raise InputError(f"{name}: the folder is gone", "create it and start again", kind=ErrorKind.MISSING)

    def _find_folders(self) -> dict[str, str]:
        """Map the real path of each folder to watch to its path, which begins as the first given folder that has it."""
        names: dict[str, str] = {}
        rest = list(self._roots.items())  # a stack; the first given folder is last in it
        while rest:
            path, name = rest.pop()
            if path in names or not _is_watchable(path):
                continue
            names[path] = name
            if self._recursive:
                for entry in filter(_is_folder, _entries(path)):
                    if not entry.is_symlink():
                        rest.append((entry.path, os.path.join(name, entry.name)))
                    elif self._follow_links:
                        rest.append((os.path.realpath(entry.path), os.path.join(name, entry.name)))
        return names

    def _files_below(self, folder: str) -> Iterator[str]:
        """Yield the files in a new folder and in the folders inside it."""
        for path, name in self._names.items():
            if path == folder or path.startswith(os.path.join(folder, "")):
                yield from (os.path.join(name, entry.name) for entry in _entries(path) if not _is_folder(entry))

    def _missed_events(self, new_folders: Collection[str]) -> _Events:
        """Return what may have happened since the last events: in new folders every file, else by the files' times."""
        events = set()
        for path in self._names:
            for entry in _entries(path):
                with contextlib.suppress(OSError):
                    is_recent = _changed_at(entry) >= self._last_events_at - CLOCK_SLACK
                    if not _is_folder(entry) and (is_recent or path in new_folders):
                        events.add((Change.added, entry.path))
        return events


def _check_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        raise UsageError(f"{folder}: no such directory", "check the path")
    if not _is_watchable(os.path.realpath(folder)):
        raise UsageError(f"{folder}: cannot be watched", "it must be readable, and its name UTF-8")


def _is_watchable(folder: str) -> bool:
    try:
        folder.encode()
    except UnicodeEncodeError:
        return False
    return os.access(folder, os.R_OK | os.X_OK)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder that are not hidden; none if it cannot be listed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _changed_at(entry: os.DirEntry[str]) -> float:
    """Return when a file was last changed or renamed, or a link to it made. Raises OSError."""
    return max(entry.stat().st_ctime, entry.stat(follow_symlinks=False).st_ctime)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False
