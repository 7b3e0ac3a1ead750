"""Brings items to where records are made of them, in a thread of its own and never more than there is room for."""

from __future__ import annotations

from collections.abc import Iterable
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any

from smolcli.types import Item

END = object()  # comes after the last item


class Producer:
    """Puts the items of a source into `inbox`, `room` at first and one more each time there is room again.

    After the last comes END; what the source raises comes instead.
    """

    def __init__(self, inbox: SimpleQueue[Any], room: int = 0) -> None:
        self._inbox, self._room = inbox, Semaphore(room)
        self._stopped = False

    def begin(self, source: Iterable[Item]) -> None:
        """Starts the thread, which may wait for its source for ever: it does not keep the process alive."""
        Thread(target=self._run, args=(source,), daemon=True).start()

    def make_room(self) -> None:
        """Room for one more item."""
        self._room.release()

    def stop(self) -> None:
        """No more items."""
        self._stopped = True
        self._room.release()  # it may wait for room

    def _run(self, source: Iterable[Item]) -> None:
        end: Any = END
        try:
            for item in source:
                self._room.acquire()
                if self._stopped:
                    return
                self._inbox.put(item)
        except BaseException as error:  # told where the records are made
            end = error
        self._inbox.put(end)
