"""Answers prompts on a backend, as many at once as it has slots."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from smolcli.errors import EngineError, SmolError
from smolcli.generation.repetition import RepetitionGuard
from smolcli.system.memory import is_out_of_memory
from smolcli.types import Fault, Finish, Piece, Prompt, Seconds

NO_PENALTY = 1.0


AHEAD = 4  # prompts of a backend with slots that are prepared ahead


SMALL = 2**16  # pixels of a prompt that are cut sooner than another thread is woken


PENALTY = 1.3  # for a reply that is tried again; CTRL's authors take 1.2 for every text


Prepared = TypeVar("Prepared")  # a prompt, its pictures cut and its text made tokens


Preparing = Callable[[], tuple[Prepared, float]]  # gives it, and the seconds that it took


# Of one reply; sent True for a piece when it repeats itself: it ends as "repetition". Between them, what it needs of
# the slots, for which it is sent scores.
Pieces = Generator[Any, Any, None]


MakeReply = Callable[[int, Prepared, float], Pieces]  # of an index, what was prepared, and the penalty


@dataclass(frozen=True)
class PrefillRequest(Generic[Prepared]):
    """What a reply asks for first: a slot, and the scores after its prompt; with the answer it is `size` tokens."""

    prepared: Prepared
    size: int


class SequenceSlots(Protocol[Prepared]):
    """What evaluates several replies at once. Each is known by its index; scores are as the backend has them."""

    @property
    def most(self) -> int:
        """The replies that may be under way."""
        ...

    def has_room(self, index: int, size: int) -> bool:
        """Whether it may begin, with so many tokens, beside those under way; it may be under way itself."""
        ...

    def begin(self, index: int, asked: PrefillRequest[Prepared], ready: Sequence[Prepared]) -> Any:
        """The scores after a prompt; `ready` are the next ones, of which a part may be done along with it."""
        ...

    def step(self, tokens: Mapping[int, int]) -> Mapping[int, Any]:
        """The scores of each reply after one more token, good until the next call; none of one that was lost."""
        ...

    def end(self, index: int) -> None:
        """The reply is done, whether it began or not."""
        ...


def schedule(
    prompts: Iterable[Prompt | None],
    prepare: Callable[[Prompt], Prepared],
    reply: MakeReply[Prepared],
    may_loop: bool = False,
    slots: SequenceSlots[Prepared] | None = None,
) -> Iterator[Piece]:
    """`generate` of a backend: one prompt at a time, or with `slots` as many as they are.

    `prepare` runs in a thread of its own, for the next prompts while replies are under way; its time is part of the
    reply's `media`. `reply` makes the pieces of one prompt and leaves empty ones out; with slots it also gives out
    Begin, and each token it has chosen, and is sent the scores. Both may raise anything. With `may_loop` none is
    stopped. New prompts begin as soon as there is a place for them, between two tokens of the others.
    """
    ahead = _Ahead(prompts, prepare, 1 if slots is None else AHEAD)
    numbers = count()
    live: list[_Live[Prepared]] = []
    try:
        while True:
            has_place = len(live) < (slots.most if slots else 1) and not any(one.waits for one in live)
            if has_place and (preparing := ahead.take(wait=not live)) is not None:
                index = next(numbers)
                yield Piece(index, "")
                ahead.look()
                live.append(_Live(index, _never_raising(index, preparing, reply, may_loop), ahead))
                yield from live[-1].go_on(None)
            yield from _begun(live, slots, ahead)
            live = _under_way(live, slots)
            if tokens := {one.index: one.request for one in live if isinstance(one.request, int)}:
                assert slots is not None
                yield from _stepped(live, tokens, slots)
            live = _under_way(live, slots)
            if not live and ahead.is_done:
                return
    finally:
        for one in live:
            one.close()
            if slots is not None:
                slots.end(one.index)
        ahead.close()


def _under_way(live: Sequence[_Live[Prepared]], slots: SequenceSlots[Prepared] | None) -> list[_Live[Prepared]]:
    """Those that are not done; the places of the others are free."""
    for one in live:
        if one.request is None and slots is not None:
            slots.end(one.index)
    return [one for one in live if one.request is not None]


def _begun(
    live: Sequence[_Live[Prepared]], slots: SequenceSlots[Prepared] | None, ahead: _Ahead[Prepared]
) -> Iterator[Piece]:
    """Gives those a slot that wait for one, if there is room, or once nothing else is under way."""
    for one in live:
        while isinstance(one.request, PrefillRequest):
            assert slots is not None
            if not slots.has_room(one.index, one.request.size) and any(
                isinstance(other.request, int) for other in live
            ):
                return
            try:
                scores = slots.begin(one.index, one.request, ahead.ready())
            except Exception as error:
                yield from one.fail(error)
            else:
                yield from one.go_on(scores)
        if one.request is None and slots is not None:
            slots.end(one.index)  # now: the next one may have waited for its place


def _stepped(
    live: Sequence[_Live[Prepared]], tokens: Mapping[int, int], slots: SequenceSlots[Prepared]
) -> Iterator[Piece]:
    under_way = [one for one in live if one.index in tokens]
    try:
        scores = slots.step(tokens)
    except Exception as error:
        for one in under_way:
            yield from one.fail(error)
        return
    for one in under_way:
        if one.index in scores:
            yield from one.go_on(scores[one.index])
        else:
            yield from one.fail(
                EngineError("the reply was lost when others needed its place", "run it again with -j 1")
            )


def prompt_too_long(tokens: int, context: int) -> Fault:
    """For a prompt of `tokens` tokens and a model whose context holds `context`."""
    message = f"the prompt has {tokens} tokens, the model's context holds {context}; use --detail low, or fewer words"
    return Fault("too-long", message)


class _Live(Generic[Prepared]):
    """A reply under way, and what it asks for: nothing once it is done."""

    def __init__(self, index: int, reply: Generator[Any, Any, None], ahead: _Ahead[Prepared]) -> None:
        self.index, self._reply, self._ahead = index, reply, ahead
        self.request: PrefillRequest[Prepared] | int | None = None

    @property
    def waits(self) -> bool:
        """Whether it has no slot yet."""
        return isinstance(self.request, PrefillRequest)

    def go_on(self, scores: Any) -> Iterator[Piece]:
        """The pieces until it asks for something again."""
        return self._pieces(lambda: self._reply.send(scores))

    def fail(self, error: Exception) -> Iterator[Piece]:
        """The pieces of its end: what it asked for could not be done."""
        return self._pieces(lambda: self._reply.throw(error))

    def close(self) -> None:
        """Ends it wherever it is."""
        self._reply.close()

    def _pieces(self, resume: Callable[[], Any]) -> Iterator[Piece]:
        self.request = None
        try:
            while isinstance(item := resume(), Piece):
                yield item
                if item.finish is None:  # afterwards nothing may be under way, and nothing may be what is ready
                    self._ahead.look()
                resume = partial(next, self._reply)
            self.request = item
        except StopIteration:
            pass


class _Ahead(Generic[Prepared]):
    """The next prompts, at most `most`, taken and prepared while those before them are answered."""

    def __init__(self, prompts: Iterable[Prompt | None], prepare: Callable[[Prompt], Prepared], most: int) -> None:
        self._prompts, self._prepare, self._most = iter(prompts), prepare, most
        self._pool = ThreadPoolExecutor(1, "prepare")
        self._next: deque[_Preparing[Prepared]] = deque()
        self._ended = False

    @property
    def is_done(self) -> bool:
        """Whether there is none any more."""
        return self._ended and not self._next

    def look(self) -> None:
        """Takes what is ready, while there is room."""
        while len(self._next) < self._most and not self._ended:
            try:
                prompt = next(self._prompts)
            except StopIteration:
                self._ended = True
                return
            if prompt is None:
                return
            self._next.append(_Preparing(self._pool, self._prepare, prompt))

    def take(self, wait: bool) -> _Preparing[Prepared] | None:
        """The next prompt; None after the last, and without `wait` where it is not prepared."""
        if not self._next:
            self.look()
        if wait and not self._next and not self._ended:
            raise RuntimeError("None was given while no reply was under way")
        return self._next.popleft() if self._next and (wait or self._next[0].is_done) else None

    def ready(self) -> list[Prepared]:
        """What is prepared of the next prompts."""
        return [one.value for one in self._next if one.value is not None]

    def close(self) -> None:
        """Waits for what is being prepared, which may be using the model's files."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class _Preparing(Generic[Prepared]):
    """A prompt that is prepared, in another thread where that is worth it, else when it is asked for."""

    def __init__(self, pool: ThreadPoolExecutor, prepare: Callable[[Prompt], Prepared], prompt: Prompt) -> None:
        self._prepare, self._prompt = prepare, prompt
        self.value: Prepared | None = None
        self._seconds = 0.0
        large = sum(frame.width * frame.height for frame in prompt.frames) > SMALL
        self._future = pool.submit(self._timed) if large else None

    @property
    def is_done(self) -> bool:
        """Whether it may be had without waiting for another thread."""
        return self._future is None or self._future.done()

    def __call__(self) -> tuple[Prepared, float]:
        """What was prepared, and the seconds that it took. Raises what preparing it raised."""
        if self._future is None:
            self._timed()
        else:
            self._future.result()
        assert self.value is not None
        return self.value, self._seconds

    def _timed(self) -> None:
        begun = time.perf_counter()
        self.value = self._prepare(self._prompt)
        self._seconds = time.perf_counter() - begun


class _Attempt(NamedTuple):
    """One attempt at a reply: its text, its last piece, and where its loop is cut, None where it ended by itself."""

    text: str
    last: Piece
    cut: int | None


def _never_raising(index: int, preparing: Preparing[Prepared], reply: MakeReply[Prepared], may_loop: bool) -> Pieces:
    try:
        yield from _guarded(index, preparing, reply, may_loop)
    except Exception as error:  # one prompt's failure costs that prompt alone
        yield Piece(index, "", Finish("error", fault=_fault(error)))


def _guarded(index: int, preparing: Preparing[Prepared], reply: MakeReply[Prepared], may_loop: bool) -> Pieces:
    """The pieces of a reply, of a looping one those of its first attempt and the whole text of the better one."""
    prepared, media = preparing()
    first = yield from _attempt(reply(index, prepared, NO_PENALTY), shown=True, may_loop=may_loop)
    finish = _ended(first)
    finish = replace(finish, seconds=finish.seconds + Seconds(media=media))
    if first.cut is None:
        yield Piece(index, first.last.text, finish)
        return
    second = yield from _attempt(reply(index, prepared, PENALTY), shown=False)
    better = _ended(second)
    reason, text = better.reason, second.text
    if second.cut is not None:
        reason, text = "repetition", first.text[: first.cut]
    tokens, seconds = finish.tokens + better.tokens, finish.seconds + better.seconds
    yield Piece(index, "", Finish(reason, tokens, seconds, better.fault, text))


def _attempt(pieces: Pieces, shown: bool, may_loop: bool = False) -> Generator[Any, Any, _Attempt]:
    """Hands the pieces on as they come, without their text where it is not to be shown, and stops a loop."""
    guard = RepetitionGuard()
    with closing(pieces):
        piece = yield from _next_piece(pieces, None)
        while piece.finish is None:
            yield piece if shown else replace(piece, text="")
            piece = yield from _next_piece(pieces, guard.add(piece.text) and not may_loop)
    guard.add(piece.text)
    if piece.finish.reason == "length":
        guard.look()
    ended_by_itself = piece.finish.reason in ("stop", "error")
    return _Attempt(guard.text, piece, None if ended_by_itself or may_loop else guard.cut)


def _next_piece(pieces: Pieces, given: Any) -> Generator[Any, Any, Piece]:
    """Hands on what the reply needs of the slots, and to it what is sent for that."""
    while not isinstance(item := pieces.send(given), Piece):
        given = yield item
    return item


def _ended(attempt: _Attempt) -> Finish:
    assert attempt.last.finish is not None
    return attempt.last.finish


def _fault(error: Exception) -> Fault:
    if isinstance(error, SmolError):
        return Fault(error.kind, str(error))
    if is_out_of_memory(error):
        return Fault("memory", "the engine is out of memory; use a smaller model, --detail low or -j 1")
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return Fault("engine", f"the engine failed on it ({what[:300]}); run it alone with -v and report it")
