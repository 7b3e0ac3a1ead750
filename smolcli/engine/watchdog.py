"""The watch over time: which request takes too long, and whether the engine's process does anything at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from smolcli.engine.protocol import Activity, RequestId
from smolcli.errors import ErrorKind
from smolcli.types import Fault

LOAD_SECONDS = 600.0  # most time to load a model, where the timeout of an item is shorter
IDLE_SECONDS = 10.0  # most time before the engine begins with what it was sent, where the timeout is shorter
LATE_SECONDS = 1.0  # a check that comes later than this says nothing about the engine: this process was stopped itself
CHECK_SECONDS = 1.0  # most time between two checks


class LoadTimeout(NamedTuple):
    """The model was not loaded within `seconds`."""

    seconds: float


class RequestTimeout(NamedTuple):
    """A request has had its time, or is one of several replies that have all stopped."""

    request: RequestId


class IdleTimeout(NamedTuple):
    """The child was sent requests and works on none of them."""


Overdue = LoadTimeout | RequestTimeout | IdleTimeout


class Watchdog:
    """Counts the seconds of work on each request of one child after another, and says what takes too long.

    `timeout` limits the seconds of work on one item; with `per_prompt` those of each opening and each prompt, as for
    videos. Replies that the model works on at the same time share the time that passes. Times are those of one
    monotonic clock, in seconds.

    A reply that begins at second 1 of a child and never ends, with 5 seconds for each item:

    >>> watchdog = Watchdog(timeout=5.0, per_prompt=False, now=0.0)
    >>> watchdog.child_started(now=0.0)
    >>> request, working = RequestId(number=0, slot=0), Activity(is_in_model=True, has_output=True)
    >>> for second in range(1, 8):
    ...     overdue = watchdog.check(second, {request: working}, (second,), is_loaded=True, has_requests=True)
    ...     print(second, overdue and overdue.request)
    1 None
    2 None
    3 None
    4 None
    5 None
    6 None
    7 RequestId(number=0, slot=0)
    >>> watchdog.timeout_fault(request, has_output=True).message
    'the answer had no end within 5 s; lower --max-tokens or raise --timeout'
    """

    def __init__(self, timeout: float, per_prompt: bool, now: float) -> None:
        self.timeout, self._per_prompt = timeout, per_prompt
        self._next_check_at = self._last_check_at = now
        self._child_started_at: float | None = None  # None without a child
        self._last_contact_at = now  # when the child last sent something, or had nothing to do
        self._last_progress_at = now  # when the progress cells last changed
        self._cell_values: tuple[int, ...] = ()  # as the last check found them
        self._busy_seconds: dict[RequestId, float] = {}  # of work on the requests that are under way
        self._item_seconds: dict[int, float] = {}  # of work on an item's requests that are done

    def child_started(self, now: float) -> None:
        """Note that a new child was started, which loads the model first."""
        self._child_started_at = self._last_contact_at = now

    def child_ended(self) -> None:
        """Forget what the child has cost so far: in the next one every item begins anew."""
        self._child_started_at = None
        self._last_progress_at, self._cell_values = 0.0, ()
        self._busy_seconds, self._item_seconds = {}, {}

    def note_contact(self, now: float) -> None:
        """Note that the child has sent something, or that it had nothing to do until now."""
        self._last_contact_at = now

    def request_done(self, request: RequestId) -> None:
        """Count the seconds of a request that was answered to those of its item."""
        spent = self._item_seconds.get(request.number, 0.0)
        self._item_seconds[request.number] = spent + self._busy_seconds.pop(request, 0.0)

    def release(self, number: int) -> None:
        """Forget an item that is done."""
        self._item_seconds.pop(number, None)

    def seconds_until_check(self, now: float) -> float:
        """Seconds until the next check is due, at least 0.01."""
        return max(0.01, self._next_check_at - now)

    def is_check_due(self, now: float) -> bool:
        """Whether `check` is to be called."""
        return now >= self._next_check_at

    def check(
        self, now: float, activity: Mapping[RequestId, Activity], cell_values: tuple[int, ...], *, is_loaded: bool,
        has_requests: bool,
    ) -> Overdue | None:  # fmt: skip
        """Count the time since the last check, and say what has taken too long, the first of several.

        `activity` is what the child works on, `cell_values` all values of its progress cells; `has_requests` says
        whether it was sent requests that it has not answered.
        """
        self._discount_late_check(now)
        self._count_busy_seconds(now - self._last_check_at, activity)
        self._last_check_at, self._next_check_at = now, now + min(CHECK_SECONDS, self.timeout / 4)
        if self._child_started_at is not None and not is_loaded:
            seconds = now - self._child_started_at
            if seconds > max(self.timeout, LOAD_SECONDS):
                return LoadTimeout(seconds)
        is_stuck = self._is_stuck(now, cell_values)
        for request in activity:
            if self._seconds_of_work(request) > self.timeout or (is_stuck and not request.is_opening):
                return RequestTimeout(request)
        is_silent = now - self._last_contact_at > max(self.timeout, IDLE_SECONDS)
        return IdleTimeout() if is_loaded and has_requests and not activity and is_silent else None

    def timeout_fault(self, request: RequestId, has_output: bool) -> Fault:
        """What to tell the user about a request that took too long."""
        limit = f"{self.timeout:g} s"
        if self._per_prompt and not has_output:
            message = f"could not be looked at within {limit}; raise --timeout, or use fewer --frames"
        elif request.is_opening:
            message = f"could not be opened within {limit}; is its disk or server there? else raise --timeout"
        elif has_output:
            message = f"the answer had no end within {limit}; lower --max-tokens or raise --timeout"
        else:
            message = f"no word of an answer within {limit}; use --detail low or raise --timeout"
        return Fault(ErrorKind.TIMEOUT, message)

    def _discount_late_check(self, now: float) -> None:
        """Do not count the time in which this process was stopped, or nobody read what it writes."""
        late = now - self._next_check_at
        if late > LATE_SECONDS:
            self._last_check_at = self._last_contact_at = self._last_progress_at = now
            if self._child_started_at is not None:
                self._child_started_at += late

    def _count_busy_seconds(self, seconds: float, activity: Mapping[RequestId, Activity]) -> None:
        """Add the time since the last check to the requests under way; one that is new begins with 0."""
        before = self._busy_seconds
        in_model = sum(state.is_in_model for state in activity.values())
        self._busy_seconds = {
            request: before[request] + seconds / (in_model if state.is_in_model else 1) if request in before else 0.0
            for request, state in activity.items()
        }

    def _seconds_of_work(self, request: RequestId) -> float:
        """Seconds that count towards the timeout of a request: its own, or with them those of all its item's."""
        if self._per_prompt:
            return self._busy_seconds[request]
        under_way = sum(seconds for other, seconds in self._busy_seconds.items() if other.number == request.number)
        return self._item_seconds.get(request.number, 0.0) + under_way

    def _is_stuck(self, now: float, cell_values: tuple[int, ...]) -> bool:
        """Whether no reply has gone on for as long as a single one may take."""
        if cell_values != self._cell_values:
            self._cell_values, self._last_progress_at = cell_values, now
        return now - self._last_progress_at > self.timeout
