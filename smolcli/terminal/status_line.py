"""A line at the bottom of a terminal that changes, below whatever else is written to that terminal."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable
from threading import RLock
from typing import TextIO

from rich.cells import cell_len, set_cell_size

ERASE = "\r\x1b[K"  # to the first column, and delete to the end of the line (ECMA-48: CR, EL)


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

    While the last line of the text has no end, as when an answer is shown piece by piece, there is no status line.
    """

    def __init__(self, render: Callable[[], str]) -> None:
        self._render = render
        self._is_within_line = False  # whether the text above has not ended its last line
        self.lock = RLock()  # of the terminal; a signal handler may print while its own thread does

    def above(self, text: str) -> str:
        """Return what to write so that `text` stands above the line. Hold the lock until it is written."""
        line = self._trimmed()
        if not line or not text:
            return text
        before = "" if self._is_within_line else ERASE
        self._is_within_line = not text.endswith("\n")
        return f"{before}{text}{'' if self._is_within_line else line}"

    def draw(self) -> None:
        """Show the line as it is now, or remove it where its text is empty."""
        with self.lock:
            if not self._is_within_line:
                with contextlib.suppress(OSError):  # a closed standard error is no reason to stop
                    print(f"{ERASE}{self._trimmed()}", end="", file=sys.stderr, flush=True)

    def _trimmed(self) -> str:
        """The text in one column less than the terminal has: in the last one a terminal may begin a new line."""
        text = self._render()
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except (OSError, ValueError):
            columns = 80
        return text if cell_len(text) < columns else set_cell_size(text, columns - 1).rstrip()
