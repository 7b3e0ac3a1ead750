"""The progress of a run on standard error: a line that changes on a terminal, one line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from threading import RLock, Thread
from typing import TextIO

from smolcli.terminal.console import Console, printable
from smolcli.terminal.status_line import StatusLine, may_be_shown
from smolcli.terminal.stdout import AnswerStream
from smolcli.terminal.words import format_duration, format_rate
from smolcli.types import pluralize

LOG_SECONDS = 60.0  # between two lines in a log
REDRAW_SECONDS = 0.1  # between two drawings of the line for what was not written to the terminal
ETA_SECONDS = 120.0  # from the beginning, before the time left is told: loading and the first inputs mislead


class Progress:
    """Counts finished inputs and shows how many are left, how fast it goes and how long it takes.

    `survey` yields growing totals (inputs, bytes) while a thread walks the folders; the last ones are the total. `noun`
    is what an input is called. `answers` is standard output where the answers go there: on a terminal the line is kept
    below them.
    """

    def __init__(
        self,
        console: Console,
        survey: Iterable[tuple[int, int]],
        noun: str = "picture",
        answers: TextIO | None = None,
    ) -> None:
        self._console, self._survey, self._noun = console, survey, noun
        self._started_at = self._logged_at = time.monotonic()
        self._drawn_at = 0.0
        self._done = self._failed = self._skipped = self._tokens = 0
        self._path = ""  # of the input that was last heard of
        self._total: int | None = None  # inputs, known when the survey has ended
        self._counted = self._bytes = 0  # by the survey so far
        self._line = StatusLine(self.describe) if may_be_shown(answers) else None
        # Skipped inputs are counted in the thread that finds them, and a signal handler prints in the midst of a count:
        # with a second lock it could wait for a thread that draws the line and waits for the count.
        self._lock = RLock() if self._line is None else self._line.lock
        self.survey_thread = Thread(target=self._count, daemon=True)
        self.survey_thread.start()
        if self._line is not None:
            console.status_line = self._line
            if isinstance(answers, AnswerStream) and answers.isatty():
                answers.status_line = self._line
            self._line.draw()
            Thread(target=self._line.keep_clock_going, daemon=True).start()

    def record(self, path: str, tokens: int, failed: bool) -> None:
        """Count one record of `tokens` new tokens, which `failed` or not, before it is written."""
        with self._lock:
            self._failed += failed
            self._tokens += tokens
            self._step(path)

    def show_video_progress(self, path: str, done: int, of: int, frames: int) -> None:
        """Show that `done` of the `of` notes on a video of `frames` frames have been made."""
        with self._lock:
            notes = f"{done} of {pluralize(of, 'note')}, " if of > 1 else ""
            self._path = f"{path} ({notes}{pluralize(frames, 'frame')})"
        self.show()

    def show_page_progress(self, path: str, page: int, of: int) -> None:
        """Show that page number `page` of the `of` pages of a document is being read."""
        with self._lock:
            self._path = f"{path} (page {page:,} of {of:,})"
        self.show()

    def skip(self, path: str) -> None:
        """Count one input that has a record from an earlier run."""
        with self._lock:
            self._skipped += 1
            self._step(path)
        self.show()

    def show(self) -> None:
        """Bring the line up to date, at most ten times a second; elsewhere print one line a minute."""
        now = time.monotonic()
        if self._line is not None:
            if now - self._drawn_at >= REDRAW_SECONDS:
                self._drawn_at = now
                self._line.draw()
        elif now - self._logged_at >= LOG_SECONDS:
            self.print()

    def print(self) -> None:
        """Print the progress as a message of its own."""
        self._logged_at = time.monotonic()
        self._console.notice(self.describe())

    def close(self) -> None:
        """Remove the line."""
        if self._line is not None:
            self._line.close()
            self._console.status_line = None

    def describe(self) -> str:
        """The progress in words, as `12 of 600 (5.0 MB), 0:00:10, 1.2 pictures/s, ...`."""
        with self._lock:
            seconds = time.monotonic() - self._started_at
            new = self._done - self._skipped
            size = f" ({self._bytes / 1e6:.1f} MB)" if self._bytes else ""
            total = f" of {self._total}{size}" if self._total else " done"
            parts = [f"{self._done}{total}", format_duration(seconds)]
            if new and seconds:
                parts.append(format_rate(new, seconds, self._noun))
                if self._total and seconds >= ETA_SECONDS:
                    left = max(0, self._total - self._done) * seconds / new
                    parts.append(f"{format_duration(left)} left")
                parts += [f"{self._failed} failed", f"{self._tokens / seconds:.0f} tokens/s"]
            return ", ".join([*parts, *filter(None, [printable(self._path)])])

    def _step(self, path: str) -> None:
        self._done += 1
        self._path = path

    def _count(self) -> None:
        try:
            for count, size in self._survey:
                self._counted, self._bytes = count, size
        except Exception:
            return  # the same error is raised, and reported, where the inputs are opened
        self._total = self._counted or None
