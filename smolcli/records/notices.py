"""Notices of records that are said once a run, with their number, instead of once for each input.

Each record has the notice among its `notices`. At the end of the run it is shown with the path of its one input, or in
the form of OF_MANY.
"""

from __future__ import annotations

from smolcli.errors import ErrorKind

CUT = "the answer reached --max-tokens; raise it with -n"
CONTEXT_FULL = "the answer reached the end of the model's context"
BLANK = "no text was found"
UNSURE = "read with little confidence: the model may not know this script or print, and much may be wrong"
NO_TABLE = "no table was found"

# What is said of several inputs: with {} for their number.
OF_MANY = {
    CUT: "{} answers reached --max-tokens; raise it with -n",
    CONTEXT_FULL: "{} answers reached the end of the model's context",
    BLANK: "no text was found in {} pictures",
    UNSURE: "{} pictures were read with little confidence: the model may not know their script or print",
    NO_TABLE: "no table was found in {} pictures",
}


def restarted(kind: ErrorKind, path: str) -> str:
    """Say that the engine was lost, for a reason of this `kind`, and started again.

    `path` is the input that was under way, empty if there was none.

    >>> restarted(ErrorKind.MEMORY, "a.png")
    'the engine was killed (out of memory?) on a.png and started again'
    """
    place = f" on {path}" if path else ""
    if kind == ErrorKind.MEMORY:
        return f"the engine was killed (out of memory?){place} and started again"
    verb = {ErrorKind.CRASH: "crashed", ErrorKind.TIMEOUT: "took too long"}.get(kind, "stopped working")
    return f"the engine {verb}{place} and was started again"


class NoticeCounter:
    """Counts the notices that are said once a run."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first_paths: dict[str, str] = {}

    def add(self, path: str, notice: str) -> bool:
        """Count the notice of an input; returns False, and counts nothing, if it is said of each input."""
        if notice not in OF_MANY:
            return False
        self._counts[notice] = self._counts.get(notice, 0) + 1
        self._first_paths.setdefault(notice, path)
        return True

    def lines(self) -> list[str]:
        """Return what is said at the end of the run.

        >>> counter = NoticeCounter()
        >>> counter.add("a.png", CUT), counter.lines()
        (True, ['a.png: the answer reached --max-tokens; raise it with -n'])
        >>> counter.add("b.png", CUT), counter.lines()
        (True, ['2 answers reached --max-tokens; raise it with -n'])
        """
        return [
            f"{self._first_paths[notice]}: {notice}" if count == 1 else OF_MANY[notice].format(f"{count:,}")
            for notice, count in self._counts.items()
        ]
