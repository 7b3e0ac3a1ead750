"""How far a run is, on standard error: one line that changes on a terminal, one line a minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from threading import Lock, Thread

from tqdm import tqdm

from smolcli.terminal.console import Console, printable
from smolcli.types import pluralize

LOG_SECONDS = 60.0
SHOW_SECONDS = 0.1  # between two changes of the line


class Progress:
    """Counts records as they come; `survey` counts inputs and their bytes beforehand, in a thread of its own.

    Where the answers themselves go to a terminal, they are the progress.
    """

    def __init__(self, console: Console, survey: Iterable[tuple[int, int]], answers_shown: bool = False) -> None:
        self._console = console
        self._survey = survey
        self._begun = self._told = time.monotonic()
        self._shown = 0.0
        self._lock = Lock()  # inputs that are left out are counted in the thread that finds them
        self._done = self._failed = self._skipped = self._tokens = 0
        self._total: int | None = None  # once all are counted
        self._counted = self._bytes = 0
        self._bar: tqdm[None] | None = None
        if sys.stderr.isatty() and not answers_shown:
            layout = "{n_fmt}/{total_fmt}{desc} {percentage:3.0f}% {elapsed}<{remaining} {rate_fmt}{postfix}"
            self._bar = tqdm(unit="", bar_format=layout, dynamic_ncols=True, leave=False, smoothing=0.1)
            console.line = self._bar
        self.counting = Thread(target=self._count, daemon=True)
        self.counting.start()

    def record(self, path: str, tokens: int, failed: bool) -> None:
        """One more is done."""
        with self._lock:
            self._failed += failed
            self._tokens += tokens
            self._step(path)

    def part(self, path: str, done: int, of: int, frames: int) -> None:
        """Of a video that is looked at: the notes that are made, of how many."""
        with self._lock:
            notes = f"{done} of {pluralize(of, 'note')}, " if of > 1 else ""
            self._show(f"{path} ({notes}{pluralize(frames, 'frame')})")

    def skip(self, path: str) -> None:
        """One more had its answer already."""
        with self._lock:
            self._skipped += 1
            self._step(path)

    def clear(self) -> None:
        """Makes place for an answer on the same terminal."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """Takes the line away."""
        if self._bar is not None:
            self._console.line = None
            self._bar.close()
            if self._done > 1:
                self._console.notice(self._line("at the end", time.monotonic()))

    def _step(self, path: str) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        self._show(path)

    def _show(self, path: str) -> None:
        now = time.monotonic()
        if self._bar is not None:
            self._bar.total = self._total
            if self._total:
                self._bar.set_description_str(f" ({self._bytes / 1e6:.1f} MB)", refresh=False)
            self._bar.set_postfix_str(self._now(path, now), refresh=False)
            if now - self._shown >= SHOW_SECONDS:
                self._shown = now
                self._bar.refresh()
        elif now - self._told >= LOG_SECONDS:
            self._told = now
            self._console.notice(self._line(path, now))

    def _now(self, path: str, now: float) -> str:
        return f"{self._failed} failed, {self._tokens / max(now - self._begun, 1e-9):.0f} tokens/s, {printable(path)}"

    def _line(self, path: str, now: float) -> str:
        rate = (self._done - self._skipped) / (now - self._begun)
        of = f" of {self._total} ({self._bytes / 1e6:.1f} MB)" if self._total else ""
        left = ""
        if self._total and rate:
            seconds = max(0, self._total - self._done) / rate
            left = f", {timedelta(seconds=round(seconds))} left"
        return f"{self._done}{of} done, {rate:.2f} a second{left}, {self._now(path, now)}"

    def _count(self) -> None:
        try:
            for count, size in self._survey:
                self._counted, self._bytes = count, size
        except Exception:
            return  # what is wrong is told where the inputs are opened
        self._total = self._counted or None
