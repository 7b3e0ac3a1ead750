"""Takes prompts ahead and prepares them in threads, while the model works on those before them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from smolcli.backends.base import PreparedPrompt
from smolcli.system.cpu import usable_cores
from smolcli.types import FrameRef, Prompt

Prepare = Callable[[int, Prompt], PreparedPrompt]  # of the prompt's index

# Bytes of pixels and tiles of prompts that wait for a slot: no other prompt is taken while there are more.
MAX_PREFETCHED_BYTES = 2**28
# Prompts a thread that are being prepared or wait for it: how many tiles they will be is not known before.
MAX_UNPREPARED = 4
MIN_THREADED_PIXELS = 2**16  # pixels of a prompt; with fewer, cutting tiles takes less time than waking a thread
BYTES_PER_PIXEL = 3


class Prefetcher:
    """Takes at most `limit` prompts ahead, numbers them from 0, and prepares them, a thread a core.

    It does not look at what a prompt is about: `prepare` may read and decode its pictures. A prompt is dropped, with
    its pixels, as soon as it is prepared.
    """

    def __init__(self, prompts: Iterable[Prompt | None], prepare: Prepare, limit: int) -> None:
        self._prompts, self._prepare, self._limit = iter(prompts), prepare, limit
        threads = usable_cores()
        self._pool, self._max_unprepared = ThreadPoolExecutor(threads, "prepare"), MAX_UNPREPARED * threads
        self._pending: deque[PendingPrompt] = deque()
        self._taken = 0
        self._is_ended = False

    @property
    def is_exhausted(self) -> bool:
        """Whether every prompt was taken and given out."""
        return self._is_ended and not self._pending

    def fill(self) -> None:
        """Take the prompts that are ready now, up to the limits of number and bytes."""
        while not self._is_ended and self._has_space:
            try:
                prompt = next(self._prompts)
            except StopIteration:
                self._is_ended = True
                return
            if prompt is None:
                return
            self._pending.append(PendingPrompt(self._taken, prompt, self._prepare, self._pool))
            self._taken += 1

    def take(self, wait: bool) -> PendingPrompt | None:
        """Return the next prompt; None after the last one, and None if it is not prepared yet, unless `wait`."""
        self.fill()
        if wait and not self._pending and not self._is_ended:
            raise RuntimeError("the prompts yielded None while no reply was running")
        return self._pending.popleft() if self._pending and (wait or self._pending[0].is_ready) else None

    def prepared(self) -> list[PreparedPrompt]:
        """Return those of the next prompts that are prepared."""
        return [pending.prepared for pending in self._pending if pending.prepared is not None]

    def close(self) -> None:
        """Wait for the prompts that are being prepared: they may be using the model's files."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _has_space(self) -> bool:
        return (
            len(self._pending) < self._limit
            and sum(not pending.is_ready for pending in self._pending) < self._max_unprepared
            and sum(pending.held_bytes for pending in self._pending) < MAX_PREFETCHED_BYTES
        )


class PendingPrompt:
    """A prompt that is prepared in another thread if that is worth it, otherwise when it is asked for."""

    def __init__(self, index: int, prompt: Prompt, prepare: Prepare, pool: ThreadPoolExecutor) -> None:
        self.index, self.prepared = index, None
        self._prompt: Prompt | None = prompt
        self._prepare = prepare
        self._seconds = 0.0
        sizes = [frame.width * frame.height for frame in prompt.frames]
        self.held_bytes = BYTES_PER_PIXEL * sum(sizes)
        # The size of a page is not known yet; and a page of which a part is wanted may have to be decoded again.
        has_page = any(isinstance(frame, FrameRef) and frame.crop for frame in prompt.frames)
        is_threaded = has_page or 0 in sizes or sum(sizes) > MIN_THREADED_PIXELS
        self._future = pool.submit(self._run) if is_threaded else None

    prepared: PreparedPrompt | None

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
        assert self._prompt is not None
        started = time.perf_counter()
        prompt, self._prompt = self._prompt, None
        prepared = self._prepare(self.index, prompt)
        self._seconds = time.perf_counter() - started
        self.held_bytes = sum(map(len, prepared.tiles))
        self.prepared = prepared
