"""Starts Python processes for process/child.py, the first one before anything else is loaded.

    prestart(ENGINE, verbose=False)    # a process loads the engine from now on; the first Child of ENGINE is given it

A new process takes as long to load what it needs as this one to parse its command line: it does so meanwhile. For that
this module imports nothing that takes milliseconds, as subprocess and tempfile do.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import mmap
import os
import signal
import sys
import threading
import time

ENGINE = "smolcli.engine.server:serve"  # the function that the engine's process runs
# Of memory that a process shares with the one that started it: 160 progress cells of 4 integers, for 64 replies, for as
# many prompts that are prepared ahead, and for the threads that open items.
SHARED_BYTES = 160 * 4 * 8
MEMORY_FD, INCOMING_FD, OUTGOING_FD = 3, 4, 5  # in the new process: the shared memory and the ends of the pipes
# The garbage collector is off until all is loaded, as in __main__.py.
PROGRAM = (
    "import gc, sys; gc.disable(); sys.path[:] = {path!r}; "
    "from smolcli.process.worker_main import main; main({target!r}, {verbose})"
)
# Of glibc: memory that one thread frees serves the others. It saves 7 MB of an engine's 475.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1"}
EXIT_SECONDS = 5.0  # for a process to end after its pipe was closed


class Process:
    """A process that loads `target` ("module:function") and waits for the arguments to call it with.

    `outgoing` and `incoming` are this process's ends of two pipes, closed by whoever takes them over. What the new
    process prints goes to standard error with `verbose`, else to `log`, a file without a name, None where no file can
    be made. `shared` are integers of 64 bits that both processes see, all 0 at first. Raises OSError.
    """

    def __init__(self, target: str, verbose: bool) -> None:
        self.target, self.verbose = target, verbose
        self._exit_code: int | None = None
        self._ending = threading.Lock()  # guards the exit code: several threads may wait for the end
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as child_ends:
            memory = _closed_by(child_ends, _memory_file())
            self.shared = memoryview(mmap.mmap(memory, SHARED_BYTES)).cast("q")
            self.log = None if verbose else _log_file()
            if self.log is not None:
                _closed_by(on_failure, self.log)
            stdin, self.outgoing = os.pipe()
            _closed_by(child_ends, stdin), _closed_by(on_failure, self.outgoing)
            self.incoming, stdout = os.pipe()
            _closed_by(child_ends, stdout), _closed_by(on_failure, self.incoming)
            stderr = 2 if verbose else self.log
            if stderr is None:
                stderr = _closed_by(child_ends, os.open(os.devnull, os.O_WRONLY))
            null = _closed_by(child_ends, os.open(os.devnull, os.O_RDONLY))
            files = {0: null, 1: stderr, 2: stderr, MEMORY_FD: memory, INCOMING_FD: stdin, OUTGOING_FD: stdout}
            # Copies above all the numbers that they are to get: none is overwritten before it was copied.
            copies = {
                number: _closed_by(child_ends, fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, OUTGOING_FD + 1))
                for number, file in files.items()
            }
            program = PROGRAM.format(path=sys.path, verbose=verbose, target=target)
            command = [sys.executable, *_isolation_flags(), "-c", program]
            actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in copies.items()]
            # Ctrl-C is sent to the child too, which must not end by it before it ignores it.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) | {signal.SIGINT}
            self.pid = os.posix_spawn(
                sys.executable, command, {**ALLOCATOR, **os.environ}, file_actions=actions, setsigmask=blocked
            )
            on_failure.pop_all()

    def end(self, at_once: bool) -> int:
        """End the process, which has EXIT_SECONDS to do so itself unless `at_once`. Returns its exit code.

        The code of a process that a signal has ended is the signal's number below 0, as with subprocess. Called in any
        thread.
        """
        with self._ending:
            deadline, pause = time.monotonic() + EXIT_SECONDS, 0.0005
            while not at_once and not self._has_ended(os.WNOHANG) and time.monotonic() < deadline:
                time.sleep(pause)
                pause = min(2 * pause, 0.05)
            if self._exit_code is None:
                with contextlib.suppress(ProcessLookupError):  # it has ended, and its exit code was not kept, as below
                    os.kill(self.pid, signal.SIGKILL)
                self._has_ended(0)
            return self._exit_code or 0

    def _has_ended(self, options: int) -> bool:
        """Whether the process has ended; `options` are those of waitpid."""
        if self._exit_code is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # whoever started this program ignores SIGCHLD: no exit code is kept
                pid, status = self.pid, 0
            self._exit_code = os.waitstatus_to_exitcode(status) if pid else None
        return self._exit_code is not None

    def close_log(self) -> None:
        """Close the log, which deletes it: it has no name."""
        if self.log is not None:
            os.close(self.log)
        self.log = None


_started_ahead: list[Process] = []  # at most one, until it is taken


def prestart(target: str, verbose: bool) -> None:
    """Start the process of the next Child of `target` now. Where that fails, the Child tries again and reports it."""
    with contextlib.suppress(OSError):
        _started_ahead.append(Process(target, verbose))
        atexit.register(_end_unused)


def get_process(target: str, verbose: bool) -> Process:
    """The process that was started ahead for `target`, or a new one. Raises OSError."""
    if _started_ahead and (_started_ahead[0].target, _started_ahead[0].verbose) == (target, verbose):
        return _started_ahead.pop()
    if _started_ahead and _started_ahead[0].target == target:
        _end_unused()  # the options say another `verbose` than the first look at the command line
    return Process(target, verbose)


def _isolation_flags() -> list[str]:
    """The flags of this interpreter that keep others' code out."""
    flags = {"-I": sys.flags.isolated, "-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
    return [flag for flag, is_set in flags.items() if is_set]


def _end_unused() -> None:
    while _started_ahead:
        _started_ahead.pop().end(at_once=True)


def _closed_by(stack: contextlib.ExitStack, file: int) -> int:
    """Have a file descriptor closed with the stack. Returns it."""
    stack.callback(os.close, file)
    return file


def _memory_file() -> int:
    """A file of SHARED_BYTES, all 0, in memory alone where the system has such files."""
    file = os.memfd_create("smolcli") if hasattr(os, "memfd_create") else _unnamed_file()
    if os.write(file, bytes(SHARED_BYTES)) < SHARED_BYTES:  # now, where a full disk is an error; later it is a crash
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return file


def _log_file() -> int | None:
    with contextlib.suppress(OSError):  # the run does not need a log
        return _unnamed_file()
    return None


def _unnamed_file() -> int:
    """A temporary file without a name, which is gone however the processes end."""
    with contextlib.suppress(AttributeError, OSError):  # only Linux has these, and not in every file system
        return os.open(os.environ.get("TMPDIR") or "/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
    import tempfile

    with tempfile.TemporaryFile(prefix="smolcli-") as file:
        return os.dup(file.fileno())
