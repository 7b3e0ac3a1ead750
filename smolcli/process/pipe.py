"""The pipe between two processes of smolcli."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import threading
from typing import Any


class PeerClosed(Exception):
    """The process at the other end of the pipe has ended."""


class Pipe:
    """What goes between two processes; its end is `Gone`, whatever the system calls it.

    `shared` are the numbers that both see.
    """

    def __init__(self, incoming: int, outgoing: int, shared: memoryview) -> None:
        self._incoming, self._outgoing, self.shared = os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"), shared
        self._sending = threading.Lock()  # several threads of the engine send

    def send(self, value: Any) -> None:
        message = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        try:
            with self._sending:
                self._outgoing.write(message)
                self._outgoing.flush()
        except (OSError, ValueError):  # the second for one that is closed here
            raise PeerClosed from None

    def receive(self) -> Any:
        if self._incoming.closed:
            raise PeerClosed
        try:
            return pickle.load(self._incoming)
        except (EOFError, OSError, pickle.UnpicklingError):  # the last for a message of which a part came
            raise PeerClosed from None

    def comes(self, seconds: float) -> bool:
        """Whether the first message, or the end, comes within so many seconds."""
        return bool(select.select([self._incoming], [], [], seconds)[0])

    def close(self) -> None:
        for file in (self._outgoing, self._incoming):
            with contextlib.suppress(OSError):  # what was not sent has nobody to go to
                file.close()
