"""base.py: one prompt at a time, the next prepared meanwhile, loops cut and tried again; with models made by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from smolcli.generation import scheduler
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.scheduler import NO_PENALTY, PENALTY, Pieces, schedule
from smolcli.types import Finish, FinishReason, Piece, Prompt, Reply, Seconds, Tokens

COST = Tokens(prompt=7, image=3)
TIME = Seconds(encode=1.0, decode=2.0)
WAIT = 30  # seconds, after which a test has failed


@pytest.fixture(autouse=True)
def every_prompt_is_worth_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SMALL", -1)


def word(prompt: Prompt) -> str:
    return str(prompt.turns[0].parts[0])


def asked(words: Iterable[str | None]) -> Iterator[Prompt | None]:
    return (None if each is None else Prompt.user(each) for each in words)


def says(texts: Callable[[str, float], Iterable[str]], reason: FinishReason = "stop") -> Callable[..., Pieces]:
    """A model that answers a word with pieces of text, whatever the penalty is to it, and stops when it is told."""

    def reply(index: int, prepared: str, penalty: float) -> Pieces:
        new, why = 0, reason
        for text in texts(prepared, penalty):
            new += 1
            if (yield Piece(index, text)):
                why = "repetition"
                break
        yield Piece(index, "", Finish(why, Tokens(COST.prompt, COST.image, new), TIME))

    return reply


def run(words: Iterable[str | None], reply: Callable[..., Pieces]) -> tuple[list[Piece], list[Reply]]:
    joined, pieces, replies = ReplyCollector(), [], []
    for piece in schedule(asked(words), word, reply):
        pieces.append(piece)
        if whole := joined.add(piece):
            replies.append(whole)
    return pieces, replies


# ---- the order of things -------------------------------------------------------------------------


def test_the_first_piece_comes_when_work_begins_and_before_the_model_is_asked() -> None:
    done: list[str] = []

    def reply(index: int, prepared: str, penalty: float) -> Pieces:
        done.append(f"encode {prepared}")
        yield Piece(index, "x")
        yield Piece(index, "y", Finish("stop"))

    for piece in schedule(asked(["a", "b"]), word, reply):
        done.append(f"{piece.index}{piece.text}")
    assert done == ["0", "encode a", "0x", "0y", "1", "encode b", "1x", "1y"]


def test_the_next_prompt_is_taken_once_work_has_begun_and_never_more_than_one() -> None:
    log: list[str] = []

    def source() -> Iterator[Prompt]:
        for each in "abc":
            log.append(f"take {each}")
            yield Prompt.user(each)

    for piece in schedule(source(), word, says(lambda text, _: [text])):
        log.append(f"{piece.index}{piece.text}{'.' if piece.finish else ''}")
    assert log == ["take a", "0", "take b", "0a", "0.", "1", "take c", "1b", "1.", "2", "2c", "2."]


def test_it_is_asked_again_at_each_piece_while_nothing_is_ready_and_never_given_none_while_idle() -> None:
    under_way: set[int] = set()
    script = iter(["a", None, None, "b", None, None, None, "c"])
    taken = 0

    def source() -> Iterator[Prompt | None]:
        nonlocal taken
        for each in script:
            if each is None:
                if under_way:
                    yield None
                continue
            under_way.add(taken)
            taken += 1
            yield Prompt.user(each)

    log = []
    for piece in schedule(source(), word, says(lambda text, _: [text, text, text])):
        log.append((piece.index, piece.text))
        if piece.finish:
            under_way.remove(piece.index)
    assert [text for _, text in log] == ["", *"aaa", "", "", *"bbb", "", "", *"ccc", ""]
    assert taken == 3


def test_none_while_nothing_is_under_way_is_a_fault_of_the_caller() -> None:
    with pytest.raises(RuntimeError, match="None was given"):
        list(schedule(asked([None]), word, says(lambda text, _: [text])))


def test_preparing_runs_beside_the_reply_under_way() -> None:
    """The reply to a ends only after b is prepared, and b is prepared in another thread."""
    prepared = threading.Event()
    threads = set()

    def prepare(prompt: Prompt) -> str:
        threads.add(threading.current_thread())
        if word(prompt) == "b":
            prepared.set()
        return word(prompt)

    def texts(text: str, penalty: float) -> Iterator[str]:
        yield "first"
        assert text == "b" or prepared.wait(WAIT)
        yield "last"

    joined = ReplyCollector()
    replies = [joined.add(piece) for piece in schedule(asked("ab"), prepare, says(texts))]
    assert [reply.finish.reason for reply in replies if reply] == ["stop", "stop"]
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_the_time_of_preparing_is_media_of_its_own_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    format_time = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: format_time[0])

    def prepare(prompt: Prompt) -> str:
        format_time[0] += {"slow": 5.0, "quick": 0.25}[word(prompt)]
        return word(prompt)

    joined = ReplyCollector()
    pieces = schedule(asked(["slow", "quick"]), prepare, says(lambda text, _: [text]))
    slow, quick = [reply.finish.seconds for piece in pieces if (reply := joined.add(piece))]
    assert (slow.media, quick.media) == (5.0, 0.25)
    assert (slow.encode, slow.decode) == (TIME.encode, TIME.decode)


def test_a_prompt_that_cannot_be_prepared_costs_itself_alone() -> None:
    def prepare(prompt: Prompt) -> str:
        if word(prompt) in ("bad", "worse"):
            raise {"bad": ValueError("a\nb"), "worse": MemoryError()}[word(prompt)]
        return word(prompt)

    joined = ReplyCollector()
    pieces = schedule(asked(["a", "bad", "worse", "b"]), prepare, says(lambda text, _: [text]))
    replies = [reply for piece in pieces if (reply := joined.add(piece))]
    assert [reply.text for reply in replies] == ["a", "", "", "b"]
    assert [reply.finish.fault and reply.finish.fault.kind for reply in replies] == [None, "engine", "memory", None]


def test_what_the_source_raises_is_not_taken_for_a_failure_of_the_reply_under_way() -> None:
    def source() -> Iterator[Prompt]:
        yield Prompt.user("a")
        raise OSError("the pipe is gone")

    with pytest.raises(OSError, match="the pipe is gone"):
        list(schedule(source(), word, says(lambda text, _: [text])))


def test_closing_waits_for_what_is_being_prepared_and_ends_the_reply() -> None:
    begun, release, log = threading.Event(), threading.Event(), []

    def prepare(prompt: Prompt) -> str:
        if word(prompt) == "b":
            begun.set()
            release.wait(WAIT)
            log.append("prepared")
        return word(prompt)

    def reply(index: int, prepared: str, penalty: float) -> Pieces:
        try:
            yield Piece(index, "x")
        finally:
            log.append("reply ended")

    pieces = schedule(asked("ab"), prepare, reply)
    assert [next(pieces).text for _ in range(2)] == ["", "x"]
    assert begun.wait(WAIT)
    closer = threading.Thread(target=lambda: (pieces.close(), log.append("closed")))
    closer.start()
    release.set()
    closer.join(WAIT)
    assert sorted(log[:2]) == ["prepared", "reply ended"]
    assert log[2:] == ["closed"]


# ---- loops ---------------------------------------------------------------------------------------

LOOP = ["I see a dog. "] + ["It is a dog. "] * 1000


def test_a_loop_that_the_penalty_breaks_is_answered_by_the_second_attempt() -> None:
    penalties: list[float] = []

    def texts(text: str, penalty: float) -> list[str]:
        penalties.append(penalty)
        return LOOP if penalty == NO_PENALTY else ["One dog, ", "on a lawn."]

    pieces, [reply] = run(["a"], says(texts))
    assert penalties == [NO_PENALTY, PENALTY]
    assert (reply.text, reply.finish.reason) == ("One dog, on a lawn.", "stop")
    shown = "".join(piece.text for piece in pieces)
    assert "".join(LOOP).startswith(shown)
    assert 200 < len(shown) < 400  # told to stop soon after the loop was long enough
    new = sum(bool(piece.text) for piece in pieces) + 2
    assert reply.finish.tokens == Tokens(2 * COST.prompt, 2 * COST.image, new)
    assert (reply.finish.seconds.encode, reply.finish.seconds.decode) == (2 * TIME.encode, 2 * TIME.decode)
    assert sum(piece.finish is not None for piece in pieces) == 1
    assert [piece.text for piece in pieces[-3:]] == ["", "", ""]  # a sign of life for each piece of the second


def test_the_second_attempt_ends_as_it_ends() -> None:
    def texts(text: str, penalty: float) -> list[str]:
        return LOOP if penalty == NO_PENALTY else ["half an ans"]

    _, [reply] = run(["a"], says(texts, "length"))
    assert (reply.text, reply.finish.reason) == ("half an ans", "length")


def test_a_loop_that_nothing_breaks_is_cut() -> None:
    _, [reply, other] = run(["a", "b"], says(lambda text, _: LOOP if text == "a" else ["fine"]))
    assert (reply.text, reply.finish.reason, reply.finish.fault) == ("I see a dog. It is a dog.", "repetition", None)
    assert (other.text, other.finish.reason, other.finish.text) == ("fine", "stop", None)


@pytest.mark.parametrize("length", [200, 201, 215, 223])
def test_a_text_that_runs_out_of_tokens_in_a_loop_is_one_and_a_text_that_ends_by_itself_is_none(length: int) -> None:
    """Where the last look was at 192 characters."""
    unit = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
    text = ("." + unit * 9)[:length]
    for reason, looping in (("length", length > 200), ("stop", False)):
        attempts: list[float] = []
        _, [reply] = run(["a"], says(lambda _, penalty, to=attempts: to.append(penalty) or text, reason))
        assert len(attempts) == 1 + looping
        assert (reply.finish.reason, reply.text == text) == ("repetition" if looping else reason, not looping)


def test_a_failure_of_the_second_attempt_is_told() -> None:
    def texts(text: str, penalty: float) -> Iterator[str]:
        if penalty != NO_PENALTY:
            raise MemoryError
        yield from LOOP

    _, [reply] = run(["a"], says(texts))
    assert reply.finish.fault is not None and reply.finish.fault.kind == "memory"


def test_the_next_prompt_is_taken_during_a_second_attempt_too() -> None:
    log: list[str] = []

    def source() -> Iterator[Prompt | None]:
        yield Prompt.user("a")
        while log.count("attempt") < 2:
            yield None
        log.append("take b")
        yield Prompt.user("b")

    def texts(text: str, penalty: float) -> Iterator[str]:
        log.append("attempt")
        yield from LOOP if text == "a" else ["b"]
        log.append("end")  # of b alone: the others are stopped

    joined = ReplyCollector()
    replies = [reply for piece in schedule(source(), word, says(texts)) if (reply := joined.add(piece))]
    assert [reply.finish.reason for reply in replies] == ["repetition", "stop"]
    assert log == ["attempt", "attempt", "take b", "attempt", "end"]
