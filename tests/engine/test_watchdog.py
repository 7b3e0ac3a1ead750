"""engine/watchdog.py: given times and what the child works on, what takes too long."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from smolcli.engine.progress_cells import OPENING, Activity, RequestId, Stage
from smolcli.engine.watchdog import IdleTimeout, LoadTimeout, Overdue, RequestTimeout, Watchdog

OPENED = Activity(Stage.OPENING)
PREPARED = Activity(Stage.PREPARING)
SPEAKING = Activity(Stage.IN_MODEL, pieces=1)
PROMPT, OTHER = RequestId(0, 0), RequestId(1, 0)


class Clock:
    """A watchdog with a timeout of 10 s that is checked every second, from second 100 on."""

    def __init__(self, per_prompt: bool = False, is_loaded: bool = True) -> None:
        self.now, self.is_loaded = 100.0, is_loaded
        self.watchdog = Watchdog(10.0, per_prompt, self.now)
        self.watchdog.child_started(self.now)
        self.pieces = 1

    def first_overdue(
        self, activity: Mapping[RequestId, Activity], seconds: int, *, makes_progress: bool = True,
        has_requests: bool = True,
    ) -> tuple[int, Overdue] | None:  # fmt: skip
        """After how many seconds something is overdue, and what; None if nothing is within `seconds`."""
        for second in range(1, seconds + 1):
            self.now += 1.0
            self.pieces += makes_progress
            now = {
                request: state._replace(pieces=self.pieces) if state.has_output else state
                for request, state in activity.items()
            }
            assert self.watchdog.is_check_due(self.now)
            overdue = self.watchdog.check(self.now, now, is_loaded=self.is_loaded, has_requests=has_requests)
            if overdue is not None:
                return second, overdue
        return None


def test_the_time_of_a_request_begins_with_the_first_check_that_sees_it() -> None:
    assert Clock().first_overdue({PROMPT: SPEAKING}, 20) == (12, RequestTimeout(PROMPT))
    assert Clock().first_overdue({RequestId(3, OPENING): OPENED}, 20) == (12, RequestTimeout(RequestId(3, OPENING)))


def test_replies_at_the_same_time_share_it_and_openings_do_not() -> None:
    assert Clock().first_overdue({PROMPT: SPEAKING, OTHER: SPEAKING}, 30) == (22, RequestTimeout(PROMPT))
    opening = RequestId(2, OPENING)
    overdue = Clock().first_overdue({PROMPT: SPEAKING, OTHER: SPEAKING, opening: OPENED}, 30)
    assert overdue == (12, RequestTimeout(opening))


def test_an_item_has_one_limit_for_all_its_requests_unless_each_prompt_has_its_own() -> None:
    for per_prompt, second in ((False, 6), (True, 12)):
        clock = Clock(per_prompt)
        assert clock.first_overdue({PROMPT: SPEAKING}, 7) is None  # 6 seconds of work
        clock.watchdog.request_done(PROMPT)
        following = RequestId(0, 1)
        assert clock.first_overdue({following: SPEAKING}, 20) == (second, RequestTimeout(following))


def test_an_item_begins_anew_when_it_is_released_or_the_child_is_replaced() -> None:
    clock = Clock()
    assert clock.first_overdue({PROMPT: SPEAKING}, 9) is None
    clock.watchdog.request_done(PROMPT)
    clock.watchdog.release(0)
    assert clock.first_overdue({PROMPT: SPEAKING}, 20) == (12, RequestTimeout(PROMPT))
    clock.watchdog.child_ended()
    clock.watchdog.child_started(clock.now)
    assert clock.first_overdue({PROMPT: SPEAKING}, 20) == (12, RequestTimeout(PROMPT))


def test_replies_that_all_stop_are_overdue_after_the_time_of_one() -> None:
    both = {PROMPT: SPEAKING, OTHER: SPEAKING}
    assert Clock().first_overdue(both, 30, makes_progress=False) == (12, RequestTimeout(PROMPT))


@pytest.mark.parametrize(("prompts", "seconds"), [(1, 12), (4, 42), (16, 162), (64, 162)])
def test_prompts_whose_pictures_are_encoded_together_have_the_time_of_each(prompts: int, seconds: int) -> None:
    """As on a CPU, where nothing is seen of them until the last one is encoded; 16 are the most that are together."""
    group = {RequestId(number, 0): Activity(Stage.IN_MODEL) for number in range(prompts)}
    assert Clock().first_overdue(group, 200) == (seconds, RequestTimeout(PROMPT))


def test_what_goes_on_beside_replies_that_all_stop_does_not_hide_it() -> None:
    clock, both = Clock(), {PROMPT: SPEAKING, OTHER: SPEAKING}
    overdue = [
        clock.first_overdue({RequestId(number, OPENING): OPENED, **both}, 1, makes_progress=False)
        for number in range(2, 20)  # items are opened all the time
    ]
    assert [place for place, each in enumerate(overdue, 1) if each] == [12, 13, 14, 15, 16, 17, 18]
    assert overdue[11] == (1, RequestTimeout(PROMPT))


def test_a_prompt_that_is_prepared_beside_replies_that_have_stopped_is_not_overdue() -> None:
    clock = Clock(per_prompt=True)
    assert clock.first_overdue({OTHER: SPEAKING}, 8, makes_progress=False) is None
    both = {PROMPT: PREPARED, OTHER: SPEAKING}
    assert clock.first_overdue(both, 20, makes_progress=False) == (4, RequestTimeout(OTHER))


def test_preparing_a_prompt_has_its_time_and_takes_none_from_a_reply() -> None:
    assert Clock().first_overdue({PROMPT: PREPARED}, 20) == (12, RequestTimeout(PROMPT))
    film = Clock(per_prompt=True)
    following = RequestId(0, 1)
    assert film.first_overdue({PROMPT: SPEAKING, following: PREPARED}, 11) is None
    assert film.first_overdue({PROMPT: SPEAKING}, 1) == (1, RequestTimeout(PROMPT))
    shared = Clock(per_prompt=True)
    assert shared.first_overdue({PROMPT: SPEAKING, following: SPEAKING}, 20) is None


def test_prompts_about_one_item_that_are_prepared_at_the_same_time_share_its_limit() -> None:
    eight = {RequestId(0, slot): PREPARED for slot in range(8)}
    assert Clock().first_overdue(eight, 20) == (12, RequestTimeout(PROMPT))
    assert Clock(per_prompt=True).first_overdue(eight, 20) == (12, RequestTimeout(PROMPT))


@pytest.mark.parametrize("per_prompt", [False, True])
def test_the_time_of_a_prompt_is_kept_while_it_waits_for_the_model(per_prompt: bool) -> None:
    clock = Clock(per_prompt)
    assert clock.first_overdue({PROMPT: PREPARED}, 7) is None  # 6 seconds of work
    assert clock.first_overdue({}, 3) is None
    assert clock.first_overdue({PROMPT: SPEAKING}, 20) == (6, RequestTimeout(PROMPT))
    clock = Clock(per_prompt)
    assert clock.first_overdue({PROMPT: PREPARED}, 7) is None
    assert clock.first_overdue({}, 1) is None
    clock.watchdog.release(0)
    assert clock.first_overdue({PROMPT: SPEAKING}, 20) == (12, RequestTimeout(PROMPT))


def test_a_model_that_has_nothing_to_do_is_not_stuck() -> None:
    clock = Clock(per_prompt=True)
    assert clock.first_overdue({PROMPT: SPEAKING}, 9, makes_progress=False) is None
    clock.watchdog.request_done(PROMPT)
    assert clock.first_overdue({}, 100, has_requests=False) is None
    assert clock.first_overdue({OTHER: SPEAKING}, 9, makes_progress=False) is None


def test_a_model_has_600_seconds_to_load() -> None:
    assert Clock(is_loaded=False).first_overdue({}, 700) == (601, LoadTimeout(601.0))


def test_a_child_that_works_on_nothing_it_was_sent_is_overdue() -> None:
    assert Clock().first_overdue({}, 30) == (11, IdleTimeout())
    assert Clock().first_overdue({}, 100, has_requests=False) is None
    clock = Clock()
    assert clock.first_overdue({}, 9) is None
    clock.watchdog.note_contact(clock.now)
    assert clock.first_overdue({}, 30) == (11, IdleTimeout())


def test_time_between_a_late_check_and_the_one_before_is_not_counted() -> None:
    clock = Clock()
    assert clock.first_overdue({PROMPT: SPEAKING}, 9) is None
    clock.now += 3600  # this process was stopped
    assert clock.first_overdue({PROMPT: SPEAKING}, 20) == (4, RequestTimeout(PROMPT))
    loading = Clock(is_loaded=False)
    assert loading.first_overdue({}, 300) is None
    loading.now += 3600
    assert loading.first_overdue({}, 400) == (301, LoadTimeout(601.0))


def test_checks_are_due_every_second_or_four_times_within_a_shorter_timeout() -> None:
    for timeout, seconds in ((10.0, 1.0), (0.4, 0.1)):
        watchdog = Watchdog(timeout, False, now=0.0)
        watchdog.check(0.0, {}, is_loaded=True, has_requests=False)
        assert watchdog.seconds_until_check(0.0) == seconds
        assert not watchdog.is_check_due(seconds / 2) and watchdog.is_check_due(seconds)
        assert watchdog.seconds_until_check(60.0) == 0.01


@pytest.mark.parametrize(
    ("request_id", "has_output", "per_prompt", "message"),
    [
        (PROMPT, False, False, "no word of an answer within 10 s; "),
        (PROMPT, True, False, "the answer had no end within 10 s; "),
        (RequestId(0, OPENING), False, False, "could not be opened within 10 s; "),
        (RequestId(0, OPENING), False, True, "could not be looked at within 10 s; "),
        (PROMPT, False, True, "could not be looked at within 10 s; "),
        (PROMPT, True, True, "the answer had no end within 10 s; "),
    ],
)
def test_the_fault_says_what_took_too_long(
    request_id: RequestId, has_output: bool, per_prompt: bool, message: str
) -> None:
    fault = Watchdog(10.0, per_prompt, 0.0).timeout_fault(request_id, has_output)
    assert fault.kind == "timeout" and fault.message.startswith(message)
