"""A line at the bottom of a terminal that changes, below whatever else is written to that terminal."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable
from threading import Event, RLock
from typing import TextIO

from rich.cells import cell_len, set_cell_size

CLOCK_SECONDS = 1.0  # between two drawings where nothing happens
# Control functions of ECMA-48: to the first column and delete to the end of the line (CR, EL); CUU; CHA.
ERASE, UP, TO_COLUMN = "\r\x1b[K", "\x1b[A", "\x1b[{}G"


def may_be_shown(answers: TextIO | None) -> bool:
    """Whether standard error can have such a line. `answers` is the stream of answers, if it is standard output.

    Who reads a pipe may write to this terminal too, as `| jq` does, at moments that nobody here can know.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return False
    if answers is None:
        return True
    mode = os.fstat(answers.fileno()).st_mode
    return not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


class StatusLine:
    r"""The last line of the terminal that standard error is; `render` returns its text, empty for no line.

    All other text for the terminal goes through `above`, which removes the line and draws it again below the text:

    >>> StatusLine(lambda: "2 of 3").above("a.png: a cat\n")
    '\r\x1b[Ka.png: a cat\n2 of 3'

    Text may also end within a line, as the pieces of an answer and the records of a JSON array do.
    """

    def __init__(self, render: Callable[[], str]) -> None:
        self._render = render
        self._unfinished = ""  # the part of the text above that follows its last line end
        self._is_drawn = True  # it may be, as nothing was written yet
        self._is_closed = Event()
        self.lock = RLock()  # of the terminal; a signal handler may print while its own thread does

    @property
    def is_within_line(self) -> bool:
        """Whether the text above has not ended its last line."""
        return bool(self._unfinished)

    def above(self, text: str) -> str:
        """Return what to write so that `text` stands above the line. Hold the lock until it is written."""
        line = "" if self._is_closed.is_set() else self._trimmed()
        if not line or not text:
            return text
        before = self._removal()
        self._unfinished = f"{self._unfinished}{text}".rpartition("\n")[2]
        # The column where an unfinished line ends is known for plain characters that fill less than a line.
        self._is_drawn = self._unfinished.isascii() and len(self._unfinished) < _columns()
        return "".join(
            [before, text, "\n" if self._is_drawn and self._unfinished else "", line if self._is_drawn else ""]
        )

    def draw(self) -> None:
        """Show the line as it is now, or remove it where its text is empty; a line that is closed writes nothing."""
        with self.lock:
            if not self._is_drawn or self._is_closed.is_set():
                return
            line = self._trimmed()
            self._write(f"{ERASE}{line}" if line else self._removal())

    def close(self) -> None:
        """Remove the line for good: what others write to the terminal from now on is not erased by a late drawing."""
        with self.lock:
            if not self._is_closed.is_set():
                self._write(self._removal())
                self._is_closed.set()

    def keep_clock_going(self) -> None:
        """Draw the line once a second until it is closed, so that its clock goes on; for a thread of its own."""
        while not self._is_closed.wait(CLOCK_SECONDS):
            self.draw()

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a closed standard error is no reason to stop
            print(text, end="", file=sys.stderr, flush=True)

    def _removal(self) -> str:
        """What removes the line, and puts the cursor where the text above ends."""
        if not self._is_drawn:
            return ""
        return f"{ERASE}{UP}{TO_COLUMN.format(len(self._unfinished) + 1)}" if self._unfinished else ERASE

    def _trimmed(self) -> str:
        """The text in one column less than the terminal has: in the last one a terminal may begin a new line."""
        text, columns = self._render(), _columns()
        return text if cell_len(text) < columns else set_cell_size(text, columns - 1).rstrip()


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
