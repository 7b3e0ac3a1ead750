"""Reads the items of a source in a thread of its own, no more of them ahead than it has permits for."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Semaphore, Thread

from smolcli.process.inbox import Inbox
from smolcli.types import Item


class EndOfItems:
    """Comes after the last item."""


class Producer:
    """Puts the items of a source into `inbox`: as many as it has permits for, one more for each permit it is given.

    After the last item comes EndOfItems, or instead of it the exception that the source raised.
    """

    def __init__(self, inbox: Inbox[Item | EndOfItems | BaseException], permits: int = 0) -> None:
        self._inbox, self._permits = inbox, Semaphore(permits)
        self._is_stopped = False

    def start(self, source: Iterable[Item]) -> None:
        """Start the thread. It may wait for its source without end, so it does not keep the process alive."""
        Thread(target=self._run, args=(source,), daemon=True).start()

    def add_permits(self, number: int = 1) -> None:
        """Permit so many more items to be read."""
        if number:  # a semaphore refuses 0
            self._permits.release(number)

    def stop(self) -> None:
        """Read no more items."""
        self._is_stopped = True
        self._permits.release()  # the thread may wait for one

    def _run(self, source: Iterable[Item]) -> None:
        end: EndOfItems | BaseException = EndOfItems()
        try:
            for item in source:
                self._permits.acquire()
                if self._is_stopped:
                    return
                self._inbox.put(item)
        except BaseException as error:  # raised again where the records are made
            end = error
        self._inbox.put(end)
