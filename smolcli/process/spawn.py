"""Starts Python processes for process/child.py, the first one before anything else is loaded.

    begin(ENGINE, verbose=False)    # a process loads it from now on; the first Child of that place is given it

A new process takes as long to load what it needs as this one to understand its command line: it does so meanwhile.
So nothing is imported here that takes milliseconds, as subprocess and tempfile do.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

ENGINE = "smolcli.engine.server:serve"  # what the engine's process runs
SHARED = 1024  # bytes of memory that a process shares with the one that started it
MEMORY, INCOMING, OUTGOING = 3, 4, 5  # file descriptors there, of that and of the pipes
# Garbage is looked for once all is loaded, as in __main__.py.
START = (
    "import gc, sys; gc.disable(); sys.path[:] = {path!r}; "
    "from smolcli.process.worker_main import main; main({place!r}, {verbose})"
)
# Of glibc: what one thread lets go serves the others. It saves 7 MB of an engine's 475.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1"}
PATIENCE = 5.0  # seconds in which a process that was told to end does so


class Process:
    """Runs child.main, which loads what is at `place` ("module:function") and waits for what it is to do with it.

    `outgoing` and `incoming` are the ends of two pipes, closed by whoever takes them. What it prints
    goes to this one's with `verbose`, else to `log`, a file without a name, None where there is no place
    for one. `shared` are whole numbers of 64 bits that both see, all 0 at first. Raises OSError.
    """

    def __init__(self, place: str, verbose: bool) -> None:
        self.place, self.verbose = place, verbose
        self._code: int | None = None
        with contextlib.ExitStack() as failed, contextlib.ExitStack() as theirs:
            memory = _closed_by(theirs, _memory())
            self.shared = memoryview(mmap.mmap(memory, SHARED)).cast("q")
            self.log = None if verbose else _log()
            if self.log is not None:
                _closed_by(failed, self.log)
            stdin, self.outgoing = os.pipe()
            _closed_by(theirs, stdin), _closed_by(failed, self.outgoing)
            self.incoming, stdout = os.pipe()
            _closed_by(theirs, stdout), _closed_by(failed, self.incoming)
            stderr = 2 if verbose else self.log
            if stderr is None:
                stderr = _closed_by(theirs, os.open(os.devnull, os.O_WRONLY))
            nothing = _closed_by(theirs, os.open(os.devnull, os.O_RDONLY))
            wanted = {0: nothing, 1: stderr, 2: stderr, MEMORY: memory, INCOMING: stdin, OUTGOING: stdout}
            # Beyond all that they are to become: none is written over before it is taken.
            places = {
                number: _closed_by(theirs, fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, OUTGOING + 1))
                for number, file in wanted.items()
            }
            command = [sys.executable, *_flags(), "-c", START.format(path=sys.path, verbose=verbose, place=place)]
            with _interrupts_ignored():  # what is ignored here is so in the child from its first moment on
                actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in places.items()]
                self.pid = os.posix_spawn(sys.executable, command, {**ALLOCATOR, **os.environ}, file_actions=actions)
            failed.pop_all()

    def end(self, at_once: bool) -> int:
        """Ends the process, which has some seconds to do so itself unless `at_once`; gives its exit code.

        The code is that of subprocess: of a signal, its number below 0.
        """
        give_up, pause = time.monotonic() + PATIENCE, 0.0005
        while not at_once and not self._has_ended(os.WNOHANG) and time.monotonic() < give_up:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):  # it went unseen, as below
                os.kill(self.pid, signal.SIGKILL)
            self._has_ended(0)
        return self._code or 0

    def _has_ended(self, how: int) -> bool:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, how)
            except ChildProcessError:  # whoever started this program wants to hear of no child's end: nor do we
                pid, status = self.pid, 0
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    def forget_log(self) -> None:
        """Closes the file, which ends it."""
        if self.log is not None:
            os.close(self.log)
        self.log = None


_begun: list[Process] = []  # one, until it is taken


def begin(place: str, verbose: bool) -> None:
    """Starts the process of the next Child of `place`; where it cannot be started, that Child will say so."""
    with contextlib.suppress(OSError):
        _begun.append(Process(place, verbose))
        atexit.register(_end_unused)


def process_for(place: str, verbose: bool) -> Process:
    """The process that was begun for this, or a new one. Raises OSError."""
    if _begun and (_begun[0].place, _begun[0].verbose) == (place, verbose):
        return _begun.pop()
    if _begun and _begun[0].place == place:
        _end_unused()  # the words said otherwise than the options that they are
    return Process(place, verbose)


def _flags() -> list[str]:
    """Those of this interpreter that keep others' code out."""
    given = {"-I": sys.flags.isolated, "-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
    return [flag for flag, is_set in given.items() if is_set]


def _end_unused() -> None:
    while _begun:
        _begun.pop().end(at_once=True)


def _closed_by(stack: contextlib.ExitStack, file: int) -> int:
    stack.callback(os.close, file)
    return file


def _memory() -> int:
    """A file of SHARED bytes, all 0, that is only in memory where the system has such."""
    file = os.memfd_create("smolcli") if hasattr(os, "memfd_create") else _temporary()
    os.write(file, bytes(SHARED))  # now, where a full disk is an error and no crash
    return file


def _log() -> int | None:
    with contextlib.suppress(OSError):  # no place for a log is no reason not to run
        return _temporary()
    return None


def _temporary() -> int:
    """A file without a name in the folder for such files: no end of these processes leaves it behind."""
    with contextlib.suppress(AttributeError, OSError):  # only Linux has these, and not in every file system
        return os.open(os.environ.get("TMPDIR") or "/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
    import tempfile

    with tempfile.TemporaryFile(prefix="smolcli-") as file:
        return os.dup(file.fileno())


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
