"""The seam between smolcli and whatever runs a model.

    with closing(Backend(files, model_options)) as backend:
        prompts = [Prompt.user(frame, "What is this?"), Prompt.user(frame, "How many?")]
        for piece in backend.generate(prompts, Generate(max_tokens=20)):
            print(piece.index, piece.text, piece.finish)

A backend streams both ways: it takes the next prompt when it has a free slot, or to prepare it while it is at work on
another, and hands out each piece as soon as it is made; replies may interleave. `index` counts the prompts in the
order taken. A prompt that cannot be answered ends in a piece whose finish has a fault; it never raises for one prompt
what would cost the others.

The first piece of an index, which may be empty, comes when work on that prompt begins, before its pictures are
encoded: it is how the caller knows what is being worked on. A prompt taken ahead has none until then.

The iterable may give None: nothing is ready before a reply under way is finished, or nothing is ready yet. A backend
with replies under way goes on with them and asks again; it is never given None while it has none.

A reply that repeats itself without end (repetition.py) is stopped and tried once more with a penalty on what it has
said. What was shown cannot be taken back, so its finish has the whole text; its account is of both attempts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Generic, NamedTuple, Protocol, TypeVar

from smolcli.backends.repetition import Guard
from smolcli.errors import SmolError
from smolcli.models import ModelFiles
from smolcli.options import Generate
from smolcli.types import Fault, Finish, Piece, Prompt, Room, Seconds

NO_PENALTY = 1.0
SMALL = 2**16  # pixels of a prompt that are cut sooner than another thread is woken
FEWEST_WORDS = 4096  # tokens of a vocabulary that is not of letters
PENALTY = 1.3  # for a reply that is tried again; CTRL's authors take 1.2 for every text

Prepared = TypeVar("Prepared")  # a prompt, its pictures cut and its text made tokens
Preparing = Callable[[], tuple[Prepared, float]]  # gives it, and the seconds that it took
Pieces = Generator[Piece, bool, None]  # of one reply; sent True when it repeats itself: it ends as "repetition"
MakeReply = Callable[[int, Prepared, float], Pieces]  # of an index, what was prepared, and the penalty


def reads(vocabulary: int) -> bool:
    """Whether a model of so many tokens may understand a text; one of letters, as nano, knows nothing but pictures."""
    return vocabulary >= FEWEST_WORDS


class Backend(Protocol):
    """What a backend offers; its constructor takes `(files: ModelFiles, options: Model)`."""

    name: str

    @staticmethod
    def room(files: ModelFiles) -> Room:
        """What a model takes, from the heads of its files. Raises ModelError."""
        ...

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        """Answer every prompt; see the module's text for the order of things. `options.schema` is as
        schema.canonical makes it.

        Raises ModelError where the model cannot be loaded, EngineError where the engine cannot be kept running,
        UsageError where the schema cannot be enforced.
        """
        ...

    def close(self) -> None:
        """Free the model, after every iterator of `generate` is closed; the backend is of no use afterwards."""
        ...


def one_at_a_time(
    prompts: Iterable[Prompt | None], prepare: Callable[[Prompt], Prepared], reply: MakeReply[Prepared]
) -> Iterator[Piece]:
    """`generate` of a backend with one slot; `prepare` and `reply` may raise anything.

    `prepare` runs in a thread of its own, for the next prompt while `reply` is at work; its time is part of the
    reply's `media`. `reply` makes the pieces of one prompt and leaves empty ones out.
    """
    ahead = _Ahead(prompts, prepare)
    try:
        for index in count():
            preparing = ahead.take()
            if preparing is None:
                return
            yield Piece(index, "")
            ahead.look()
            for piece in _never_raising(index, preparing, reply):
                yield piece
                if piece.finish is None:  # afterwards nothing is under way, and nothing may be what is ready
                    ahead.look()
    finally:
        ahead.close()


def too_long(tokens: int, context: int) -> Fault:
    """For a prompt of `tokens` tokens and a model whose context holds `context`."""
    message = f"the prompt has {tokens} tokens, the model's context holds {context}; use --detail low"
    return Fault("too-long", message)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says so: Python's, PyTorch's on a GPU (a class) or on a CPU (a RuntimeError)."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


class _Ahead(Generic[Prepared]):
    """The next prompt, taken and prepared while the one before it is answered."""

    def __init__(self, prompts: Iterable[Prompt | None], prepare: Callable[[Prompt], Prepared]) -> None:
        self._prompts, self._prepare = iter(prompts), prepare
        self._pool = ThreadPoolExecutor(1, "prepare")
        self._next: Preparing[Prepared] | None = None
        self._ended = False

    def look(self) -> None:
        """Takes a prompt, if there is none yet and one is ready."""
        if self._next is not None or self._ended:
            return
        try:
            prompt = next(self._prompts)
        except StopIteration:
            self._ended = True
            return
        if prompt is not None:
            if sum(frame.width * frame.height for frame in prompt.frames) > SMALL:
                self._next = self._pool.submit(self._timed, prompt).result
            else:
                self._next = partial(self._timed, prompt)

    def take(self) -> Preparing[Prepared] | None:
        """The next prompt, waited for; None after the last."""
        self.look()
        if self._next is None and not self._ended:
            raise RuntimeError("None was given while no reply was under way")
        taken, self._next = self._next, None
        return taken

    def close(self) -> None:
        """Waits for what is being prepared, which may be using the model's files."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _timed(self, prompt: Prompt) -> tuple[Prepared, float]:
        begun = time.perf_counter()
        prepared = self._prepare(prompt)
        return prepared, time.perf_counter() - begun


class _Attempt(NamedTuple):
    """One attempt at a reply: its text, its last piece, and where its loop is cut, None where it ended by itself."""

    text: str
    last: Piece
    cut: int | None


def _never_raising(index: int, preparing: Preparing[Prepared], reply: MakeReply[Prepared]) -> Iterator[Piece]:
    try:
        yield from _guarded(index, preparing, reply)
    except Exception as error:  # one prompt's failure costs that prompt alone
        yield Piece(index, "", Finish("error", fault=_fault(error)))


def _guarded(index: int, preparing: Preparing[Prepared], reply: MakeReply[Prepared]) -> Iterator[Piece]:
    """The pieces of a reply, of a looping one those of its first attempt and the whole text of the better one."""
    prepared, media = preparing()
    first = yield from _attempt(reply(index, prepared, NO_PENALTY), shown=True)
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


def _attempt(pieces: Pieces, shown: bool) -> Generator[Piece, None, _Attempt]:
    """Hands the pieces on as they come, without their text where it is not to be shown, and stops a loop."""
    guard = Guard()
    with closing(pieces):
        piece = next(pieces)
        while piece.finish is None:
            yield piece if shown else replace(piece, text="")
            piece = pieces.send(guard.add(piece.text))
    guard.add(piece.text)
    if piece.finish.reason == "length":
        guard.look()
    ended_by_itself = piece.finish.reason in ("stop", "error")
    return _Attempt(guard.text, piece, None if ended_by_itself else guard.cut)


def _ended(attempt: _Attempt) -> Finish:
    assert attempt.last.finish is not None
    return attempt.last.finish


def _fault(error: Exception) -> Fault:
    if isinstance(error, SmolError):
        return Fault(error.kind, str(error))
    if is_out_of_memory(error):
        return Fault("memory", "the engine is out of memory; use a smaller model or --detail low")
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return Fault("engine", f"the engine failed on it ({what[:300]}); run it alone with -v and report it")
