"""Scripted children end, hang and break, one fault after another and two at a time: what follows from it.

Nothing is lost, nothing is answered twice, and an item is blamed only where it was tried alone.
"""

from __future__ import annotations

import pytest

from smolcli.engine.progress_cells import OPENING, RequestId, Stage
from smolcli.engine.protocol import (
    Event,
    Exited,
    Failed,
    InboxMessage,
    ReplyReceived,
    Restarted,
)
from smolcli.errors import EngineError, ErrorKind
from smolcli.inputs.page import PageRequest
from smolcli.options import Sampling
from smolcli.types import Content, FrameRef
from tests.engine.scripted import Owner, reply_made

MEMORY, CRASH, TIMEOUT, HANG = ErrorKind.MEMORY, ErrorKind.CRASH, ErrorKind.TIMEOUT, ErrorKind.HANG


def failures(events: list[Event]) -> list[tuple[int, ErrorKind]]:
    return [(event.number, event.fault.kind) for event in events if isinstance(event, Failed)]


def answer_alone(owner: Owner, number: int, slot: int = 0) -> list[Event]:
    """The last child, which was sent one suspect, opens its item and answers it."""
    assert owner.child.requests[-2:] == [(number, OPENING), (number, slot)]
    owner.ready()
    owner.opened(number)
    return owner.reply(number, slot)


def test_every_request_in_a_cell_is_a_suspect_and_no_other() -> None:
    """Items that are opened, prompts that are prepared, prompts in the model; not those that wait."""
    owner = Owner()
    owner.prepare(0, 1)
    owner.open(2, 3, 4, 5)
    owner.opened(3, 4)
    owner.ask(3), owner.ask(4)
    owner.child.begin(2)
    owner.child.begin(3, 0, Stage.PREPARING)
    owner.child.begin(4, 0, Stage.WAITING)
    assert owner.exit() == [Restarted(MEMORY, (0, 1, 2, 3))]
    owner.ready()
    for number, slot in ((0, 0), (1, 0)):
        assert owner.child.requests[-2:] == [(number, OPENING), (number, slot)]
        owner.opened(number)
        owner.reply(number)
        owner.engine.release(number)
    assert owner.child.requests[-1] == (2, OPENING)
    owner.opened(2)
    assert owner.child.requests[-2:] == [(3, OPENING), (3, 0)]
    owner.opened(3)
    owner.reply(3)
    assert owner.child.requests[-3:] == [(4, OPENING), (4, 0), (5, OPENING)]


def test_a_prompt_that_ends_the_child_while_it_is_prepared_is_blamed_not_the_one_being_answered() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.open(1)
    owner.opened(1)
    owner.ask(1)
    owner.child.begin(1, 0, Stage.PREPARING)
    assert owner.exit() == [Restarted(MEMORY, (0, 1))]
    assert len(answer_alone(owner, 0)) == 1
    owner.engine.release(0)
    owner.opened(1)
    owner.child.begin(1, 0, Stage.PREPARING)
    assert failures(owner.exit()) == [(1, MEMORY)]


def test_prompt_65534_of_a_video_is_suspected_as_itself() -> None:
    owner = Owner(sampling=Sampling())
    owner.open(0, 1)
    owner.ready()
    owner.opened(0, 1)
    owner.ask(0, 65_534), owner.ask(1)
    owner.child.begin(0, 65_534)
    assert owner.exit() == [Restarted(MEMORY, (0,))]
    assert len(answer_alone(owner, 0, 65_534)) == 1
    assert owner.child.requests[-2:] == [(1, OPENING), (1, 0)]


@pytest.mark.parametrize("cause", ["killed", "out of time"])
def test_the_child_is_killed_while_a_prompt_hangs(cause: str) -> None:
    owner = Owner()
    owner.prepare(0, 1)
    for cell in owner.child.cell_of.values():
        owner.child.cells.count_piece(cell)
    assert owner.check_each_second(400) == []  # item 0 hangs, and holds up item 1
    if cause == "killed":
        assert owner.exit() == [Restarted(MEMORY, (0, 1))]
    else:
        assert owner.check_each_second(250) == [Restarted(TIMEOUT, (0,))]
    owner.ready()
    owner.opened(0)
    owner.child.begin(0, 0)
    assert owner.check_each_second(590) == []  # its time begins anew
    assert failures(owner.check_each_second(20)) == [(0, TIMEOUT)]
    owner.engine.release(0)
    assert answer_alone(owner, 1) == [ReplyReceived(1, 0, reply_made(1).reply)]


def test_a_kill_while_a_suspect_is_tried_alone_blames_that_item_and_no_other() -> None:
    owner = Owner()
    owner.prepare(0, 1, 2)
    owner.exit()
    owner.ready()
    owner.opened(0)
    owner.child.begin(0, 0)
    assert failures(owner.exit()) == [(0, MEMORY)]
    assert owner.child.requests == [(1, OPENING), (1, 0)]
    owner.engine.release(0)
    assert len(answer_alone(owner, 1)) == 1
    owner.engine.release(1)
    owner.opened(2)
    assert owner.reply(2) == [ReplyReceived(2, 0, reply_made(2).reply)]


def test_a_page_that_is_blamed_costs_no_other_page_of_its_document() -> None:
    owner = Owner(every_page=True)
    owner.open(0)
    owner.ready()
    owner.opened(0)
    for slot in range(2):
        owner.engine.ask(0, slot, PageRequest(FrameRef(slot, 0, 0), slot + 1))
    owner.child.begin(0, 0, Stage.PREPARING)
    [event] = owner.check_each_second(620)
    assert isinstance(event, ReplyReceived) and (event.number, event.slot) == (0, 0)
    assert event.reply.finish.fault is not None and event.reply.finish.fault.kind == TIMEOUT
    assert owner.child.requests == [(0, OPENING), (0, 1)]  # of a new child
    owner.ready()
    owner.opened(0)
    assert owner.reply(0, 1) == [ReplyReceived(0, 1, reply_made(0).reply)]


def test_pages_that_end_the_child_while_they_are_looked_at_do_not_end_the_run() -> None:
    owner = Owner(every_page=True)
    owner.open(0)
    owner.ready()
    owner.opened(0)
    for slot in range(4):
        owner.engine.ask(0, slot, PageRequest(FrameRef(slot, 0, 0), slot + 1))
        owner.child.begin(0, slot, Stage.PREPARING)
        assert owner.exit() == [Restarted(MEMORY, (0,))]
        owner.ready()
        owner.opened(0)
        owner.child.begin(0, slot, Stage.PREPARING)
        [event] = owner.exit()
        assert isinstance(event, ReplyReceived) and event.slot == slot
        owner.engine.check()  # would raise where the run ends
        owner.ready()
        owner.opened(0)


def test_a_kill_before_the_suspect_on_trial_is_begun_blames_nobody() -> None:
    owner = Owner()
    owner.prepare(0, 1)
    owner.exit()
    owner.child.begin(0)  # its item is being opened while the model is loaded
    assert owner.exit() == [Restarted(MEMORY, (0,))]
    assert owner.child.requests == []  # before the model is loaded
    owner.ready()
    assert owner.child.requests == [(0, OPENING)]
    assert owner.opened(0) == []
    assert owner.child.requests == [(0, OPENING), (0, 0)]
    owner.reply(0)
    owner.engine.release(0)
    assert owner.child.requests[2:] == [(1, OPENING), (1, 0)]  # it is still a suspect, and answered
    owner.opened(1)
    assert len(owner.reply(1)) == 1


def test_a_suspect_that_is_released_while_it_is_tried_alone_lets_the_others_go_on() -> None:
    owner = Owner()
    owner.prepare(0, 1)
    owner.exit()
    owner.engine.release(0)
    assert owner.child.requests == [(0, OPENING), (0, 0), (1, OPENING), (1, 0)]


def test_only_after_an_unexplained_end_is_nothing_sent_before_the_model_is_loaded() -> None:
    owner = Owner()
    owner.open(0)
    assert owner.exit() == [Restarted(MEMORY, ())]
    assert owner.child.requests == []
    owner.ready()
    owner.opened(0)
    owner.ask(0)
    owner.child.begin(0, 0)
    assert owner.exit() == [Restarted(MEMORY, (0,))]
    assert owner.child.requests == [(0, OPENING), (0, 0)]


def test_an_item_that_fails_is_not_sent_again_and_keeps_the_content_that_was_read_of_it() -> None:
    owner = Owner()
    owner.open(0)
    owner.ready()
    owner.opened(0, sha256="1e")
    owner.ask(0)
    owner.child.begin(0, 0)
    owner.exit()
    owner.ready()
    owner.child.begin(0, 0)
    owner.open(1)
    [failed] = owner.exit()
    assert isinstance(failed, Failed) and failed.content == Content("1e")
    assert owner.child.requests == [(1, OPENING)]
    owner.ready()
    owner.exit()  # before the owner has released it
    owner.ready()
    assert owner.child.requests == [(1, OPENING)]


@pytest.mark.parametrize("first", ["check", "exit"])
def test_a_timeout_and_an_exit_at_the_same_time_are_one_fault(first: str) -> None:
    owner = Owner()
    owner.prepare(0)
    owner.check_each_second(600)
    owner.child.exit()  # the inbox has its end
    exited = owner.next_message()
    assert exited == InboxMessage(0, Exited())
    if first == "check":
        assert failures(owner.check_each_second(10)) == [(0, TIMEOUT)]
        assert owner.engine.handle(exited) == []
    else:
        assert owner.engine.handle(exited) == [Restarted(MEMORY, (0,))]
        assert owner.check_each_second(1) == []
        assert len(answer_alone(owner, 0)) == 1
    assert len(owner.children) == (1 if first == "check" else 2)


def test_a_reply_that_waits_in_the_inbox_while_its_child_times_out_is_asked_for_again() -> None:
    owner = Owner()
    owner.prepare(0, 1)
    owner.check_each_second(590)
    owner.child.clear(RequestId(1, 0))
    owner.child.say(reply_made(1))
    late = owner.next_message()  # nobody has handled it when the time of item 0 is over
    assert failures(owner.check_each_second(600)) == [(0, TIMEOUT)]
    owner.engine.release(0)
    assert owner.engine.handle(late) == []
    owner.ready()
    owner.opened(1)
    assert owner.child.requests == [(1, OPENING), (1, 0)]
    assert owner.reply(1) == [ReplyReceived(1, 0, reply_made(1).reply)]


def test_a_pipe_that_breaks_while_a_request_is_sent_loses_nothing() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.reply(0)
    owner.child.is_pipe_broken = True
    owner.engine.release(0)
    owner.open(1, 2)
    assert owner.child.requests == [(0, OPENING), (0, 0)] and len(owner.children) == 1
    assert owner.exit() == [Restarted(MEMORY, ())]
    owner.ready()
    assert owner.child.requests == [(1, OPENING), (2, OPENING)]


def test_a_pipe_that_breaks_while_a_child_is_told_to_stop_does_not_matter() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.reply(0)
    owner.child.is_pipe_broken = True
    owner.engine.close()
    assert owner.child.ends == [False]


def test_a_child_that_ends_between_two_requests_blames_none() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.child.clear(RequestId(0, 0))
    owner.child.say(reply_made(0))
    owner.child.exit()  # right after its answer
    assert owner.handle_next() == [ReplyReceived(0, 0, reply_made(0).reply)]
    owner.open(1)
    assert owner.handle_next() == [Restarted(MEMORY, ())]
    owner.ready()
    assert (1, OPENING) in owner.child.requests


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [MemoryError(), AttributeError("no such class")])
def test_a_child_that_sends_what_cannot_be_read_is_replaced(error: Exception) -> None:
    owner = Owner()
    owner.prepare(0)
    owner.child.say_nonsense(error)
    assert owner.handle_next() == [Restarted(MEMORY, (0,))]
    assert len(answer_alone(owner, 0)) == 1


def crash(owner: Owner, number: int) -> list[Event]:
    """An item ends two children, the second one when it is tried alone."""
    owner.child.begin(number, 0)
    owner.exit()
    owner.ready()
    owner.child.begin(number, 0)
    events = owner.exit()
    owner.engine.release(number)
    return events


def with_prompts(count: int) -> Owner:
    owner = Owner()
    owner.open(*range(count))
    owner.ready()
    owner.opened(*range(count))
    for number in range(count):
        owner.ask(number)
    return owner


def test_three_items_in_a_row_that_end_the_child_end_the_run_after_the_last_has_failed() -> None:
    owner = with_prompts(4)
    for number in (0, 1):
        assert failures(crash(owner, number)) == [(number, MEMORY)]
        owner.ready()
    assert failures(crash(owner, 2)) == [(2, MEMORY)]
    with pytest.raises(EngineError, match=r"3 times in a row child 5 has ended") as raised:
        owner.engine.check()
    assert raised.value.kind == MEMORY


def test_an_answer_between_items_that_end_the_child_lets_the_run_go_on() -> None:
    owner = with_prompts(6)
    for number in range(6):
        if number in (2, 5):
            owner.opened(number)
            assert len(owner.reply(number)) == 1
            owner.engine.release(number)
        else:
            assert failures(crash(owner, number)) == [(number, MEMORY)]
            owner.ready()
    assert owner.handle_all() == owner.engine.check() == []


def test_a_model_that_cannot_be_loaded_ends_the_run() -> None:
    owner = Owner()
    owner.open(0)
    owner.exit(), owner.exit()
    with pytest.raises(EngineError, match="3 times in a row child 2 has ended"):
        owner.exit()


def test_a_child_that_does_nothing_is_replaced_and_blames_nobody() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.child.clear(RequestId(0, 0))
    assert owner.check_each_second(590) == []
    assert owner.check_each_second(20) == [Restarted(HANG, ())]
    owner.ready()
    assert owner.child.requests == [(0, OPENING), (0, 0)]
    owner.opened(0)
    assert len(owner.reply(0)) == 1
