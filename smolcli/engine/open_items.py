"""The items that are open in the engine's process: the memory that they hold, and the prompts that wait for them.

Prompts are answered in the order of their items, and items are opened in the order in which they came. Every wait for
an item or for its memory is here, so this page says why it ends:

- An opener waits while open items hold too many bytes. These are freed when the prompts about the items are prepared,
  which waits for no memory, and when the items are released. The owner may ask nothing before an opening is answered:
  where the model has nothing to do, the pixels of items without prompts are freed, and the first item that is not open
  is opened whatever is held.
- The model waits, if it has nothing else to do, for a prompt about an item that is open.
- A thread that looks for what is on a page waits until its item is open or released.
- A thread that prepares a prompt or looks at a page waits until no other one decodes pictures of the same item, and
  then while too many pixels are decoded and not cut. Those that decode and cut them wait for nothing more.

The other waits: a thread for a progress cell (progress_cells.py), the scheduler for a prompt that is being prepared
(generation/prefetcher.py), and an opener for an item to open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from threading import Condition, Lock
from typing import NamedTuple

from smolcli.errors import InputError
from smolcli.inputs.frame_source import FrameSource
from smolcli.types import Prompt

# Bytes of pixels, and of files that cannot be read again. No other item is opened while open items hold as many. Beside
# these there may be the items that OPENERS threads are opening, and files that came through a pipe and wait to be
# opened. A photograph of 12 megapixels has 36 MB of pixels: of any number that are asked about at a time, those of
# 7 + OPENERS, 396 MB, are in memory. The others are tiles; generation/prefetcher.py bounds those that wait.
MAX_HELD_BYTES = 2**28
# Bytes of pixels that are decoded, of prompts that are not cut into tiles yet and of pages whose lines are looked for;
# a request with more than that goes on alone.
MAX_DECODED_BYTES = 2**29


class QueuedPrompt(NamedTuple):
    """A prompt that waits; they are sorted by item, and within an item as they came."""

    number: int
    arrival: int  # how many prompts came before it
    slot: int
    prompt: Prompt


@dataclass
class HeldItem:
    """An item that was sent and is not released: `source` is None while it waits to be opened, or is being opened."""

    source: FrameSource | None = None
    held: int = 0  # bytes of memory
    may_let_go: bool = True  # whether it was decoded, or opened, since its pixels were freed
    unprepared: int = 0  # requests about it that have come and are not prepared
    decoding: Lock = field(default_factory=Lock)  # decoders are not thread-safe


class OpenItems:
    """Keeps the items by their numbers, from `add` to `release`. Safe in several threads.

    About `max_held` bytes are held at most, as the comment on MAX_HELD_BYTES says, and `max_decoded` for prompts.
    """

    def __init__(self, max_held: int | None = None, max_decoded: int | None = None) -> None:
        self._max_held = MAX_HELD_BYTES if max_held is None else max_held
        self._max_decoded = MAX_DECODED_BYTES if max_decoded is None else max_decoded
        self._decoded = 0  # bytes that are reserved for pixels of prompts and pages that are being prepared
        self._items: dict[int, HeldItem] = {}
        self._prompts: list[QueuedPrompt] = []  # a heap
        self._arrivals = count()
        self._is_model_idle = False  # whether the model waits for a prompt, with nothing else to do
        self._changed = Condition()  # guards everything here

    # ---- an item is opened and released ----------------------------------------------------------------

    def add(self, number: int) -> None:
        """Note that an item is to be opened."""
        with self._changed:
            self._items[number] = HeldItem()

    def wait_to_open(self, number: int) -> bool:
        """Wait until there is memory for an item. Returns False if it was released meanwhile."""
        with self._changed:
            while number in self._items and self._held >= self._max_held:
                if self._is_model_idle:
                    if unasked := self._unasked:
                        self._let_go(unasked)
                        continue
                    if number == self._first_unopened:
                        break
                self._changed.wait()
            return number in self._items

    @property
    def _unasked(self) -> HeldItem | None:
        """An open item that has no prompts and holds pixels; they are decoded again where prompts come."""
        items = (item for item in self._items.values() if item.source is not None)
        return next((item for item in items if item.may_let_go and not item.unprepared), None)

    def _let_go(self, item: HeldItem) -> None:
        """Free the pixels of an item, unless a thread decodes them, which then has its own request prepared.

        A source may wait for its library, as a PDF does while another one is drawn. So `_changed`, which is held here,
        is released meanwhile; `decoding` is never waited for by a thread that holds it.
        """
        assert item.source is not None
        item.may_let_go = False
        if not item.decoding.acquire(blocking=False):
            return
        self._changed.release()
        try:
            item.source.let_go()
        finally:
            self._changed.acquire()
            item.held = item.source.held
            item.decoding.release()
            self._changed.notify_all()

    @property
    def _first_unopened(self) -> int | None:
        return next((number for number, item in self._items.items() if item.source is None), None)

    def opened(self, number: int, source: FrameSource) -> None:
        """Note that an item is open, unless it was released meanwhile."""
        with self._changed:
            if (item := self._items.get(number)) is not None:
                item.source, item.held = source, source.held
                self._changed.notify_all()

    def release(self, number: int) -> None:
        """Forget an item, also one that cannot be opened, and its prompts. Threads that decode it finish that."""
        with self._changed:
            self._items.pop(number, None)
            self._changed.notify_all()

    @property
    def _held(self) -> int:
        return sum(item.held for item in self._items.values())

    # ---- prompts about it ------------------------------------------------------------------------------

    def ask(self, number: int, slot: int, prompt: Prompt) -> None:
        """Queue a prompt about an item."""
        with self._changed:
            if (item := self._items.get(number)) is not None:
                item.unprepared += 1
                heappush(self._prompts, QueuedPrompt(number, next(self._arrivals), slot, prompt))
                self._changed.notify_all()

    def ask_page(self, number: int) -> None:
        """Note that a page of an item is to be looked at: until `found_page` its pixels are not freed."""
        with self._changed:
            if (item := self._items.get(number)) is not None:
                item.unprepared += 1

    def found_page(self, number: int, reserved: int = 0) -> None:
        """Note that a page was looked at, or cannot be. What is held of it stays: prompts about it follow."""
        with self._changed:
            self._decoded -= reserved
            self._changed.notify_all()
            if (item := self._items.get(number)) is not None:
                item.unprepared -= 1

    def next_prompt(self, wait: bool) -> QueuedPrompt | None:
        """Take the first prompt, if its item is open; else wait, or return None."""
        with self._changed:
            while (prompt := self._take()) is None and wait:
                self._is_model_idle = True
                self._changed.notify_all()
                self._changed.wait()
            self._is_model_idle = False
            return prompt

    def _take(self) -> QueuedPrompt | None:
        while self._prompts:
            item = self._items.get(self._prompts[0].number)
            if item is not None and item.source is None:
                return None
            prompt = heappop(self._prompts)
            if item is not None:  # else it was released
                return prompt
        return None

    # ---- its pictures are decoded ----------------------------------------------------------------------

    @contextmanager
    def decoding(self, number: int, size: int = 0) -> Iterator[FrameSource]:
        """Have the source of an open item for this thread alone, and `size` bytes reserved for what it decodes.

        They stay reserved until `prepared` or `found_page`. Raises InputError if the item was released.
        """
        with self._changed:
            # Requests about an item come before it is open where another child goes on with it.
            self._changed.wait_for(lambda: number not in self._items or self._items[number].source is not None)
            item = self._items.get(number)
        if item is None or item.source is None:
            raise InputError("was released before it was looked at")
        with item.decoding:
            with self._changed:
                self._changed.wait_for(lambda: not self._decoded or self._decoded + size <= self._max_decoded)
                self._decoded += size
            try:
                yield item.source
            finally:
                with self._changed:
                    item.held, item.may_let_go = item.source.held, True

    def resize(self, reserved: int, size: int) -> None:
        """Reserve `size` bytes in the place of `reserved`, now that the size is known."""
        with self._changed:
            self._decoded += size - reserved
            self._changed.notify_all()

    def prepared(self, number: int, reserved: int = 0) -> None:
        """Note that a prompt was prepared, or cannot be; after the last one the item's pixels are freed."""
        with self._changed:
            self._decoded -= reserved
            item = self._items.get(number)
            if item is not None and item.source is not None:
                item.unprepared -= 1
                if not item.unprepared:
                    self._let_go(item)
            self._changed.notify_all()
