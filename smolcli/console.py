"""People read standard error; only a writer holds the real standard output.

`claim_stdout()` takes the file descriptor 1 away from everybody else: what a native library prints
there afterwards goes to standard error, never between two records.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO


def claim_stdout() -> TextIO:
    """The real standard output, for a writer alone; call it once, before any library is loaded."""
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape", newline="\n")
    os.dup2(2, 1)
    return own


class Console:
    """What is said to people: one line each, on standard error."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose

    def error(self, message: object) -> None:
        """A failure; shown even with -q."""
        self._say(message)

    def notice(self, message: object) -> None:
        """Something a user should know once."""
        if not self.quiet:
            self._say(message)

    def detail(self, message: object) -> None:
        """Something only -v asks for."""
        if self.verbose:
            self._say(message)

    def _say(self, message: object) -> None:
        line = " ".join(str(message).split())
        print(f"smolcli: {line}", file=sys.stderr, flush=True)
