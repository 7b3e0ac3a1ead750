"""engine/quarantine.py: given how children end, which item is to blame."""

from __future__ import annotations

import pytest

from smolcli.engine.progress_cells import OPENING, RequestId
from smolcli.engine.quarantine import GoOn, Quarantine, RequestFails, RunEnds

A, B, C = RequestId(1, 0), RequestId(2, 0), RequestId(3, OPENING)


def blame(quarantine: Quarantine, request: RequestId) -> object:
    """A child ends with one request, and again when it is tried alone."""
    assert quarantine.child_exited([request], was_loaded=True) == GoOn()
    return quarantine.child_exited([request], was_loaded=True)


def test_suspects_are_tried_one_by_one_in_the_order_of_their_items() -> None:
    quarantine = Quarantine()
    assert all(quarantine.admits(request) for request in (A, B, C))
    assert quarantine.child_exited([B, C, A], was_loaded=True) == GoOn()
    assert quarantine.suspects == [A, B, C]
    assert quarantine.admits(RequestId(1, OPENING)) and quarantine.admits(A)  # a new child has to open it first
    assert not any(quarantine.admits(request) for request in (B, C, RequestId(1, 1), RequestId(4, 0)))
    assert not quarantine.request_done(RequestId(1, OPENING))
    assert quarantine.request_done(A)
    assert not quarantine.admits(A) and quarantine.admits(B)
    assert quarantine.release(3) and quarantine.suspects == [B]
    assert quarantine.request_done(B)
    assert quarantine.admits(RequestId(4, 0))
    assert not quarantine.request_done(B) and not quarantine.release(4)


def test_one_suspect_alone_is_tried_once_more_before_it_is_blamed() -> None:
    assert blame(Quarantine(), A) == RequestFails(A)


def test_other_suspects_of_an_item_are_tried_unless_it_is_released() -> None:
    quarantine = Quarantine()
    quarantine.child_exited([A, RequestId(1, 1), B], was_loaded=True)
    assert quarantine.child_exited([A], was_loaded=True) == RequestFails(A)
    assert quarantine.suspects == [RequestId(1, 1), B]
    assert quarantine.release(1)
    assert quarantine.suspects == [B]


def test_another_request_of_the_item_on_trial_is_its_doing_too() -> None:
    quarantine = Quarantine()
    quarantine.child_exited([A], was_loaded=True)
    opening = RequestId(1, OPENING)
    assert quarantine.child_exited([A, opening], was_loaded=True, read_files=True) == RequestFails(opening)
    quarantine.request_done(A)
    quarantine.child_exited([A], was_loaded=True)
    assert quarantine.child_exited([A, B], was_loaded=True) == GoOn()


@pytest.mark.parametrize("was_loaded", [True, False])
def test_suspects_stay_when_a_child_ends_before_the_one_on_trial_was_begun(was_loaded: bool) -> None:
    quarantine = Quarantine()
    quarantine.child_exited([A, B], was_loaded=True)
    assert quarantine.child_exited([], was_loaded) == GoOn()
    assert quarantine.suspects == [A, B]
    assert not quarantine.admits(A, is_loaded=False) and quarantine.admits(A) and not quarantine.admits(B)


def test_opening_the_item_on_trial_before_the_model_is_loaded_does_not_prove_anything() -> None:
    quarantine = Quarantine()
    quarantine.child_exited([A, B], was_loaded=True)
    opening = RequestId(1, OPENING)
    assert quarantine.child_exited([opening], was_loaded=False) == GoOn()
    assert quarantine.suspects == [opening, A, B]
    quarantine.model_loaded()
    assert quarantine.child_exited([opening], was_loaded=True, read_files=True) == RequestFails(opening)
    assert quarantine.suspects == [A, B]


@pytest.mark.parametrize(("active", "was_loaded"), [([A], False), ([], True), ([], False)])
def test_three_ends_in_a_row_that_no_item_explains_end_the_run(active: list[RequestId], was_loaded: bool) -> None:
    quarantine = Quarantine()
    for _ in range(2):
        assert quarantine.child_exited(active, was_loaded) == GoOn()
        assert not quarantine.admits(A, is_loaded=False)  # nothing is sent before the model is loaded
        quarantine.model_loaded()
        assert quarantine.admits(A, is_loaded=False)
    assert quarantine.child_exited(active, was_loaded) == RunEnds()


def test_a_reply_between_unexplained_ends_lets_the_run_go_on() -> None:
    quarantine = Quarantine()
    for _ in range(5):
        assert quarantine.child_exited([], was_loaded=True) == GoOn()
        assert quarantine.child_exited([], was_loaded=False) == GoOn()
        quarantine.reply_succeeded()


def test_three_crashes_in_a_row_end_the_run_and_timeouts_do_not_count() -> None:
    quarantine = Quarantine()
    for number in (1, 2):
        assert blame(quarantine, RequestId(number, 0)) == RequestFails(RequestId(number, 0))
        assert quarantine.timed_out(B, prompts=[B]) == RequestFails(B)
    assert blame(quarantine, RequestId(3, 0)) == RequestFails(RequestId(3, 0), ends_run=True)
    quarantine.reply_succeeded()
    assert blame(quarantine, RequestId(4, 0)) == RequestFails(RequestId(4, 0))


def test_damaged_files_that_end_the_child_while_they_are_opened_do_not_end_the_run() -> None:
    """Of four neighbors that were being opened, three are damaged; nothing is answered between their trials."""
    quarantine = Quarantine()
    openings = [RequestId(number, OPENING) for number in range(4)]
    assert quarantine.child_exited(openings, was_loaded=True) == GoOn()
    assert quarantine.child_exited([openings[0]], was_loaded=True, read_files=True) == RequestFails(openings[0])
    assert quarantine.request_done(openings[1])
    assert quarantine.child_exited([openings[2]], was_loaded=True, read_files=True) == RequestFails(openings[2])
    assert quarantine.child_exited([openings[3]], was_loaded=True, read_files=True) == RequestFails(openings[3])
    for number in (1, 2):
        assert blame(quarantine, RequestId(number, 0)) == RequestFails(RequestId(number, 0))
    assert blame(quarantine, RequestId(3, 0)) == RequestFails(RequestId(3, 0), ends_run=True)


def test_a_request_that_takes_too_long_is_blamed_unless_other_replies_may_hold_it_up() -> None:
    quarantine = Quarantine()
    assert quarantine.timed_out(C, prompts=[A, B]) == RequestFails(C)  # nothing holds up an opening
    assert quarantine.timed_out(A, prompts=[A]) == RequestFails(A)
    assert not quarantine.suspects
    assert quarantine.timed_out(B, prompts=[B, A]) == GoOn()
    assert quarantine.suspects == [A, B]
