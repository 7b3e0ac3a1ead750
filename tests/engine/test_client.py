"""engine/client.py: requests go out, events come back, and time is counted, with scripted children."""

from __future__ import annotations

from typing import Any

import pytest

from smolcli.engine.progress_cells import OPENING, RequestId, Stage
from smolcli.engine.protocol import (
    Ask,
    Decoded,
    Event,
    Exited,
    Failed,
    FramesDecoded,
    InboxMessage,
    ItemNotOpened,
    ItemOpened,
    Open,
    Opened,
    PieceMade,
    PieceReceived,
    Ready,
    Release,
    ReplyMade,
    ReplyReceived,
    Restarted,
    Stop,
)
from smolcli.errors import EngineError, ErrorKind, ModelError
from smolcli.options import Sampling
from smolcli.process.pipe import FunctionFailed
from smolcli.system import memory
from smolcli.types import Content, Fault, Finish, Item, Media, Memory, Prompt, Reply
from tests.engine.scripted import Owner, reply_made


def test_a_request_goes_out_and_its_answer_is_an_event() -> None:
    owner = Owner()
    item, prompt = Item.of("0.png", b""), Prompt.user("a")
    owner.engine.open(0, item)
    assert owner.child.received == [Open(0, item)]
    assert owner.ready() == [Ready()] and owner.engine.ready_at > 0
    media = Media((), Content("sha"), seconds=0.5)
    assert owner.say(ItemOpened(0, media)) == [Opened(0, media)]
    owner.engine.ask(0, 3, prompt)
    assert owner.child.received[1:] == [Ask(0, 3, prompt)] and owner.engine.items_in_progress == {0}
    assert owner.say(FramesDecoded(0, ("cut short",))) == [Decoded(0, ("cut short",))]
    assert owner.say(PieceMade(0, 3, "fi")) == [PieceReceived(0, 3, "fi")]
    reply = Reply("fine", Finish("stop"))
    assert owner.say(ReplyMade(0, 3, reply, Memory(engine=7, gpu=5))) == [ReplyReceived(0, 3, reply)]
    assert not owner.engine.items_in_progress and owner.engine.memory == Memory(engine=7, gpu=5)
    owner.open(1)
    fault = Fault(ErrorKind.MISSING, "no such file")
    assert owner.say(ItemNotOpened(1, fault, Content("sha1"))) == [Failed(1, fault, Content("sha1"))]
    assert len(owner.children) == 1


def test_what_is_asked_for_goes_out_as_one_value_with_flush() -> None:
    owner = Owner()
    owner.open(0, 1, 2)
    [child] = owner.children
    assert child.received == []
    owner.engine.flush()
    owner.engine.flush()
    assert child.requests == [(0, OPENING), (1, OPENING), (2, OPENING)] and child.values == 1


def test_nothing_comes_for_an_item_after_its_release() -> None:
    owner = Owner()
    owner.prepare(0, 1)
    owner.engine.release(0)
    assert owner.say(PieceMade(0, 0, "a")) == owner.reply(0) == owner.say(FramesDecoded(0, ())) == []
    assert owner.reply(1) == [ReplyReceived(1, 0, reply_made(1).reply)]


def test_prompts_of_items_that_wait_are_sent_again_in_the_order_of_the_items() -> None:
    owner = Owner()
    owner.prepare(0, 2, 1)
    for number in (1, 2):
        owner.child.clear(RequestId(number, 0))  # the model works on item 0 alone
    owner.exit()
    owner.ready()
    assert owner.child.requests == [(0, OPENING), (0, 0)]  # alone
    owner.opened(0)
    owner.reply(0)
    owner.engine.release(0)
    assert owner.child.requests[2:] == [(1, OPENING), (1, 0), (2, OPENING), (2, 0)]


def test_an_item_that_was_never_sent_is_not_released_in_the_child() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.exit()
    owner.open(1)  # it waits until item 0 was tried alone
    owner.engine.release(1)
    owner.ready()
    owner.opened(0)
    owner.reply(0)
    owner.open(2)
    assert (2, OPENING) in owner.child.requests and Release(1) not in owner.child.received


def test_an_opening_whose_cell_was_not_cleared_is_no_suspect() -> None:
    """As when the child ends between sending that an item is open and clearing its cell."""
    owner = Owner()
    owner.prepare(0, 1)
    owner.child.begin(1)
    assert owner.exit() == [Restarted(ErrorKind.MEMORY, (0, 1))]
    assert owner.child.requests == [(0, OPENING), (0, 0)]


def test_an_error_of_the_engine_is_raised_as_itself() -> None:
    owner = Owner()
    owner.open(0)
    error = ModelError("broken.gguf is not a GGUF", "get another")
    with pytest.raises(ModelError) as raised:
        owner.say(FunctionFailed(error))
    assert raised.value is error


def test_pixels_are_freed_at_once_while_others_wait_for_their_memory() -> None:
    """No other message may be sent for as long as they wait."""
    owner = Owner()
    owner.prepare(0)
    owner.reply(0)
    owner.engine.release(0)
    assert Release(0) not in owner.child.received  # it goes with the next request
    owner.open(1, 2)
    assert owner.child.received[-3:] == [Release(0), Open(1, Item.of("1.png", b"")), Open(2, Item.of("2.png", b""))]
    owner.opened(1)
    owner.engine.release(1)
    assert owner.child.received[-1] == Release(1)


def test_a_child_is_asked_to_stop_and_one_that_is_busy_is_ended_at_once() -> None:
    idle = Owner()
    idle.prepare(0)
    idle.reply(0)
    idle.engine.close()
    assert idle.child.received[-1] == Stop() and idle.child.ends == [False]
    busy = Owner()
    busy.prepare(0)
    busy.engine.close()
    assert Stop() not in busy.child.received and busy.child.ends == [True]
    assert busy.handle_all() == [] and len(busy.children) == 1  # its end starts no other


def test_items_are_in_progress_until_the_reply_was_handled() -> None:
    owner = Owner()
    owner.open(0, 1, 2)
    assert owner.engine.items_in_progress == set()
    owner.ready()
    owner.opened(0, 1, 2)
    assert owner.engine.items_in_progress == set()
    for number in (0, 1, 2):
        owner.ask(number)
    assert owner.engine.items_in_progress == {0}  # a model that is ready begins with the first
    owner.child.begin(1, 0)
    assert owner.engine.items_in_progress == {0, 1}  # it has answered 0, and the reply is in the inbox
    owner.child.begin(2, 0, Stage.PREPARING)
    assert owner.engine.items_in_progress == {0, 1}
    owner.reply(0)
    assert owner.engine.items_in_progress == {1}


# ---- time ----------------------------------------------------------------------------------------------


def timeouts(events: list[Event]) -> list[int]:
    return [event.number for event in events if isinstance(event, Failed) and event.fault.kind == ErrorKind.TIMEOUT]


def test_replies_side_by_side_share_the_time() -> None:
    eight = Owner()
    eight.prepare(*range(8))
    assert eight.check_each_second(8 * 590, goes_on=RequestId(0, 0)) == []
    assert eight.check_each_second(8 * 20, goes_on=RequestId(0, 0)) == [Restarted(ErrorKind.TIMEOUT, (0,))]


def test_replies_that_have_all_stopped_are_tried_alone_after_the_time_of_one() -> None:
    stuck = Owner()
    stuck.prepare(*range(8))
    for cell in stuck.child.cell_of.values():
        stuck.child.cells.count_piece(cell)
    assert stuck.check_each_second(590) == []
    assert stuck.check_each_second(20) == [Restarted(ErrorKind.TIMEOUT, (0,))]
    assert stuck.child.requests == [(0, OPENING), (0, 0)]


def test_prompts_of_one_item_share_its_time() -> None:
    owner = Owner()
    owner.open(0)
    owner.ready()
    owner.opened(0)
    owner.ask(0, 0, 1, 2, 3)
    for slot in range(4):
        owner.child.begin(0, slot)
    assert owner.check_each_second(200, goes_on=RequestId(0, 3)) == []
    owner.reply(0, 0), owner.reply(0, 1)
    assert owner.check_each_second(390, goes_on=RequestId(0, 3)) == []
    assert owner.check_each_second(20, goes_on=RequestId(0, 3)) != []


@pytest.mark.parametrize(("options", "advised"), [
    ({"sampling": Sampling()}, "fewer frames"), ({"every_page": True}, "--pages"),
])  # fmt: skip
def test_the_advice_about_what_takes_too_long_fits_what_is_read(options: dict[str, Any], advised: str) -> None:
    owner = Owner(**options)
    owner.open(0)
    owner.ready()
    owner.child.begin(0)
    [failed] = owner.check_each_second(620)
    assert isinstance(failed, Failed)
    assert advised in failed.fault.advice and "raise --timeout" in failed.fault.advice


def test_decoding_for_the_next_prompt_takes_no_time_from_the_one_under_way() -> None:
    film = Owner(sampling=Sampling())
    film.prepare(0)
    film.ask(0, 1)
    film.child.begin(0, 1, Stage.PREPARING)
    assert film.check_each_second(590, goes_on=RequestId(0, 0)) == []
    assert film.check_each_second(20, goes_on=RequestId(0, 0)) == [Restarted(ErrorKind.TIMEOUT, (0,))]


def test_a_child_that_had_nothing_to_do_is_not_taken_for_one_that_hangs() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.reply(0)
    owner.engine.release(0)
    assert owner.check_each_second(3600) == []
    owner.open(1)
    assert owner.check_each_second(590) == []
    assert owner.check_each_second(20) == [Restarted(ErrorKind.HANG, ())]  # it did not begin with it
    assert len(owner.children) == 2


def test_a_child_that_sends_something_is_not_taken_for_one_that_hangs() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.child.clear(RequestId(0, 0))
    for _ in range(5):
        assert owner.check_each_second(500) == []
        owner.say(FramesDecoded(0, ()))
    assert owner.check_each_second(590) == []
    assert owner.check_each_second(20) == [Restarted(ErrorKind.HANG, ())]


def test_time_in_which_this_process_was_stopped_does_not_count_as_the_inputs() -> None:
    """By Ctrl-Z, or because nobody read what it writes."""
    owner = Owner(timeout=50.0)
    owner.prepare(0)
    assert owner.check_each_second(5) == []
    owner.now += 3600
    assert owner.engine.check() == []
    owner.now += 0.9
    assert owner.engine.check() == []
    assert owner.check_each_second(40) == []
    assert timeouts(owner.check_each_second(20)) == [0]


def test_a_model_that_takes_too_long_to_load_is_given_up() -> None:
    owner = Owner(timeout=0.5)
    owner.open(0)
    assert owner.check_each_second(600) == []
    with pytest.raises(EngineError, match="was not loaded within 601 s"):
        owner.check_each_second(2)


# ---- children end, and others are started ----------------------------------------------------------------


def test_a_child_that_has_grown_finishes_its_prompts_and_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([100, 1200, 5000])  # bytes after 16 and 32 replies, and after 16 of the next child
    monkeypatch.setattr(memory, "private_bytes", lambda pid: next(held))
    owner = Owner(growth=1000)
    for number in range(32):
        owner.prepare(number)
        if number == 31:
            owner.prepare(32)
        assert len(owner.children) == 1
        owner.reply(number)
        owner.engine.release(number)
    owner.open(33)
    assert len(owner.children) == 1 and (33, OPENING) not in owner.child.requests  # it is sent nothing more
    owner.reply(32)
    assert len(owner.children) == 2 and owner.children[0].ends == [False]
    assert owner.child.requests == [(32, OPENING), (33, OPENING)]  # 32 is not released yet
    for number in range(34, 50):
        owner.prepare(number)
        owner.reply(number)
    assert next(held, None) is None and len(owner.children) == 2


def test_an_item_that_is_another_in_the_next_child_fails() -> None:
    owner = Owner()
    owner.open(0)
    owner.ready()
    assert len(owner.opened(0, sha256="before")) == 1
    owner.ask(0)
    owner.exit()
    owner.ready()
    [failed] = owner.opened(0, sha256="after")
    assert isinstance(failed, Failed) and failed.fault.kind == ErrorKind.CHANGED and failed.content == Content("after")


def test_an_item_is_opened_anew_without_another_event() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.exit()
    owner.ready()
    assert owner.opened(0) == []
    assert owner.reply(0) == [ReplyReceived(0, 0, reply_made(0).reply)]


def test_messages_of_an_earlier_child_are_ignored() -> None:
    owner = Owner()
    owner.prepare(0)
    owner.exit()
    for message in (Ready(), reply_made(0), Exited()):
        assert owner.engine.handle(InboxMessage(0, message)) == []
    assert len(owner.children) == 2 and owner.reply(0) == [ReplyReceived(0, 0, reply_made(0).reply)]


def test_a_child_that_does_not_end_holds_up_only_the_next_one() -> None:
    """As where the driver of a GPU hangs. The next child may need the memory that this one has."""
    owner = Owner()
    owner.prepare(0, 1)
    [stuck] = owner.children
    stuck.may_end.clear()
    assert owner.check_each_second(1300) == [Restarted(ErrorKind.TIMEOUT, (0,))]
    owner.open(2)
    owner.engine.release(0)
    assert owner.handle_all() == owner.engine.check() == [] and len(owner.children) == 1
    stuck.may_end.set()
    assert owner.handle_next() == [] and stuck.ends == [True]
    assert owner.child.requests == [(1, OPENING), (1, 0)]
    owner.engine.release(1)
    assert owner.child.requests[2:] == [(2, OPENING)]


@pytest.mark.parametrize("is_lost", [False, True])
def test_another_engine_goes_on_with_an_item_that_was_open_and_asked_about(is_lost: bool) -> None:
    """Its owner has seen it opened, and is not told again; a late reply of the first engine is none."""
    first, other = Owner(), Owner()
    first.open(3)
    assert [type(event) for event in first.opened(3)] == [Opened]
    first.ask(3, 2)
    if is_lost:
        first.engine.close()
    first.engine.hand_over(3, other.engine)
    other.ready()
    assert other.child.requests == [(3, OPENING), (3, 2)]
    assert other.opened(3) == []
    assert other.reply(3, 2) == [ReplyReceived(3, 2, Reply("fine", Finish("stop")))]
    if not is_lost:
        assert first.reply(3, 2) == []
        first.open(4)
        assert Release(3) in first.child.received
    assert first.engine.check() == [] and len(first.children) == 1


def test_what_waits_is_what_no_child_has_begun_and_nobody_tries_alone() -> None:
    owner = Owner()
    owner.open(0, 1, 2, 3, 4)
    assert owner.engine.waiting_items == [0, 1, 2, 3, 4] and not owner.engine.is_idle
    owner.ready()
    owner.opened(0, 1, 2, 3)
    owner.ask(3), owner.ask(1), owner.ask(0)
    owner.child.begin(3, 0)
    owner.child.begin(1, 0, Stage.PREPARING)
    assert owner.engine.waiting_items == [0, 4]  # 2 is open, and nothing is asked about it
    assert not owner.engine.is_restarting
    owner.exit()
    assert owner.engine.waiting_items == [0, 2, 4] and owner.engine.is_restarting  # 1 and 3 are suspects
    for number in range(5):
        owner.engine.release(number)
    owner.ready()
    assert owner.engine.is_idle and not owner.engine.is_restarting
