"""People read standard error; only a writer holds the real standard output.

`claim_stdout()` takes the file descriptor 1 away from everybody else: what a native library prints
there afterwards goes to standard error, never between two records.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Protocol


class StatusLine(Protocol):
    """A line at the bottom of a terminal that changes: it makes place for what is said."""

    def clear(self) -> None: ...

    def refresh(self) -> object: ...


class Console:
    """What is said to people: one line each, on standard error, above the `line` that shows progress."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.line: StatusLine | None = None

    def error(self, message: object) -> None:
        """A failure; shown even with -q."""
        self._say(message)

    def notice(self, message: object) -> None:
        """Something a user should know once."""
        if not self.quiet:
            self._say(message)

    def _say(self, message: object) -> None:
        with contextlib.suppress(OSError):  # nobody listens: no reason to stop
            if self.line is not None:
                self.line.clear()
            print(f"smolcli: {printable(' '.join(str(message).split()))}", file=sys.stderr, flush=True)
            if self.line is not None:
                self.line.refresh()


def printable(text: str) -> str:
    """`text` with what would move a terminal's cursor, or is no character, written out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
