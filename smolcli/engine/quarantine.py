"""Who is to blame when the engine's process ends: suspects are tried alone, and crashes in a row are counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from enum import Enum

from smolcli.engine.protocol import OPENING, RequestId
from smolcli.errors import ErrorKind
from smolcli.types import Fault

CRASHES = 3  # in a row, with no answer between them, end the run


class Verdict(Enum):
    """What follows from the end of a child."""

    FAIL_ITEM = "the item has done it: it fails, and the others go on in a new child"
    RESTART = "a new child goes on; suspects, if there are any, are tried in it one by one"
    END_RUN = "too many children have ended"


class Quarantine:
    """Decides which item ended a child, and whether the run goes on.

    When a child ends, every request that it was working on is a suspect: the kernel may have killed it for the memory
    that another one took. The suspects are sent to the next child one by one; the item of the one with which it ends
    again has failed.

    Items 4 and 5 were under way when the child ended. Item 4 is answered when it is tried alone, item 5 is not:

    >>> quarantine = Quarantine()
    >>> both = [RequestId(4, 0), RequestId(5, 0)]
    >>> quarantine.child_exited(both, was_loaded=True).name
    'RESTART'
    >>> [quarantine.admits(request) for request in both]
    [True, False]
    >>> quarantine.request_done(RequestId(4, 0))
    True
    >>> quarantine.admits(RequestId(5, OPENING)), quarantine.admits(RequestId(5, 0)), quarantine.admits(RequestId(6, 0))
    (True, True, False)
    >>> quarantine.child_exited([RequestId(5, 0)], was_loaded=True).name
    'FAIL_ITEM'
    """

    def __init__(self) -> None:
        self.suspects: deque[RequestId] = deque()  # to be tried one by one; the first is being tried
        self.must_load_first = False  # whether nothing may be opened before the model is loaded
        self._crashes = 0  # in a row, each blamed on one item
        self._unexplained_ends = 0  # of children, in a row, that no item is to blame for

    def admits(self, request: RequestId) -> bool:
        """Whether a request may be sent now: any, but while suspects are tried only the first and its opening."""
        if not self.suspects:
            return True
        suspect = self.suspects[0]
        return request in (suspect, RequestId(suspect.number, OPENING))

    def isolate(self, requests: Iterable[RequestId]) -> None:
        """Have these requests tried one by one, in this order."""
        self.suspects = deque(requests)

    def request_done(self, request: RequestId) -> bool:
        """Acquit the suspect that is being tried, if it is this one. Returns whether other requests may be sent now."""
        if not self.suspects or self.suspects[0] != request:
            return False
        self.suspects.popleft()
        return True

    def release(self, number: int) -> bool:
        """Drop the suspects of an item that is done. Returns whether other requests may be sent now."""
        others = [suspect for suspect in self.suspects if suspect.number != number]
        has_changed = len(others) < len(self.suspects)
        if has_changed:
            self.isolate(others)
        return has_changed

    def model_loaded(self) -> None:
        """Note that a child has loaded the model."""
        self.must_load_first = False

    def reply_succeeded(self) -> None:
        """Begin to count anew: what ended children before did not keep the engine from answering."""
        self._crashes = self._unexplained_ends = 0

    def child_exited(self, active: Collection[RequestId], was_loaded: bool) -> Verdict:
        """Judge the end of a child that was working on `active` requests, and had loaded the model or not.

        With FAIL_ITEM they are all of one item, the one to blame.
        """
        if was_loaded and self.suspects and {request.number for request in active} == {self.suspects[0].number}:
            return Verdict.FAIL_ITEM
        if not was_loaded or not active:  # it ended while the model was loaded, or between two requests
            self.must_load_first = True
            self._unexplained_ends += 1
            if self._unexplained_ends == CRASHES:
                return Verdict.END_RUN
        self.isolate(sorted(active))
        return Verdict.RESTART

    def timed_out(self, request: RequestId, replies: Collection[RequestId]) -> Verdict:
        """Judge a request that took too long; `replies` are the prompts that the child was working on.

        Of several replies any one may have held up the others: they are tried one by one.
        """
        if request.is_opening or len(replies) == 1:
            return Verdict.FAIL_ITEM
        self.isolate(sorted(replies))
        return Verdict.RESTART

    def item_failed(self, fault: Fault) -> Verdict:
        """Count an item that failed. Returns RESTART, or END_RUN after too many crashes in a row."""
        self._crashes += fault.kind != ErrorKind.TIMEOUT  # a slow item says nothing about the next one
        return Verdict.END_RUN if self._crashes >= CRASHES else Verdict.RESTART
