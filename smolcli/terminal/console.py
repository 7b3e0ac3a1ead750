"""Messages for people, on standard error; standard output is for answers (terminal/stdout.py)."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smolcli.terminal.status_line import StatusLine

RED, CYAN, PLAIN = "\x1b[1;31m", "\x1b[1;36m", "\x1b[0m"


class Console:
    """Prints messages on standard error, above the `status_line` if there is one."""

    def __init__(self, quiet: bool = False) -> None:
        self._is_quiet = quiet
        self.status_line: StatusLine | None = None

    def error(self, message: object, advice: str = "") -> None:
        """Print a failure, also with -q: two lines on a terminal, and elsewhere one, as scripts and logs expect.

        `advice` says what to do.
        """
        if not sys.stderr.isatty():
            self._print(f"smolcli: {_one_line(f'{message}; {advice}' if advice else message)}")
            return
        lines = [f"{_colored('error:', RED)} {_one_line(message)}"]
        if advice:
            lines.append(f" {_colored('hint:', CYAN)} {_one_line(advice)}")
        self._print("\n".join(lines))

    def notice(self, message: object) -> None:
        """Print something that the user should know, unless -q was given."""
        if not self._is_quiet:
            self._print(f"smolcli: {_one_line(message)}")

    def _print(self, text: str) -> None:
        line = self.status_line
        # No reason to stop are a closed standard error, and one that a signal handler finds in the midst of a write.
        with (
            contextlib.suppress(OSError, RuntimeError),
            line.lock if line is not None else contextlib.nullcontext(),
        ):
            text = f"{text}\n"
            if line is not None:
                text = line.above(f"\n{text}" if line.is_within_line else text)
            print(text, end="", file=sys.stderr, flush=True)


def _one_line(message: object) -> str:
    return printable(" ".join(str(message).split()))


def _colored(word: str, color: str) -> str:
    """`word` for a terminal, in colour unless NO_COLOR forbids it or the terminal has none."""
    return word if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else f"{color}{word}{PLAIN}"


def printable(text: str) -> str:
    r"""Return `text` with escapes for characters that are not printable or would move a terminal's cursor.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
