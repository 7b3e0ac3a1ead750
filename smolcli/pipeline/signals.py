"""Ctrl-C: the first finishes what is under way, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from smolcli.executors.base import Executor
from smolcli.terminal.console import Console

if TYPE_CHECKING:
    pass


@contextlib.contextmanager
def interruptible(executor: Executor, console: Console) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C lets what is under way finish; the second, or one while nothing is, stops at once.

    Gives a function that says whether there was one.
    """
    hit = False

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal hit
        if hit or executor.is_idle:
            raise KeyboardInterrupt
        hit = True
        executor.stop()
        console.notice("finishing what is under way; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: hit
    finally:
        signal.signal(signal.SIGINT, before)
