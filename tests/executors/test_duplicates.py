"""executors/duplicates.py: of several items of one content one is asked about, and the others get what it gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smolcli.executors.duplicates import AskModel, Duplicates, OpenItem, Wait
from smolcli.types import Record, Seconds
from tests.helpers import BAD, RECORD

CAT, DOG = "ca" * 32, "d0" * 32


def item(number: int, id: str = CAT) -> OpenItem:
    return OpenItem(number, f"{number}.png", None, id, f"stamp {number}", Seconds(media=number / 10))


def answer(number: int) -> Record:
    """The record of an item that the model was asked about."""
    return replace(RECORD, path=f"{number}.png", stamp=f"stamp {number}", text=f"answer {number}", confidence=0.5)


def copied(number: int, from_number: int) -> Record:
    """What an item has whose content was answered: its own name, stamp and time, and the rest of the other's."""
    return replace(
        answer(from_number), path=f"{number}.png", stamp=f"stamp {number}", seconds=Seconds(media=number / 10)
    )


def failure(number: int) -> Record:
    return replace(BAD, path=f"{number}.png")


@pytest.fixture
def three() -> Duplicates:
    """Items 1, 2 and 3 have one content, of which 1 is asked about; item 4 has another."""
    duplicates = Duplicates()
    assert [duplicates.claim(item(number)) for number in (1, 2, 3)] == [AskModel(), Wait(), Wait()]
    assert duplicates.claim(item(4, DOG)) == AskModel()
    return duplicates


def test_those_that_wait_get_a_copy_with_their_own_name_stamp_and_seconds(three: Duplicates) -> None:
    assert three.finish(4, answer(4)) == []
    assert three.finish(1, answer(1)) == [(2, copied(2, 1)), (3, copied(3, 1))]


def test_an_item_that_comes_before_the_answer_is_given_out_gets_a_copy_at_once(three: Duplicates) -> None:
    three.finish(1, answer(1))
    assert three.claim(item(5)) == copied(5, 1)
    three.forget(1)
    assert three.claim(item(6)) == AskModel()  # where the answer is then, its owner looks first


def test_after_a_failure_the_next_one_is_asked_about_and_the_others_wait_for_it(three: Duplicates) -> None:
    assert three.finish(1, failure(1)) == [(2, AskModel())]
    assert three.claim(item(5)) == Wait()
    assert three.finish(2, failure(2)) == [(3, AskModel())]
    assert three.finish(3, answer(3)) == [(5, copied(5, 3))]


def test_a_failure_that_nobody_waits_for_is_not_kept(three: Duplicates) -> None:
    assert three.finish(4, failure(4)) == []
    assert three.claim(item(5, DOG)) == AskModel()


def test_an_item_that_is_left_out_hands_over_or_waits_no_more(three: Duplicates) -> None:
    assert three.drop(2) == []
    assert three.drop(1) == [(3, AskModel())]
    assert three.drop(3) == []
    assert three.claim(item(5)) == AskModel()
    assert three.drop(99) == []  # never came


def test_one_that_waits_and_fails_changes_nothing_for_the_others(three: Duplicates) -> None:
    assert three.finish(2, failure(2)) == []
    assert three.finish(1, answer(1)) == [(3, copied(3, 1))]


def test_the_lowest_number_is_next_in_whatever_order_they_came() -> None:
    duplicates = Duplicates()
    assert [duplicates.claim(item(number)) for number in (9, 7, 3, 5)] == [AskModel(), Wait(), Wait(), Wait()]
    assert duplicates.drop(9) == [(3, AskModel())]


def test_an_item_whose_worker_has_died_is_asked_about_again_and_the_others_still_wait(three: Duplicates) -> None:
    assert three.reopen(item(1)) == []
    assert three.claim(item(1)) == AskModel()
    assert three.finish(1, answer(1)) == [(2, copied(2, 1)), (3, copied(3, 1))]


def test_an_item_that_has_changed_when_it_is_opened_again_hands_over(three: Duplicates) -> None:
    changed = item(1, "ef" * 32)
    assert three.reopen(changed) == [(2, AskModel())]
    assert three.claim(changed) == AskModel()
    assert three.finish(2, answer(2)) == [(3, copied(3, 2))]
    assert three.finish(1, answer(1)) == []


def test_names_that_are_looked_at_together_stay_those_of_each_item() -> None:
    record = replace(item(2), paths=("x.png", "y.png")).copy_of(answer(1))
    assert (record.path, record.paths, record.text, record.id) == ("2.png", ("x.png", "y.png"), "answer 1", RECORD.id)
