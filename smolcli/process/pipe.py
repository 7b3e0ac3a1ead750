"""The pipe between two processes of smolcli: pickled values, each way."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import threading
from typing import Any

from smolcli.errors import ErrorKind

ErrorParts = tuple[str, str, str, ErrorKind]  # a SmolError as it is sent: its class's name, message, advice, kind


class PeerClosed(Exception):
    """The process at the other end of the pipe has ended."""


class Pipe:
    """One end of the pipe, made of two file descriptors; `shared` are integers of 64 bits that both processes see.

    When the other process has ended, `send` and `receive` raise PeerClosed, whatever the system calls it.
    """

    def __init__(self, incoming: int, outgoing: int, shared: memoryview[int]) -> None:
        self._incoming, self._outgoing, self.shared = os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"), shared
        self._sending = threading.Lock()  # several threads of the engine send

    def send(self, value: object) -> None:
        """Send a value, from any thread."""
        message = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
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
        for file in (self._outgoing, self._incoming):
            with contextlib.suppress(OSError):  # closing flushes, and the other process may have ended
                file.close()
