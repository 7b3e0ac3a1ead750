"""smolcli/executors/conversation.py: what is asked about one item, and what its replies add up to."""

from __future__ import annotations

import math

import pytest

from smolcli.errors import ErrorKind, InputError
from smolcli.executors.conversation import Conversation, says_blank
from smolcli.inputs.page import Line, Page, PageRequest, Region, Word
from smolcli.options import Generate
from smolcli.tasks.ask import Ask
from smolcli.tasks.base import Steps, Task, mean_confidence
from smolcli.tasks.ocr import BLANK_REPLIES, Ocr
from smolcli.types import (
    Answer,
    Box,
    Fault,
    Finish,
    FinishReason,
    FrameRef,
    Media,
    ModelLimits,
    Prompt,
    Reply,
    Seconds,
    Tokens,
)

FRAME = FrameRef(0, 1, 1)
LOST = Fault(ErrorKind.ENGINE, "no memory")


def reply(text: str, new: int = 1, confidence: float | None = None, **finish: object) -> Reply:
    reason = finish.pop("reason", "stop")
    return Reply(text, Finish(reason, Tokens(10, 5, new), Seconds(decode=0.5), confidence=confidence, **finish))  # type: ignore[arg-type]


def talk(task: Task, pages: int = 1, **generate: object) -> Conversation:
    return Conversation(task, Media((FRAME,) * pages), Generate(**generate))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        ("(blank)", "stop", True), (" (no text)\n", "stop", True), ("", "stop", True),
        ("(no", "length", True), ("(bla", "length", True),  # cut by -n within the words
        ("(no", "stop", False), ("(no exit", "length", False), ("EXIT", "length", False), ("no text", "stop", False),
    ],
)  # fmt: skip
def test_a_reply_that_says_there_is_nothing_to_read(text: str, reason: FinishReason, expected: bool) -> None:
    assert says_blank(Reply(text, Finish(reason)), BLANK_REPLIES) is expected


class Draft(Task):
    """Asks for two notes, of which it can do without either, then about them."""

    def steps(self, media: Media) -> Steps:
        notes = yield [Prompt.user(FRAME, "first", draft=True), Prompt.user(FRAME, "second", draft=True)]
        [last] = yield [Prompt.user(" and ".join(note.text for note in notes))]
        return Answer(last.text)


def test_a_step_begins_when_all_replies_of_the_one_before_are_there() -> None:
    conversation = talk(Draft())
    first = conversation.begin()
    assert [prompt.turns[0].parts[-1] for prompt in first] == ["first", "second"]  # type: ignore[union-attr]
    assert conversation.add_reply(1, reply("two", new=4)) == ()
    assert (conversation.has_reply, conversation.step.answered) == (True, 1)
    [prompt] = conversation.add_reply(0, reply("one", new=2))  # type: ignore[misc]
    assert isinstance(prompt, Prompt) and prompt.turns[0].parts == ("one and two",)
    assert conversation.add_reply(0, reply("both", new=3, reason="length")) == Answer("both")
    totals = conversation.totals
    assert (totals.tokens, totals.seconds.decode, totals.finish_reason) == (Tokens(30, 15, 9), 1.5, "length")
    assert not totals.is_cut


def test_the_confidence_is_that_of_the_last_steps_replies() -> None:
    conversation = talk(Draft())
    conversation.begin()
    for slot in (0, 1):
        conversation.add_reply(slot, reply("note", new=9, confidence=0.1))
    conversation.add_reply(0, reply("both", new=2, confidence=0.75))
    assert conversation.totals.confidence == pytest.approx(0.75)


def test_several_replies_of_a_step_count_by_their_tokens() -> None:
    """Three tokens of a mean of 0.8 and one of 0.5: the fourth root of 0.8 * 0.8 * 0.8 * 0.5 = 0.256."""
    conversation = talk(Ask("One?", also=("Two?",)))
    conversation.begin()
    conversation.add_reply(0, reply("a cat", new=3, confidence=0.8))
    conversation.add_reply(1, reply("2", new=1, confidence=0.5))
    assert conversation.totals.confidence == pytest.approx(0.7113117640155692)


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([], None),
        ([reply("a")], None),
        ([reply("a"), reply("b", new=7, confidence=0.25)], 0.25),  # one without a confidence does not count
        ([reply("", new=0, confidence=0.9), reply("b", new=1, confidence=0.4)], math.sqrt(0.36)),
        ([reply("a", confidence=0.0), reply("b", confidence=1.0)], 0.0),
        ([reply("a", new=500, confidence=1.0)], 1.0),
    ],
)
def test_the_mean_confidence(replies: list[Reply], expected: float | None) -> None:
    assert mean_confidence(replies) == (None if expected is None else pytest.approx(expected))


def test_a_part_without_an_answer_is_a_notice_and_all_parts_without_one_are_a_fault() -> None:
    conversation = talk(Draft())
    conversation.begin()
    conversation.add_reply(0, reply("", fault=LOST, reason="error"))
    [prompt] = conversation.add_reply(1, reply("two"))  # type: ignore[misc]
    assert isinstance(prompt, Prompt) and prompt.turns[0].parts == (" and two",)
    assert conversation.notices == ["a part of it has no answer: no memory"]
    conversation = talk(Draft())
    conversation.begin()
    conversation.add_reply(0, reply("", fault=LOST, reason="error"))
    assert conversation.add_reply(1, reply("", fault=LOST, reason="error")) == LOST


def test_a_failed_look_at_a_page_the_other_way_up_is_no_page_without_an_answer() -> None:
    limits = ModelLimits(8192, 128, 64, x_height=10.0)
    conversation = Conversation(Ocr(), Media((FRAME,), limits=limits), Generate())
    conversation.begin()
    line = Line(Box(0, 0, 60, 20), (Word(Box(0, 0, 60, 20)),), 10.0, 15)
    page = Page(1, 100, 100, (Region("text", Box(0, 0, 60, 20), (line,)),))
    conversation.add_reply(0, Reply("", Finish("stop"), page))
    [request] = conversation.add_reply(0, reply("wrong", confidence=0.6))  # type: ignore[misc]
    assert isinstance(request, PageRequest) and request.half_turn
    answer = conversation.add_reply(0, reply("", fault=LOST, reason="error"))
    assert isinstance(answer, Answer) and answer.text == "wrong"
    assert conversation.notices == ["page 1 was not read the other way up: no memory"]


def test_an_answer_may_say_how_it_ended() -> None:
    class Second(Draft):
        def steps(self, media: Media) -> Steps:
            replies = yield [Prompt.user("a"), Prompt.user("b")]
            return Answer(replies[1].text, finish=replies[1].finish)

    conversation = talk(Second(), max_tokens=9)
    conversation.begin()
    conversation.add_reply(0, reply("on and on", new=9, reason="length"))
    assert conversation.totals.is_cut
    conversation.add_reply(1, reply("fine"))
    assert (conversation.totals.finish_reason, conversation.totals.is_cut) == ("stop", False)
    assert conversation.totals.tokens.new == 10


def test_a_task_that_needs_every_reply_fails_with_one_of_them() -> None:
    conversation = talk(Ask("One?", also=("Two?",)))
    conversation.begin()
    assert conversation.add_reply(1, reply("two")) == ()
    assert conversation.add_reply(0, reply("", fault=LOST, reason="error")) == LOST
    assert conversation.totals.confidence is None


def test_pieces_are_held_back_while_they_may_become_a_blank_reply() -> None:
    conversation = talk(Ocr())
    conversation.begin()
    assert [conversation.add_piece(piece) for piece in ("(no", " ", "exit)", "!")] == ["", "", "(no exit)", "!"]
    blank = talk(Ocr())
    blank.begin()
    assert [blank.add_piece(piece) for piece in ("(no", " text)")] == ["", ""]
    assert blank.add_reply(0, reply("(no text)")) == Answer("", finish=Finish("stop"))


def test_of_doctags_the_text_of_whole_elements_is_shown() -> None:
    conversation = Conversation(Ocr(), Media((FrameRef(0, 9, 9),)), Generate())
    conversation.begin()
    pieces = ["<doctag>", "<title>", "<loc_1><loc_2><loc_3><loc_4>", "Ne", "ws", "</title>", "\n<text>", "It <b> is"]
    pieces += ["</te", "xt>", "</doctag>"]
    shown = [conversation.add_piece(piece) for piece in pieces]
    assert shown == ["", "", "", "", "", "News", "", "", "\n\nIt <b> is", "", ""]


def test_pieces_of_drafts_and_of_several_replies_at_once_are_not_shown() -> None:
    for task in (Draft(), Ask("One?", also=("Two?",))):
        conversation = talk(task)
        conversation.begin()
        assert conversation.add_piece("a") == ""


class Fussy(Task):
    """Asks nothing at first, and fails when it has been sent nothing."""

    def steps(self, media: Media) -> Steps:
        assert (yield []) == []
        raise InputError("the question does not fit", "shorten it", kind=ErrorKind.TOO_LONG)


def test_a_step_without_prompts_goes_on_and_an_error_of_the_task_is_a_fault() -> None:
    assert talk(Fussy()).begin() == Fault(ErrorKind.TOO_LONG, "the question does not fit; shorten it")


def test_a_reply_to_a_schema_is_an_object_or_a_fault() -> None:
    conversation = talk(Ask("What?"), schema='{"type": "object"}')
    conversation.begin()
    assert conversation.add_reply(0, reply('{"a": 1}')) == Answer('{"a": 1}', {"a": 1})
    conversation = talk(Ask("What?"), schema='{"type": "object"}')
    conversation.begin()
    outcome = conversation.add_reply(0, reply('{"a": ', reason="length"))
    assert isinstance(outcome, Fault) and outcome.kind is ErrorKind.SCHEMA


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (["A cat", " s"], ["A c", "at s", "its", "."], "A cat sits."),  # in other pieces, as its own prompt was alone
        (["A cat", " s"], ["A cat", " lies."], "A cat s"),  # the writer shows the whole text after it
        (["A cat", " s"], ["B", "ut"], "A cat s"),
        (["(no"], ["(no", " exit)"], "(no exit)"),
        ([], ["A cat"], "A cat"),
    ],
)
def test_what_was_shown_before_a_restart_is_not_shown_again(before: list[str], after: list[str], shown: str) -> None:
    conversation = talk(Ocr())
    conversation.begin()
    pieces = [conversation.add_piece(piece) for piece in before]
    conversation.restart()
    pieces += [conversation.add_piece(piece) for piece in after]
    assert "".join(pieces) == shown
