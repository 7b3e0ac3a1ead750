"""generation/scheduler.py without slots: the order of pieces, preparing ahead, retries; with models made by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator

import pytest

from smolcli.generation import scheduler
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.scheduler import NO_PENALTY, RETRY_PENALTY, ReplySteps, schedule
from smolcli.types import Finish, FinishReason, Piece, Prompt, Reply, Seconds, Tokens

TOKENS = Tokens(prompt=7, image=3)
SECONDS = Seconds(encode=1.0, decode=2.0)
TIMEOUT = 30  # seconds


@pytest.fixture(autouse=True)
def prepare_every_prompt_in_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MIN_THREADED_PIXELS", -1)


def first_word(prompt: Prompt) -> str:
    return str(prompt.turns[0].parts[0])


def to_prompts(words: Iterable[str | None]) -> Iterator[Prompt | None]:
    return (None if word is None else Prompt.user(word) for word in words)


def make_model(
    texts: Callable[[str, float], Iterable[str]], reason: FinishReason = "stop"
) -> Callable[..., ReplySteps]:
    """Return a make_reply whose pieces are `texts(word, penalty)`; it ends early when it is sent True."""

    def reply(index: int, prepared: str, penalty: float) -> ReplySteps:
        new, finish_reason = 0, reason
        for text in texts(prepared, penalty):
            new += 1
            if (yield Piece(index, text)):
                finish_reason = "repetition"
                break
        yield Piece(index, "", Finish(finish_reason, Tokens(TOKENS.prompt, TOKENS.image, new), SECONDS))

    return reply


def run(words: Iterable[str | None], reply: Callable[..., ReplySteps]) -> tuple[list[Piece], list[Reply]]:
    """Answer `words`; return all pieces and the complete replies."""
    collector, pieces, replies = ReplyCollector(), [], []
    for piece in schedule(to_prompts(words), first_word, reply):
        pieces.append(piece)
        if complete := collector.add(piece):
            replies.append(complete)
    return pieces, replies


# ---- the order of events -------------------------------------------------------------------------


def test_the_first_piece_comes_before_the_model_runs() -> None:
    events: list[str] = []

    def reply(index: int, prepared: str, penalty: float) -> ReplySteps:
        events.append(f"encode {prepared}")
        yield Piece(index, "x")
        yield Piece(index, "y", Finish("stop"))

    for piece in schedule(to_prompts(["a", "b"]), first_word, reply):
        events.append(f"{piece.index}{piece.text}")
    assert events == ["0", "encode a", "0x", "0y", "1", "encode b", "1x", "1y"]


def test_one_prompt_is_taken_ahead_after_the_first_piece() -> None:
    log: list[str] = []

    def source() -> Iterator[Prompt]:
        for word in "abc":
            log.append(f"take {word}")
            yield Prompt.user(word)

    for piece in schedule(source(), first_word, make_model(lambda text, _: [text])):
        log.append(f"{piece.index}{piece.text}{'.' if piece.finish else ''}")
    assert log == ["take a", "0", "take b", "0a", "0.", "1", "take c", "1b", "1.", "2", "2c", "2."]


def test_the_source_is_asked_again_at_each_piece_and_may_yield_none_while_a_reply_is_running() -> None:
    running: set[int] = set()
    script = iter(["a", None, None, "b", None, None, None, "c"])
    taken = 0

    def source() -> Iterator[Prompt | None]:
        nonlocal taken
        for word in script:
            if word is None:
                if running:
                    yield None
                continue
            running.add(taken)
            taken += 1
            yield Prompt.user(word)

    log = []
    for piece in schedule(source(), first_word, make_model(lambda text, _: [text, text, text])):
        log.append((piece.index, piece.text))
        if piece.finish:
            running.remove(piece.index)
    assert [text for _, text in log] == ["", *"aaa", "", "", *"bbb", "", "", *"ccc", ""]
    assert taken == 3


def test_none_while_no_reply_is_running_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="yielded None while no reply was running"):
        list(schedule(to_prompts([None]), first_word, make_model(lambda text, _: [text])))


def test_a_prompt_is_prepared_in_a_thread_while_a_reply_is_running() -> None:
    """The reply to a ends only after b is prepared."""
    prepared = threading.Event()
    threads = set()

    def prepare(prompt: Prompt) -> str:
        threads.add(threading.current_thread())
        if first_word(prompt) == "b":
            prepared.set()
        return first_word(prompt)

    def texts(text: str, penalty: float) -> Iterator[str]:
        yield "first"
        assert text == "b" or prepared.wait(TIMEOUT)
        yield "last"

    collector = ReplyCollector()
    replies = [collector.add(piece) for piece in schedule(to_prompts("ab"), prepare, make_model(texts))]
    assert [reply.finish.reason for reply in replies if reply] == ["stop", "stop"]
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_the_seconds_of_preparing_are_the_media_of_its_own_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def prepare(prompt: Prompt) -> str:
        clock[0] += {"slow": 5.0, "quick": 0.25}[first_word(prompt)]
        return first_word(prompt)

    collector = ReplyCollector()
    pieces = schedule(to_prompts(["slow", "quick"]), prepare, make_model(lambda text, _: [text]))
    slow, quick = [reply.finish.seconds for piece in pieces if (reply := collector.add(piece))]
    assert (slow.media, quick.media) == (5.0, 0.25)
    assert (slow.encode, slow.decode) == (SECONDS.encode, SECONDS.decode)


def test_a_prompt_that_cannot_be_prepared_does_not_affect_the_others() -> None:
    def prepare(prompt: Prompt) -> str:
        if first_word(prompt) in ("bad", "worse"):
            raise {"bad": ValueError("a\nb"), "worse": MemoryError()}[first_word(prompt)]
        return first_word(prompt)

    collector = ReplyCollector()
    pieces = schedule(to_prompts(["a", "bad", "worse", "b"]), prepare, make_model(lambda text, _: [text]))
    replies = [reply for piece in pieces if (reply := collector.add(piece))]
    assert [reply.text for reply in replies] == ["a", "", "", "b"]
    assert [reply.finish.fault and reply.finish.fault.kind for reply in replies] == [None, "engine", "memory", None]


def test_an_exception_of_the_source_is_raised_and_not_a_fault_of_the_running_reply() -> None:
    def source() -> Iterator[Prompt]:
        yield Prompt.user("a")
        raise OSError("the pipe is gone")

    with pytest.raises(OSError, match="the pipe is gone"):
        list(schedule(source(), first_word, make_model(lambda text, _: [text])))


def test_closing_waits_for_the_prompt_being_prepared_and_ends_the_reply() -> None:
    started, release, log = threading.Event(), threading.Event(), []

    def prepare(prompt: Prompt) -> str:
        if first_word(prompt) == "b":
            started.set()
            release.wait(TIMEOUT)
            log.append("prepared")
        return first_word(prompt)

    def reply(index: int, prepared: str, penalty: float) -> ReplySteps:
        try:
            yield Piece(index, "x")
        finally:
            log.append("reply ended")

    pieces = schedule(to_prompts("ab"), prepare, reply)
    assert isinstance(pieces, Generator)
    assert [next(pieces).text for _ in range(2)] == ["", "x"]
    assert started.wait(TIMEOUT)
    closer = threading.Thread(target=lambda: (pieces.close(), log.append("closed")))
    closer.start()
    release.set()
    closer.join(TIMEOUT)
    assert sorted(log[:2]) == ["prepared", "reply ended"]
    assert log[2:] == ["closed"]


# ---- retries -------------------------------------------------------------------------------------

LOOP = ["I see a dog. "] + ["It is a dog. "] * 1000


def test_a_loop_that_the_penalty_breaks_is_replaced_by_the_second_attempt() -> None:
    penalties: list[float] = []

    def texts(text: str, penalty: float) -> list[str]:
        penalties.append(penalty)
        return LOOP if penalty == NO_PENALTY else ["One dog, ", "on a lawn."]

    pieces, [reply] = run(["a"], make_model(texts))
    assert penalties == [NO_PENALTY, RETRY_PENALTY]
    assert (reply.text, reply.finish.reason) == ("One dog, on a lawn.", "stop")
    yielded = "".join(piece.text for piece in pieces)
    assert "".join(LOOP).startswith(yielded)
    assert 200 < len(yielded) < 400  # stopped soon after the loop was long enough
    new = sum(bool(piece.text) for piece in pieces) + 2
    assert reply.finish.tokens == Tokens(2 * TOKENS.prompt, 2 * TOKENS.image, new)
    assert (reply.finish.seconds.encode, reply.finish.seconds.decode) == (2 * SECONDS.encode, 2 * SECONDS.decode)
    assert sum(piece.finish is not None for piece in pieces) == 1
    assert [piece.text for piece in pieces[-3:]] == ["", "", ""]  # an empty piece for each piece of the second attempt


def test_the_finish_reason_is_that_of_the_second_attempt() -> None:
    def texts(text: str, penalty: float) -> list[str]:
        return LOOP if penalty == NO_PENALTY else ["half an ans"]

    _, [reply] = run(["a"], make_model(texts, "length"))
    assert (reply.text, reply.finish.reason) == ("half an ans", "length")


def test_a_loop_that_the_penalty_does_not_break_is_cut() -> None:
    _, [reply, other] = run(["a", "b"], make_model(lambda text, _: LOOP if text == "a" else ["fine"]))
    assert (reply.text, reply.finish.reason, reply.finish.fault) == ("I see a dog. It is a dog.", "repetition", None)
    assert (other.text, other.finish.reason, other.finish.text) == ("fine", "stop", None)


@pytest.mark.parametrize("length", [200, 201, 215, 223])
def test_a_text_cut_off_by_max_tokens_may_be_a_loop_and_one_that_ends_by_itself_is_not(length: int) -> None:
    """Where the last check was at 192 characters."""
    unit = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
    text = ("." + unit * 9)[:length]
    endings: list[tuple[FinishReason, bool]] = [("length", length > 200), ("stop", False)]
    for reason, is_loop in endings:
        attempts: list[float] = []

        def texts(word: str, penalty: float, attempts: list[float] = attempts) -> str:
            attempts.append(penalty)
            return text

        _, [reply] = run(["a"], make_model(texts, reason))
        assert len(attempts) == 1 + is_loop
        assert (reply.finish.reason, reply.text == text) == ("repetition" if is_loop else reason, not is_loop)


def test_an_exception_in_the_second_attempt_is_the_fault_of_the_reply() -> None:
    def texts(text: str, penalty: float) -> Iterator[str]:
        if penalty != NO_PENALTY:
            raise MemoryError
        yield from LOOP

    _, [reply] = run(["a"], make_model(texts))
    assert reply.finish.fault is not None and reply.finish.fault.kind == "memory"


def test_the_next_prompt_is_taken_during_a_second_attempt() -> None:
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
        log.append("end")  # of b only: the attempts at a are stopped

    collector = ReplyCollector()
    replies = [reply for piece in schedule(source(), first_word, make_model(texts)) if (reply := collector.add(piece))]
    assert [reply.finish.reason for reply in replies] == ["repetition", "stop"]
    assert log == ["attempt", "attempt", "take b", "attempt", "end"]
