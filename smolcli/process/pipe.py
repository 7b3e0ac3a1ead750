"""The pipe between two processes of smolcli: pickled values, each way."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import threading
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from smolcli.errors import EngineError, SmolError


class PeerClosed(Exception):
    """The process at the other end of the pipe has ended."""


class Pipe:
    """One end of the pipe, made of two file descriptors; `shared` are integers of 64 bits that both processes see.

    When the other process has ended, `send` and `receive` raise PeerClosed, whatever the system calls it.
    """

    def __init__(self, incoming: int, outgoing: int, shared: memoryview[int]) -> None:
        self._incoming, self._outgoing, self.shared = os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"), shared
        self._sending = threading.Lock()  # several threads of the engine send
        self._posted: SimpleQueue[bytes | None] | None = None  # pickled values for the thread that sends them
        self._unsent = 0  # how many of them were not sent yet
        self._counting = threading.Lock()  # guards the number

    def send(self, value: object) -> None:
        """Send a value, from any thread; wait until the other process has room for it."""
        self._write(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))

    def post(self, value: object) -> None:
        """Send a value without waiting for the other process, after those that were posted before. From one thread.

        A value for which the pipe has no room now is sent by a thread of this pipe: a process that reads nothing holds
        up only that thread. Where it has ended, what is posted is lost.
        """
        message = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if not self._unsent and self._has_room(len(message)):
            with contextlib.suppress(PeerClosed):
                self._write(message)  # waking a thread would take three times as long
            return
        if self._posted is None:
            self._posted = SimpleQueue()
            threading.Thread(target=self._send_posted, args=(self._posted,), daemon=True).start()
        with self._counting:
            self._unsent += 1
        self._posted.put(message)

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes can be written without waiting: a pipe that is ready takes PIPE_BUF bytes (POSIX)."""
        if size > select.PIPE_BUF or self._outgoing.closed:
            return False
        return bool(select.select([], [self._outgoing], [], 0)[1])

    def _send_posted(self, posted: SimpleQueue[bytes | None]) -> None:
        with contextlib.suppress(PeerClosed):
            while (message := posted.get()) is not None:
                self._write(message)
                with self._counting:
                    self._unsent -= 1

    def _write(self, message: bytes) -> None:
        try:
            with self._sending:
                self._outgoing.write(message)
                self._outgoing.flush()
        except (OSError, ValueError):  # ValueError where this end is closed
            raise PeerClosed from None

    def receive(self) -> Any:
        """Wait for the next value, from one thread at a time. What it is, the two ends have agreed on."""
        if self._incoming.closed:
            raise PeerClosed
        try:
            return pickle.load(self._incoming)
        except (EOFError, OSError, pickle.UnpicklingError):  # UnpicklingError where only part of a value came
            raise PeerClosed from None

    def poll(self, seconds: float) -> bool:
        """Whether the first value, or the end of the other process, comes within so many seconds."""
        return bool(select.select([self._incoming], [], [], seconds)[0])

    def close(self) -> None:
        """Close this end; what was not sent is lost."""
        if self._posted is not None:
            self._posted.put(None)
        for file in (self._outgoing, self._incoming):
            with contextlib.suppress(OSError):  # closing flushes, and the other process may have ended
                file.close()


# ---- what process/worker_main.py sends of the function that a child process runs ------------------------


@dataclass(frozen=True)
class FunctionReturned:
    """The value that the function has returned."""

    value: Any


@dataclass(frozen=True)
class FunctionYielded:
    """Values that the generator function has yielded, in order; none once it has ended."""

    values: list[Any]


@dataclass(frozen=True)
class FunctionFailed:
    """The error that has ended the function; the child sends nothing after it."""

    error: SmolError


def picklable_error(error: SmolError) -> SmolError:
    """Return the error itself, or if it would not arrive in another process, an EngineError with its text and kind."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever the fields of an error that is not one of smolcli's own raise
        return EngineError(error.what, error.advice, kind=error.kind)
    return error
