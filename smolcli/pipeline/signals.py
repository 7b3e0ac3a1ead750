"""What signals do to a run: Ctrl-C ends it, SIGUSR1 has it print its progress."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from smolcli.executors.base import Executor
from smolcli.terminal.console import Console

if TYPE_CHECKING:
    from smolcli.terminal.progress import Progress

# Ctrl-T sends SIGINFO, which only BSD and macOS have.
PROGRESS_SIGNALS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGINFO") if hasattr(signal, name))


@contextlib.contextmanager
def interruptible(executor: Executor, console: Console) -> Iterator[Callable[[], bool]]:
    """Handles Ctrl-C: the first lets the executor finish what the model has begun, the second stops at once.

    The first one stops at once too if the executor is idle. Yields a function that says whether Ctrl-C was pressed.
    Raises KeyboardInterrupt to stop at once. Where this process was started with SIGINT ignored, as by a script after
    `trap '' INT`, it stays ignored.
    """
    was_interrupted = False

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal was_interrupted
        if was_interrupted or executor.is_idle:
            raise KeyboardInterrupt
        was_interrupted = True
        executor.stop()
        console.notice("finishing what the model has begun; Ctrl-C again stops at once")

    handler_before = signal.getsignal(signal.SIGINT)
    if handler_before is signal.SIG_IGN:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: was_interrupted
    finally:
        signal.signal(signal.SIGINT, handler_before)


@contextlib.contextmanager
def printed_on_signal(progress: Progress) -> Iterator[None]:
    """Has SIGUSR1 print the progress, for a run whose log has only a line a minute."""
    handlers = {number: signal.signal(number, lambda *_: progress.print()) for number in PROGRESS_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
