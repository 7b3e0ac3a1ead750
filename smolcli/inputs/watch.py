"""Files that arrive in folders, each given once it is completely written."""

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
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from watchfiles import Change, watch

from smolcli.errors import InputError, UnavailableError, UsageError

if sys.platform == "linux":
    import fcntl

SETTLE = 0.5  # seconds in which a file that is complete has not changed
EMPTY = 10.0  # seconds in which an empty file has not grown, so that it is no copy that begins
REMEMBERED = 10_000  # files given, by which a second event for one of them is known
SLACK = 2.0  # seconds by which a file system's times may be behind the clock
TRIES = 10  # of starting to watch, while folders come and go

_Events = set[tuple[Change, str]]


def watch_arrivals(
    folders: Sequence[str],
    wanted: Callable[[str], bool],
    stop: threading.Event,
    recursive: bool = True,
    existing: Iterable[str] = (),
    *,
    settle: float = SETTLE,
    empty: float = EMPTY,
    format_time: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """The path of each file that arrives in a folder from the moment of this call, until `stop` is set.

    Before them come those of `existing`, files that were there already; one that is being written when comes its turn
    is waited for as the others are.

    A file comes once nothing has written to it for `settle` seconds (`empty` seconds where it has no bytes), in the
    order of completion, and again when it is written anew. `wanted` is asked with the path, spelled as the folder was.
    Hidden files and folders, links to folders and everything that is no file are left out. Memory goes with the
    number of folders and of files not yet complete.

    Raises UsageError for what is no folder, UnavailableError where the system cannot watch it, and on the way
    InputError when a folder is gone.
    """
    changes = _Changes(folders, stop, recursive, settle / 2)  # begins here, not when the first file is asked for
    return _complete(changes, wanted, existing, Settling(settle, empty, format_time))


def _complete(
    changes: _Changes, wanted: Callable[[str], bool], existing: Iterable[str], settling: Settling
) -> Iterator[str]:
    for path in existing:
        if settling.found(path):
            yield path
    for paths in changes:
        settling.note([path for path in paths if wanted(path)])
        yield from settling.complete()


# ---- which files are complete ----------------------------------------------------------------------


class _Stamp(NamedTuple):
    size: int
    mtime_ns: int


class _Seen(NamedTuple):
    since: float  # by the clock: when it was found changed or being written last
    stamp: _Stamp


class Settling:
    """Files that may still be written to, and the last that were given, so that none is given twice."""

    def __init__(self, settle: float, empty: float, format_time: Callable[[], float] = time.monotonic) -> None:
        self._settle = settle
        self._empty = empty
        self._clock = format_time
        self._waiting: dict[str, _Seen] = {}
        self._given: OrderedDict[str, _Stamp] = OrderedDict()

    def note(self, paths: Sequence[str]) -> None:
        """Something has happened to these files, at about the same time."""
        now = self._clock()
        for path in paths:
            stamp = _stamp(path)
            if stamp is None:
                self._waiting.pop(path, None)
                self._given.pop(path, None)
            elif stamp != self._given.get(path) and (path not in self._waiting or stamp != self._waiting[path].stamp):
                self._waiting[path] = _Seen(now, stamp)

    def found(self, path: str) -> bool:
        """Whether a file that was there before is complete; else it is waited for."""
        stamp = _stamp(path)
        if stamp is not None and (time.time() - stamp.mtime_ns / 1e9 < self._settle or _has_writer(path)):
            self.note([path])
            return False
        if stamp is not None:
            self._remember(path, stamp)
        return True  # one that is gone is an error when it is opened

    def complete(self) -> Iterator[str]:
        """The files that are complete; each is looked at when its turn comes, however long those before it took."""
        for path in sorted(self._waiting, key=self._order):
            if self._is_complete(path):
                self._remember(path, self._waiting.pop(path).stamp)
                yield path

    def _remember(self, path: str, stamp: _Stamp) -> None:
        self._given[path] = stamp
        self._given.move_to_end(path)
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)

    def _order(self, path: str) -> tuple[float, int]:
        return self._waiting[path].since, self._waiting[path].stamp.mtime_ns

    def _is_complete(self, path: str) -> bool:
        seen, now = self._waiting[path], self._clock()
        if now - seen.since < self._settle:
            return False
        stamp = _stamp(path)
        if stamp is None:
            del self._waiting[path]
            return False
        if stamp != seen.stamp or _has_writer(path):
            self._waiting[path] = _Seen(now, stamp)
            return False
        return stamp.size > 0 or now - seen.since >= self._empty


def _stamp(path: str) -> _Stamp | None:
    """None of what is no file, or is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _Stamp(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _has_writer(path: str) -> bool:
    """Whether a process has the file open for writing; False where the system cannot tell.

    Linux grants a read lease on a file that nobody writes to; on another's file or on NFS it grants none.
    """
    if sys.platform != "linux":
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False  # an error when it is read
    try:
        # Who opens the file for writing while the lease is held makes the kernel send a signal. The usual one, SIGIO,
        # ends the process; this one is ignored.
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
    """Iterates over the files to which something has happened, in batches, an empty one at least every `tick` seconds.

    Each folder is watched by itself: watchfiles' own recursion follows links, ends at a folder without rights, and
    misses what is written into a new folder before it is watched. A sub-folder whose name is not UTF-8 is not watched.
    """

    def __init__(self, folders: Sequence[str], stop: threading.Event, recursive: bool, tick: float) -> None:
        for folder in folders:
            _check(folder)
        self._roots = {os.path.realpath(folder): folder for folder in reversed(folders)}
        self._stop = stop
        self._recursive = recursive
        self._tick = max(1, round(tick * 1000))
        self._names: dict[str, str] = {}  # of each folder watched: its real path, and how it is spelled here
        self._stream: Generator[_Events, None, None] | None = None
        self._is_broken = False
        self._last = time.time()  # when the last events came
        self._first = self._renew()

    def __iter__(self) -> Iterator[list[str]]:
        events = self._first
        while not self._stop.is_set():
            files, new = self._split(events)
            if new or self._is_broken:
                events = self._renew()
                files += [path for folder in new for path in self._below(folder)]
                yield files
            else:
                yield files
                events = self._next()

    def _split(self, events: _Events) -> tuple[list[str], list[str]]:
        """The files among what has changed, as they are spelled here, and the real paths of new folders."""
        files, new = [], []
        for change, path in events:
            folder, name = os.path.split(path)
            if change == Change.deleted and path in self._roots:
                new.append(path)  # there may be another in its place
            elif folder not in self._names or name.startswith("."):
                continue
            elif change == Change.added and os.path.isdir(path) and not os.path.islink(path):
                new += [path] if self._recursive else []
            else:
                files.append(os.path.join(self._names[folder], name))
        return files, new

    def _next(self) -> _Events:
        assert self._stream is not None
        events = self._take(self._stream)
        if not events:
            self._check_roots()
        if not self._is_broken:
            self._last = time.time()
        return events

    def _take(self, stream: Generator[_Events, None, None]) -> _Events:
        try:
            return next(stream, set())
        except RuntimeError:  # a name that is not UTF-8 has ended the stream, or the system's watching has failed
            self._is_broken = True
            return set()

    def _renew(self) -> _Events:
        """Watches the folders there are now, and only then leaves the old watch; gives what happened meanwhile."""
        old = self._stream
        events = self._start()
        if self._is_broken:
            self._is_broken = False
            events |= self._missed()
        elif old is not None:
            events |= self._take(old)
        if old is not None:
            old.close()
        return events

    def _start(self) -> _Events:
        problem: Exception | None = None
        for _ in range(TRIES):
            self._names = self._folders()
            self._stream = watch(
                *self._names, watch_filter=None, debounce=400, stop_event=self._stop, rust_timeout=self._tick,
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
        what = f"the folders cannot be watched ({problem})"
        raise UnavailableError(what, "raise the limits fs.inotify.max_user_watches and max_user_instances")

    def _check_roots(self) -> None:
        for path, name in self._roots.items():
            if not os.path.isdir(path):
                raise InputError(f"{name}: the folder is gone", "make it again and start again", kind="missing")

    def _folders(self) -> dict[str, str]:
        """The folders to watch: real path and name, after the first of the folders given that holds it."""
        names: dict[str, str] = {}
        rest = list(self._roots.items())  # the first given is last, and is taken from there
        while rest:
            path, name = rest.pop()
            if path in names or not _is_watchable(path):
                continue
            names[path] = name
            if self._recursive:
                inside = (entry for entry in _entries(path) if _is_folder(entry) and not entry.is_symlink())
                rest += [(entry.path, os.path.join(name, entry.name)) for entry in inside]
        return names

    def _below(self, folder: str) -> Iterator[str]:
        """The files in a new folder and in those inside it."""
        for path, name in self._names.items():
            if path == folder or path.startswith(os.path.join(folder, "")):
                yield from (os.path.join(name, entry.name) for entry in _entries(path) if not _is_folder(entry))

    def _missed(self) -> _Events:
        """What may have happened since the last events, by the times of the files."""
        found = set()
        for path in self._names:
            for entry in _entries(path):
                with contextlib.suppress(OSError):
                    if not _is_folder(entry) and entry.stat().st_ctime >= self._last - SLACK:
                        found.add((Change.added, entry.path))
        return found


def _check(folder: str) -> None:
    if not os.path.isdir(folder):
        raise UsageError(f"{folder}: no such directory", "name one that is there")
    if not _is_watchable(os.path.realpath(folder)):
        raise UsageError(f"{folder}: cannot be watched", "it must be readable, and its name UTF-8")


def _is_watchable(folder: str) -> bool:
    try:
        folder.encode()
    except UnicodeEncodeError:
        return False
    return os.access(folder, os.R_OK | os.X_OK)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """What is in a folder and not hidden; nothing where it cannot be listed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
