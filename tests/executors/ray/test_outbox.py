"""executors/ray/outbox.py: each record goes to the call that waits for it, and open items to the driver."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

import pytest

from smolcli.errors import ErrorKind
from smolcli.executors.answers import Skip
from smolcli.executors.duplicates import AskModel, OpenItem, Wait
from smolcli.executors.ray import outbox as outbox_module
from smolcli.executors.ray.outbox import SEVERAL, Outbox
from smolcli.types import Record, Seconds
from tests.helpers import BAD, RECORD


def item(own_number: int, number: int) -> OpenItem:
    """An item as the executor of a worker knows it; `number` is the driver's."""
    return OpenItem(own_number, str(number), None, "0f" * 32, "", Seconds())


def record(number: int) -> Record:
    return replace(RECORD, path=str(number))


def report_and_ask(outbox: Outbox, *numbers: int) -> None:
    """Report items to the driver, which decides that the model is asked about them."""
    for number in numbers:
        outbox.decide(item(number, number))
    assert [reported.number for reported in outbox.take_undecided()] == list(numbers)
    for number in numbers:
        outbox.note_decision(number, AskModel())


def test_a_batch_ends_with_the_records_of_all_items_that_the_driver_has_no_answer_to() -> None:
    outbox = Outbox()
    call, other = outbox.begin([7, 8, 9]), outbox.begin([10])
    assert outbox.deliver(0, record(7)) and outbox.deliver(3, record(10)) and outbox.deliver(2, record(9))
    assert call.pending == {8}
    outbox.skip("8")
    assert outbox.wait(call) == {7: record(7), 9: record(9)}
    assert outbox.wait(other) == {10: record(10)}


def test_an_item_that_is_sent_again_is_done_for_the_earlier_batch_first() -> None:
    """The driver may send it again before the worker is told to leave it out of the batch that it was in."""
    outbox = Outbox()
    first, second = outbox.begin([7, 8]), outbox.begin([7])
    outbox.skip("7")
    assert (first.pending, second.pending) == ({8}, {7})
    outbox.deliver(5, record(7))
    assert outbox.wait(second) == {7: record(7)}


def test_a_call_waits_for_its_last_item_or_the_end() -> None:
    outbox = Outbox()
    call, unfinished = outbox.begin([7]), outbox.begin([8])
    got: list[dict[int, Record]] = []
    waiting = Thread(target=lambda: got.append(outbox.wait(call)))
    waiting.start()
    outbox.deliver(0, record(7))
    waiting.join(30)
    assert got == [{7: record(7)}]
    outbox.end()
    assert outbox.wait(unfinished) == {}
    assert outbox.take_undecided() == []


def test_open_items_are_reported_once_and_not_after_they_have_failed() -> None:
    outbox = Outbox()
    assert [outbox.decide(item(number, 70 + number)) for number in range(3)] == [Wait()] * 3
    assert outbox.finish(1, replace(BAD, path="71")) == ()
    assert [open_item.number for open_item in outbox.take_undecided()] == [0, 2]
    outbox.decide(item(3, 73))
    outbox.drop(3)
    outbox.decide(item(4, 74))
    assert [open_item.number for open_item in outbox.take_undecided()] == [4]


def test_a_busy_worker_reports_at_once_when_its_model_runs_short_of_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an endless time to group reports: the thread ends because an item is done, not because time is over."""
    monkeypatch.setattr(outbox_module, "GROUP_SECONDS", None)
    outbox = Outbox()
    outbox.decide(item(99, 99))
    outbox.take_undecided()
    outbox.note_decision(99, Skip())
    report_and_ask(outbox, *range(SEVERAL))
    reports: list[list[OpenItem]] = []
    reporting = Thread(target=lambda: reports.append(outbox.take_undecided()))
    reporting.start()
    outbox.decide(item(50, 50))
    outbox.decide(item(51, 51))
    reporting.join(0.2)
    assert reporting.is_alive()
    outbox.finish(0, record(0))
    reporting.join(30)
    assert reports == [[item(50, 50), item(51, 51)]]


def test_an_item_that_fails_before_the_driver_has_decided_does_not_count_as_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With an endless time to group reports, an idle worker would never report again."""
    monkeypatch.setattr(outbox_module, "GROUP_SECONDS", None)
    outbox = Outbox()
    for number in range(SEVERAL):
        outbox.decide(item(number, number))
    assert len(outbox.take_undecided()) == SEVERAL
    for number in range(SEVERAL):
        outbox.finish(number, replace(BAD, path=str(number)))
        outbox.note_decision(number, AskModel())
    outbox.decide(item(50, 50))
    reports: list[list[OpenItem]] = []
    reporting = Thread(target=lambda: reports.append(outbox.take_undecided()), daemon=True)
    reporting.start()
    reporting.join(10)
    assert reports == [[item(50, 50)]]


def test_a_report_is_not_empty_though_the_item_that_it_was_begun_for_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An empty one says that the worker has ended."""
    monkeypatch.setattr(outbox_module, "GROUP_SECONDS", None)
    outbox = Outbox()
    report_and_ask(outbox, *range(SEVERAL))
    reports: list[list[OpenItem]] = []
    reporting = Thread(target=lambda: reports.append(outbox.take_undecided()))
    reporting.start()
    outbox.decide(item(50, 50))
    reporting.join(0.2)  # it waits for others now
    outbox.drop(50)
    outbox.finish(0, record(0))
    reporting.join(0.2)
    outbox.decide(item(51, 51))
    reporting.join(30)
    assert reports == [[item(51, 51)]]


def test_a_lost_engine_is_told_once() -> None:
    outbox = Outbox()
    outbox.note_restart(ErrorKind.CRASH, "7")
    outbox.note_restart(ErrorKind.MEMORY, "")
    assert outbox.take_restart() == (ErrorKind.CRASH, 7)
    assert outbox.take_restart() is None
