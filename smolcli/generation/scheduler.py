"""The scheduler: `generate` of every backend, by the rules of backends/base.py.

It takes prompts, prepares the next ones in a thread, starts a reply whenever a sequence slot is free, and advances all
running replies by one token at a time. A reply is a generator that the backend makes (`ReplySteps`): it yields pieces
of text and, if the backend evaluates several sequences at once, requests to its slots.

    reply yields                   scheduler calls                        reply is sent
    PrefillRequest(prepared, n)    slots.prefill(index, request, ...)     the logits after the prompt
    17 (the token it sampled)      slots.decode({index: 17, ...})         the logits after that token
    Piece(index, " cat")           nothing; the piece is passed on        whether the reply repeats itself without end

A backend without slots evaluates one sequence at a time: its replies compute their logits themselves and yield pieces
only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from smolcli.errors import EngineError, ErrorKind, SmolError
from smolcli.generation.repetition import RepetitionGuard
from smolcli.system.memory import is_out_of_memory
from smolcli.types import Fault, Finish, Piece, Prompt, Seconds

if TYPE_CHECKING:  # the echo backend needs no numpy
    from smolcli.generation.sampler import Logits

NO_PENALTY = 1.0
RETRY_PENALTY = 1.3  # for a reply that is tried again; CTRL's authors use 1.2 for every text
PREFETCHED_PROMPTS = 4  # prompts prepared ahead by a backend with slots; without slots it is 1
MIN_THREADED_PIXELS = 2**16  # pixels of a prompt; with fewer, cutting tiles takes less time than waking a thread

# A prompt as a backend prepares it: its pictures cut into tiles, its text tokenized.
PreparedPrompt = TypeVar("PreparedPrompt")


@dataclass(frozen=True)
class PrefillRequest(Generic[PreparedPrompt]):
    """The first request of a reply: a slot, and the logits after its prompt.

    `max_length` is the most tokens that prompt and reply will have together.
    """

    prepared: PreparedPrompt
    max_length: int


SlotRequest = PrefillRequest[Any] | int  # a prefill, or the token that was sampled
# One attempt at a reply, as the table above shows. After it is sent True for a piece it ends with the reason
# "repetition".
ReplySteps = Generator["Piece | SlotRequest", "bool | Logits | None", None]
MakeReply = Callable[[int, PreparedPrompt, float], ReplySteps]  # of an index, a prepared prompt and a penalty


class SequenceSlots(Protocol[PreparedPrompt]):
    """What evaluates several sequences at once. A sequence is named by the index of its reply.

    Logits are float32 numpy arrays of shape (vocab_size,), valid until the next call.
    """

    @property
    def max_sequences(self) -> int:
        """The number of slots."""
        ...

    def can_prefill(self, index: int, max_length: int) -> bool:
        """Return whether a sequence of `max_length` tokens fits beside the running ones.

        `index` may be running already: its slot counts as free.
        """
        ...

    def prefill(
        self, index: int, request: PrefillRequest[PreparedPrompt], upcoming: Sequence[PreparedPrompt]
    ) -> Logits:
        """Evaluate a prompt in a slot and return the logits after it. Raises EngineError.

        `upcoming` are the next prepared prompts; tiles of theirs may be encoded in the same batch.
        """
        ...

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        """Append one token to each sequence of `tokens` and return the logits after it, by index. Raises EngineError.

        A sequence that was lost is missing from the result.
        """
        ...

    def release(self, index: int) -> None:
        """Free the slot of a reply, if it has one."""
        ...


def schedule(
    prompts: Iterable[Prompt | None],
    prepare: Callable[[Prompt], PreparedPrompt],
    make_reply: MakeReply[PreparedPrompt],
    may_repeat: bool = False,
    slots: SequenceSlots[PreparedPrompt] | None = None,
) -> Iterator[Piece]:
    """Answer `prompts`, one at a time or, with `slots`, as many at once as there are slots.

    `prepare` runs in a thread while other replies are running; its seconds are the reply's `media`. `make_reply`
    starts one attempt at a reply. Both may raise any exception, which becomes the fault of that reply alone. With
    `may_repeat` no reply is stopped for repeating itself. A waiting prompt starts between two tokens of the running
    replies, as soon as a slot is free.
    """
    prefetcher = Prefetcher(prompts, prepare, 1 if slots is None else PREFETCHED_PROMPTS)
    indices = count()
    active: list[ActiveReply[PreparedPrompt]] = []
    try:
        while True:
            has_free_slot = len(active) < (slots.max_sequences if slots else 1) and not any(
                reply.is_waiting for reply in active
            )
            if has_free_slot and (pending := prefetcher.take(wait=not active)) is not None:
                index = next(indices)
                yield Piece(index, "")
                prefetcher.fill()
                active.append(ActiveReply(index, _run_reply(index, pending, make_reply, may_repeat), prefetcher))
                yield from active[-1].resume(None)
            yield from _prefill_waiting(active, slots, prefetcher)
            active = _release_finished(active, slots)
            if tokens := {reply.index: reply.request for reply in active if isinstance(reply.request, int)}:
                assert slots is not None
                yield from _decode_step(active, tokens, slots)
            active = _release_finished(active, slots)
            if not active and prefetcher.is_exhausted:
                return
    finally:
        for reply in active:
            reply.close()
            if slots is not None:
                slots.release(reply.index)
        prefetcher.close()


def _release_finished(
    active: Sequence[ActiveReply[PreparedPrompt]], slots: SequenceSlots[PreparedPrompt] | None
) -> list[ActiveReply[PreparedPrompt]]:
    """Release the slots of finished replies; return the others."""
    for reply in active:
        if reply.is_finished and slots is not None:
            slots.release(reply.index)
    return [reply for reply in active if not reply.is_finished]


def _prefill_waiting(
    active: Sequence[ActiveReply[PreparedPrompt]],
    slots: SequenceSlots[PreparedPrompt] | None,
    prefetcher: Prefetcher[PreparedPrompt],
) -> Iterator[Piece]:
    """Prefill the waiting replies that fit beside the running ones, or one that does not fit once none is running."""
    for reply in active:
        while isinstance(reply.request, PrefillRequest):
            assert slots is not None
            is_any_running = any(isinstance(other.request, int) for other in active)
            if is_any_running and not slots.can_prefill(reply.index, reply.request.max_length):
                return
            try:
                logits = slots.prefill(reply.index, reply.request, prefetcher.prepared())
            except Exception as error:
                yield from reply.fail(error)
            else:
                yield from reply.resume(logits)
        if reply.is_finished and slots is not None:
            slots.release(reply.index)  # now, since the next reply may be waiting for this slot


def _decode_step(
    active: Sequence[ActiveReply[PreparedPrompt]], tokens: Mapping[int, int], slots: SequenceSlots[PreparedPrompt]
) -> Iterator[Piece]:
    """Advance each reply of `tokens` by one token."""
    running = [reply for reply in active if reply.index in tokens]
    try:
        logits = slots.decode(tokens)
    except Exception as error:
        for reply in running:
            yield from reply.fail(error)
        return
    for reply in running:
        if reply.index in logits:
            yield from reply.resume(logits[reply.index])
        else:
            lost = EngineError("the reply was lost when others needed its place", "run it again with -j 1")
            yield from reply.fail(lost)


def prompt_too_long(tokens: int, context_length: int) -> Fault:
    """Return the fault of a prompt of `tokens` tokens for a model whose context holds `context_length`."""
    message = (
        f"the prompt has {tokens} tokens, the model's context holds {context_length}; use --detail low, or fewer words"
    )
    return Fault(ErrorKind.TOO_LONG, message)


class ActiveReply(Generic[PreparedPrompt]):
    """A reply that has begun, and its pending request to the slots: None once it is finished."""

    def __init__(self, index: int, steps: ReplySteps, prefetcher: Prefetcher[PreparedPrompt]) -> None:
        self.index, self._steps, self._prefetcher = index, steps, prefetcher
        self.request: SlotRequest | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it has no slot yet."""
        return isinstance(self.request, PrefillRequest)

    @property
    def is_finished(self) -> bool:
        """Whether its last piece was yielded."""
        return self.request is None

    def resume(self, logits: Logits | None) -> Iterator[Piece]:
        """Send the logits it requested, and yield its pieces up to the next request; None starts it."""
        return self._run(lambda: self._steps.send(logits))

    def fail(self, error: Exception) -> Iterator[Piece]:
        """Raise `error` at its pending request, and yield its last pieces."""
        return self._run(lambda: self._steps.throw(error))

    def close(self) -> None:
        """End it before it is finished."""
        self._steps.close()

    def _run(self, step: Callable[[], Piece | SlotRequest]) -> Iterator[Piece]:
        self.request = None
        try:
            while isinstance(item := step(), Piece):
                yield item
                if item.finish is None:  # after a finish no reply may be running, and then prompts may not yield None
                    self._prefetcher.fill()
                step = partial(next, self._steps)
            self.request = item
        except StopIteration:
            pass


class Prefetcher(Generic[PreparedPrompt]):
    """Takes at most `limit` prompts ahead and prepares them while the replies before them are running."""

    def __init__(
        self, prompts: Iterable[Prompt | None], prepare: Callable[[Prompt], PreparedPrompt], limit: int
    ) -> None:
        self._prompts, self._prepare, self._limit = iter(prompts), prepare, limit
        self._pool = ThreadPoolExecutor(1, "prepare")
        self._pending: deque[PendingPrompt[PreparedPrompt]] = deque()
        self._is_ended = False

    @property
    def is_exhausted(self) -> bool:
        """Whether every prompt was taken."""
        return self._is_ended and not self._pending

    def fill(self) -> None:
        """Take the prompts that are ready now, up to the limit."""
        while len(self._pending) < self._limit and not self._is_ended:
            try:
                prompt = next(self._prompts)
            except StopIteration:
                self._is_ended = True
                return
            if prompt is None:
                return
            self._pending.append(PendingPrompt(self._pool, self._prepare, prompt))

    def take(self, wait: bool) -> PendingPrompt[PreparedPrompt] | None:
        """Return the next prompt; None after the last one, and None if it is not prepared yet, unless `wait`."""
        if not self._pending:
            self.fill()
        if wait and not self._pending and not self._is_ended:
            raise RuntimeError("the prompts yielded None while no reply was running")
        return self._pending.popleft() if self._pending and (wait or self._pending[0].is_ready) else None

    def prepared(self) -> list[PreparedPrompt]:
        """Return those of the next prompts that are prepared."""
        return [pending.prepared for pending in self._pending if pending.prepared is not None]

    def close(self) -> None:
        """Wait for the prompt that is being prepared: it may be using the model's files."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class PendingPrompt(Generic[PreparedPrompt]):
    """A prompt that is prepared in another thread if that is worth it, otherwise when it is asked for."""

    def __init__(self, pool: ThreadPoolExecutor, prepare: Callable[[Prompt], PreparedPrompt], prompt: Prompt) -> None:
        self._prepare, self._prompt = prepare, prompt
        self.prepared: PreparedPrompt | None = None
        self._seconds = 0.0
        is_threaded = sum(frame.width * frame.height for frame in prompt.frames) > MIN_THREADED_PIXELS
        self._future = pool.submit(self._run) if is_threaded else None

    @property
    def is_ready(self) -> bool:
        """Whether `result` would return without waiting for the other thread."""
        return self._future is None or self._future.done()

    def result(self) -> tuple[PreparedPrompt, float]:
        """Return the prepared prompt and the seconds that preparing took. Raises what `prepare` raised."""
        if self._future is None:
            self._run()
        else:
            self._future.result()
        assert self.prepared is not None
        return self.prepared, self._seconds

    def _run(self) -> None:
        started = time.perf_counter()
        self.prepared = self._prepare(self._prompt)
        self._seconds = time.perf_counter() - started


class Attempt(NamedTuple):
    """One attempt at a reply. `cut` is where its loop is cut off; None if it ended by itself."""

    text: str
    last_piece: Piece
    cut: int | None

    @property
    def finish(self) -> Finish:
        """How the attempt ended."""
        assert self.last_piece.finish is not None
        return self.last_piece.finish


def _run_reply(
    index: int, pending: PendingPrompt[PreparedPrompt], make_reply: MakeReply[PreparedPrompt], may_repeat: bool
) -> ReplySteps:
    """Yield the steps of a reply. An exception becomes the fault of its finish."""
    try:
        yield from _run_attempts(index, pending, make_reply, may_repeat)
    except Exception as error:
        yield Piece(index, "", Finish("error", fault=_to_fault(error)))


def _run_attempts(
    index: int, pending: PendingPrompt[PreparedPrompt], make_reply: MakeReply[PreparedPrompt], may_repeat: bool
) -> ReplySteps:
    """Run the first attempt, and a second one with a penalty if the first repeated itself without end.

    The finish then has the text of the second attempt, or, if that repeated itself too, of the first without its loop.
    """
    prepared, media_seconds = pending.result()
    first = yield from _run_attempt(make_reply(index, prepared, NO_PENALTY), is_shown=True, may_repeat=may_repeat)
    finish = replace(first.finish, seconds=first.finish.seconds + Seconds(media=media_seconds))
    if first.cut is None:
        yield Piece(index, first.last_piece.text, finish)
        return
    second = yield from _run_attempt(make_reply(index, prepared, RETRY_PENALTY), is_shown=False)
    reason, text = second.finish.reason, second.text
    if second.cut is not None:
        reason, text = "repetition", first.text[: first.cut]
    tokens, seconds = finish.tokens + second.finish.tokens, finish.seconds + second.finish.seconds
    yield Piece(index, "", Finish(reason, tokens, seconds, second.finish.fault, text))


def _run_attempt(
    steps: ReplySteps, is_shown: bool, may_repeat: bool = False
) -> Generator[Piece | SlotRequest, bool | Logits | None, Attempt]:
    """Run one attempt and stop it if it repeats itself; its pieces have no text unless `is_shown`."""
    guard = RepetitionGuard()
    with closing(steps):
        piece = yield from _next_piece(steps, None)
        while piece.finish is None:
            yield piece if is_shown else replace(piece, text="")
            piece = yield from _next_piece(steps, guard.add(piece.text) and not may_repeat)
    guard.add(piece.text)
    if piece.finish.reason == "length":
        guard.check()
    ended_by_itself = piece.finish.reason in ("stop", "error")
    return Attempt(guard.text, piece, None if ended_by_itself or may_repeat else guard.cut)


def _next_piece(
    steps: ReplySteps, value: bool | Logits | None
) -> Generator[Piece | SlotRequest, bool | Logits | None, Piece]:
    """Send `value` to a reply; pass its requests up and the logits down until it yields a piece."""
    while not isinstance(item := steps.send(value), Piece):
        value = yield item
    return item


def _to_fault(error: Exception) -> Fault:
    if isinstance(error, SmolError):
        return Fault(error.kind, str(error))
    if is_out_of_memory(error):
        return Fault(ErrorKind.MEMORY, "the engine is out of memory; use a smaller model, --detail low or -j 1")
    description = " ".join(f"{type(error).__name__}: {error}".split())
    return Fault(ErrorKind.ENGINE, f"the engine failed on it ({description[:300]}); run it alone with -v and report it")
