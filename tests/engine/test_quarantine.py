"""engine/quarantine.py: given how children end, which item is to blame."""

from __future__ import annotations

import pytest

from smolcli.engine.protocol import OPENING, RequestId
from smolcli.engine.quarantine import Quarantine, Verdict
from smolcli.errors import ErrorKind
from smolcli.types import Fault

A, B, C = RequestId(1, 0), RequestId(2, 0), RequestId(3, OPENING)
CRASH, TIMEOUT = Fault(ErrorKind.CRASH, "the engine crashed"), Fault(ErrorKind.TIMEOUT, "no word of an answer")


def test_suspects_are_tried_one_by_one_in_the_order_of_their_items() -> None:
    quarantine = Quarantine()
    assert all(quarantine.admits(request) for request in (A, B, C))
    assert quarantine.child_exited([B, C, A], was_loaded=True) is Verdict.RESTART
    assert list(quarantine.suspects) == [A, B, C]
    assert quarantine.admits(RequestId(1, OPENING)) and quarantine.admits(A)  # a new child has to open it first
    assert not any(quarantine.admits(request) for request in (B, C, RequestId(1, 1), RequestId(4, 0)))
    assert not quarantine.request_done(RequestId(1, OPENING))
    assert quarantine.request_done(A)
    assert not quarantine.admits(A) and quarantine.admits(B)
    assert quarantine.release(3) and list(quarantine.suspects) == [B]
    assert quarantine.request_done(B)
    assert quarantine.admits(RequestId(4, 0))
    assert not quarantine.request_done(B) and not quarantine.release(4)


def test_one_suspect_alone_is_tried_once_more_before_it_is_blamed() -> None:
    quarantine = Quarantine()
    assert quarantine.child_exited([A], was_loaded=True) is Verdict.RESTART
    assert quarantine.child_exited([A], was_loaded=True) is Verdict.FAIL_ITEM


def test_another_request_of_the_item_on_trial_is_its_doing_too() -> None:
    quarantine = Quarantine()
    quarantine.isolate([A])
    assert quarantine.child_exited([RequestId(1, OPENING)], was_loaded=True) is Verdict.FAIL_ITEM
    assert quarantine.child_exited([A, B], was_loaded=True) is Verdict.RESTART


@pytest.mark.parametrize(("active", "was_loaded"), [([A], False), ([], True), ([], False)])
def test_three_ends_in_a_row_that_no_item_explains_end_the_run(active: list[RequestId], was_loaded: bool) -> None:
    quarantine = Quarantine()
    for _ in range(2):
        assert quarantine.child_exited(active, was_loaded) is Verdict.RESTART
        assert quarantine.must_load_first
        quarantine.model_loaded()
        assert not quarantine.must_load_first
    assert quarantine.child_exited(active, was_loaded) is Verdict.END_RUN


def test_a_reply_between_unexplained_ends_lets_the_run_go_on() -> None:
    quarantine = Quarantine()
    for _ in range(5):
        assert quarantine.child_exited([], was_loaded=True) is Verdict.RESTART
        assert quarantine.child_exited([], was_loaded=False) is Verdict.RESTART
        quarantine.reply_succeeded()


def test_three_crashes_in_a_row_end_the_run_and_timeouts_do_not_count() -> None:
    quarantine = Quarantine()
    verdicts = [quarantine.item_failed(fault) for fault in (CRASH, TIMEOUT, CRASH, TIMEOUT, TIMEOUT)]
    assert verdicts == [Verdict.RESTART] * 5
    assert quarantine.item_failed(CRASH) is Verdict.END_RUN
    quarantine.reply_succeeded()
    assert quarantine.item_failed(CRASH) is Verdict.RESTART


def test_a_request_that_takes_too_long_is_blamed_unless_other_replies_may_hold_it_up() -> None:
    quarantine = Quarantine()
    assert quarantine.timed_out(C, replies=[A, B]) is Verdict.FAIL_ITEM  # nothing holds up an opening
    assert quarantine.timed_out(A, replies=[A]) is Verdict.FAIL_ITEM
    assert not quarantine.suspects
    assert quarantine.timed_out(B, replies=[B, A]) is Verdict.RESTART
    assert list(quarantine.suspects) == [A, B]
