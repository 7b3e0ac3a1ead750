"""Messages for people, on standard error; standard output is for answers (terminal/stdout.py)."""

from __future__ import annotations

import contextlib
import sys
from typing import Protocol


class StatusLine(Protocol):
    """A line at the bottom of a terminal that changes, such as a tqdm bar; it is cleared while a message is printed."""

    def clear(self) -> None:
        """Remove the line from the terminal."""

    def refresh(self) -> object:
        """Show the line again."""


class Console:
    """Prints one line a message on standard error, above the `status_line` if there is one."""

    def __init__(self, quiet: bool = False) -> None:
        self._is_quiet = quiet
        self.status_line: StatusLine | None = None

    def error(self, message: object) -> None:
        """Print a failure, also with -q."""
        self._print(message)

    def notice(self, message: object) -> None:
        """Print something that the user should know, unless -q was given."""
        if not self._is_quiet:
            self._print(message)

    def _print(self, message: object) -> None:
        with contextlib.suppress(OSError):  # a closed standard error is no reason to stop
            if self.status_line is not None:
                self.status_line.clear()
            print(f"smolcli: {printable(' '.join(str(message).split()))}", file=sys.stderr, flush=True)
            if self.status_line is not None:
                self.status_line.refresh()


def printable(text: str) -> str:
    r"""Return `text` with escapes for characters that are not printable or would move a terminal's cursor.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
