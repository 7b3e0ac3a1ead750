"""The progress of a run on standard error: a line that changes on a terminal, one line a minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from threading import Lock, Thread

from tqdm import tqdm

from smolcli.terminal.console import Console, printable
from smolcli.types import pluralize

LOG_SECONDS = 60.0  # between two lines in a log
REFRESH_SECONDS = 0.1  # between two changes of the line on a terminal


class Progress:
    """Counts finished inputs and shows how many are left.

    `survey` yields growing totals (inputs, bytes) while a thread walks the folders; the last ones are the total.
    `answers_shown` says that the answers go to the same terminal: then there is no line that changes.
    """

    def __init__(self, console: Console, survey: Iterable[tuple[int, int]], answers_shown: bool = False) -> None:
        self._console = console
        self._survey = survey
        self._started_at = self._logged_at = time.monotonic()
        self._refreshed_at = 0.0
        self._lock = Lock()  # skipped inputs are counted in the thread that finds them
        self._done = self._failed = self._skipped = self._tokens = 0
        self._total: int | None = None  # inputs, known when the survey has ended
        self._counted = self._bytes = 0  # by the survey so far
        self._bar: tqdm[None] | None = None
        if sys.stderr.isatty() and not answers_shown:
            layout = "{n_fmt}/{total_fmt}{desc} {percentage:3.0f}% {elapsed}<{remaining} {rate_fmt}{postfix}"
            self._bar = tqdm(unit="", bar_format=layout, dynamic_ncols=True, leave=False, smoothing=0.1)
            console.status_line = self._bar
        self.survey_thread = Thread(target=self._count, daemon=True)
        self.survey_thread.start()

    def record(self, path: str, tokens: int, failed: bool) -> None:
        """Count one record of `tokens` new tokens, which `failed` or not."""
        with self._lock:
            self._failed += failed
            self._tokens += tokens
            self._step(path)

    def show_video_progress(self, path: str, done: int, of: int, frames: int) -> None:
        """Show that `done` of the `of` notes on a video of `frames` frames have been made."""
        with self._lock:
            notes = f"{done} of {pluralize(of, 'note')}, " if of > 1 else ""
            self._show(f"{path} ({notes}{pluralize(frames, 'frame')})")

    def skip(self, path: str) -> None:
        """Count one input that has a record from an earlier run."""
        with self._lock:
            self._skipped += 1
            self._step(path)

    def clear(self) -> None:
        """Remove the line until the next change, before an answer is written to the same terminal."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """Remove the line and, after more than one input, print the totals."""
        if self._bar is not None:
            self._console.status_line = None
            self._bar.close()
            if self._done > 1:
                self._console.notice(self._summary("at the end", time.monotonic()))

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
            self._bar.set_postfix_str(self._rates(path, now), refresh=False)
            if now - self._refreshed_at >= REFRESH_SECONDS:
                self._refreshed_at = now
                self._bar.refresh()
        elif now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            self._console.notice(self._summary(path, now))

    def _rates(self, path: str, now: float) -> str:
        return (
            f"{self._failed} failed, {self._tokens / max(now - self._started_at, 1e-9):.0f} tokens/s, {printable(path)}"
        )

    def _summary(self, path: str, now: float) -> str:
        rate = (self._done - self._skipped) / (now - self._started_at)
        total = f" of {self._total} ({self._bytes / 1e6:.1f} MB)" if self._total else ""
        left = ""
        if self._total and rate:
            seconds = max(0, self._total - self._done) / rate
            left = f", {timedelta(seconds=round(seconds))} left"
        return f"{self._done}{total} done, {rate:.2f} a second{left}, {self._rates(path, now)}"

    def _count(self) -> None:
        try:
            for count, size in self._survey:
                self._counted, self._bytes = count, size
        except Exception:
            return  # the same error is raised, and reported, where the inputs are opened
        self._total = self._counted or None
