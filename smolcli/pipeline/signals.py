"""What Ctrl-C does to a run."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from smolcli.executors.base import Executor
from smolcli.terminal.console import Console


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
