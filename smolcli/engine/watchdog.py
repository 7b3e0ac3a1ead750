"""The watch over time: which request takes too long, and whether the engine's process does anything at all.

It knows no clock and no process: it is told the time and what the child works on, and says what is overdue. What is
done about that is client.py's part, and who is to blame for it quarantine.py's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from smolcli.engine.progress_cells import Activity, RequestId
from smolcli.errors import ErrorKind
from smolcli.types import Fault

LOAD_SECONDS = 600.0  # most time to load a model, where the timeout of an item is shorter
IDLE_SECONDS = 10.0  # most time before the engine begins with what it was sent, where the timeout is shorter
LATE_SECONDS = 1.0  # a check that comes later than this says nothing about the engine: this process was stopped itself
CHECK_SECONDS = 1.0  # most time between two checks
# Most prompts that a model encodes together without a sign of life: the pictures of one after another, a tile each at
# least, and generation/scheduler.py puts no more than MAX_GROUP_TILES into a group.
LARGEST_GROUP = 16
# What to do about pictures that take too long to be looked at.
ADVICE_ON_FRAMES = "raise --timeout, or use fewer frames or --detail low"
ADVICE_ON_PAGES = "raise --timeout, or leave the page out with --pages"


class LoadTimeout(NamedTuple):
    """The model was not loaded within `seconds`."""

    seconds: float


class RequestTimeout(NamedTuple):
    """A request has had its time, or is the first of several replies that have all stopped."""

    request: RequestId


class IdleTimeout(NamedTuple):
    """The child was sent requests and works on none of them."""


Overdue = LoadTimeout | RequestTimeout | IdleTimeout


class Watchdog:
    """Counts the seconds of work on each request of one child after another, and says what takes too long.

    `timeout` limits the seconds of work on one item; with `per_prompt` those of each opening and each prompt, as for
    videos. Replies that the model works on at the same time share the time that passes; so do prompts about one item
    that are prepared at the same time, where they have one limit. `advice` is for prompts whose pictures take too long.
    Times are those of one monotonic clock, in seconds.

    A reply that begins at second 1 of a child and never ends, with 5 seconds for each item:

    >>> from smolcli.engine.progress_cells import Stage
    >>> watchdog = Watchdog(timeout=5.0, per_prompt=False, now=0.0)
    >>> watchdog.child_started(now=0.0)
    >>> request = RequestId(number=0, slot=0)
    >>> for second in range(1, 8):
    ...     working = Activity(Stage.IN_MODEL, pieces=second)
    ...     overdue = watchdog.check(second, {request: working}, is_loaded=True, has_requests=True)
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

    def __init__(self, timeout: float, per_prompt: bool, now: float, advice: str = ADVICE_ON_FRAMES) -> None:
        self.timeout, self._per_prompt, self._advice = timeout, per_prompt, advice
        self._next_check_at = self._last_check_at = now
        self._child_started_at: float | None = None  # None without a child
        self._last_contact_at = now  # when the child last sent something, or had nothing to do
        self._last_progress_at = now  # when a reply last began, went on or ended
        self._in_model: dict[RequestId, Activity] = {}  # at the last check
        self._active_before: frozenset[RequestId] = frozenset()  # at the last check
        self._busy_seconds: dict[RequestId, float] = {}  # of work on the requests that have begun and are not answered
        self._item_seconds: dict[int, float] = {}  # of work on an item's requests that are done

    def child_started(self, now: float) -> None:
        """Note that a new child was started, which loads the model first."""
        self._child_started_at = self._last_contact_at = now

    def child_ended(self) -> None:
        """Forget what the child has cost so far: in the next one every item begins anew."""
        self._child_started_at = None
        self._in_model, self._active_before = {}, frozenset()
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
        self._busy_seconds = {
            request: seconds for request, seconds in self._busy_seconds.items() if request.number != number
        }

    def seconds_until_check(self, now: float) -> float:
        """Seconds until the next check is due, at least 0.01."""
        return max(0.01, self._next_check_at - now)

    def is_check_due(self, now: float) -> bool:
        """Whether `check` is to be called."""
        return now >= self._next_check_at

    def check(
        self, now: float, activity: Mapping[RequestId, Activity], *, is_loaded: bool, has_requests: bool
    ) -> Overdue | None:
        """Count the time since the last check, and say what has taken too long, the first of several.

        `activity` is what the child works on; `has_requests` says whether it was sent requests that it has not
        answered.
        """
        self._discount_late_check(now)
        self._count_busy_seconds(now - self._last_check_at, activity)
        self._last_check_at, self._next_check_at = now, now + min(CHECK_SECONDS, self.timeout / 4)
        if self._child_started_at is not None and not is_loaded:
            seconds = now - self._child_started_at
            if seconds > max(self.timeout, LOAD_SECONDS):
                return LoadTimeout(seconds)
        is_stuck = self._is_stuck(now, activity)
        for request, state in activity.items():
            if self._seconds_of_work(request) > self.timeout or (is_stuck and state.is_in_model):
                return RequestTimeout(request)
        is_silent = now - self._last_contact_at > max(self.timeout, IDLE_SECONDS)
        return IdleTimeout() if is_loaded and has_requests and not activity and is_silent else None

    def timeout_fault(self, request: RequestId, has_output: bool) -> Fault:
        """What to tell the user about a request that took too long."""
        limit = f"{self.timeout:g} s"
        if self._per_prompt and not has_output:
            message = f"could not be looked at within {limit}; {self._advice}"
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
        """Add the time since the last check to the requests that were under way then and are now.

        The others keep the seconds that they have: they begin, or wait for the model after they were prepared.
        """
        sharing = Counter(self._share_of(request, state) for request, state in activity.items())
        goes_on = self._active_before & self._busy_seconds.keys()
        for request, state in activity.items():
            share = seconds / sharing[self._share_of(request, state)] if request in goes_on else 0.0
            self._busy_seconds[request] = self._busy_seconds.get(request, 0.0) + share
        self._active_before = frozenset(activity)

    def _share_of(self, request: RequestId, state: Activity) -> RequestId | int | None:
        """What names the requests that share the time that passes with this one."""
        if state.is_in_model:
            return None
        return request if self._per_prompt else request.number

    def _seconds_of_work(self, request: RequestId) -> float:
        """Seconds that count towards the timeout of a request: its own, or with them those of all its item's."""
        if self._per_prompt:
            return self._busy_seconds[request]
        under_way = sum(seconds for other, seconds in self._busy_seconds.items() if other.number == request.number)
        return self._item_seconds.get(request.number, 0.0) + under_way

    def _is_stuck(self, now: float, activity: Mapping[RequestId, Activity]) -> bool:
        """Whether no reply has gone on for as long as a single one may take, or all that may begin together."""
        in_model = {request: state for request, state in activity.items() if state.is_in_model}
        if in_model != self._in_model:
            self._in_model, self._last_progress_at = in_model, now
        beginning = sum(not state.has_output for state in in_model.values())
        return now - self._last_progress_at > self.timeout * max(1, min(beginning, LARGEST_GROUP))
