"""pipeline/signals.py: what Ctrl-C does to a run, and what it does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator

import pytest

from smolcli.pipeline.signals import interruptible
from smolcli.terminal.console import Console
from smolcli.types import Item


class Busy:
    """An executor that is at work."""

    is_idle = False
    is_stopping = False

    def run(self, source: Iterable[Item]) -> None: ...

    def stop(self) -> None:
        self.is_stopping = True


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_finishes_what_was_begun_and_the_second_stops_at_once() -> None:
    executor = Busy()
    with interruptible(executor, Console(quiet=True)) as interrupted:
        assert not interrupted()
        press_ctrl_c()
        assert interrupted() and executor.is_stopping
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts programs after `trap '' INT`
    executor = Busy()
    with interruptible(executor, Console(quiet=True)) as interrupted:
        press_ctrl_c()
        press_ctrl_c()
        assert not interrupted() and not executor.is_stopping
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
