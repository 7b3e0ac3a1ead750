"""Notices of records that are said once a run, with their number, instead of once for each input.

Each record has the notice among its `notices`. At the end of the run it is shown with the path of its one input, or in
the form of OF_MANY.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smolcli.errors import ErrorKind

# What differs between notices of one kind: a page at the beginning, a number in parentheses at the end.
VARYING = re.compile(r"^page \d+ | \([^()]*\)$")
CUT = "the answer reached --max-tokens; raise it with -n"
CONTEXT_FULL = "the answer reached the end of the model's context"
BLANK = "no text was found"
UNSURE = "read with little confidence: the model may not know this script or print, and much may be wrong"
UNSURE_PAGE = "was read with little confidence: the model may not know its script or print"
NO_TABLE = "no table was found"
FEWER_TILES = "its pictures were cut into fewer tiles, to fit the model's context at this --detail"

# What is said of several inputs: with {} for their number.
OF_MANY = {
    CUT: "{} answers reached --max-tokens; raise it with -n",
    CONTEXT_FULL: "{} answers reached the end of the model's context",
    BLANK: "no text was found in {} pictures",
    UNSURE: "{} pictures were read with little confidence: the model may not know their script or print",
    UNSURE_PAGE: "{} pages were read with little confidence: the model may not know their script or print",
    NO_TABLE: "no table was found in {} pictures",
    FEWER_TILES: "the pictures of {} inputs were cut into fewer tiles, to fit the model's context at this --detail",
}


def fewer_tiles(most: int) -> str:
    """Say that pictures were cut into at most `most` tiles along an edge, so that they fit the context.

    >>> fewer_tiles(3)
    "its pictures were cut into fewer tiles, to fit the model's context at this --detail (at most 3 along an edge)"
    """
    return f"{FEWER_TILES} (at most {most} along an edge)"


def unsure(pages: Sequence[Mapping[str, Any]], confidence: float | None, below: float) -> Iterator[str]:
    """Yield what is said of an answer without confidence: of each of several pages, else of all of it.

    `pages` are those in the data of the record, `confidence` is that of the whole answer.

    >>> pages = [{"page": 1, "confidence": 0.9}, {"page": 2, "confidence": 0.7}]
    >>> list(unsure(pages, 0.85, below=0.8))
    ['page 2 was read with little confidence: the model may not know its script or print']
    """
    known = {page["page"]: page["confidence"] for page in pages if page.get("confidence") is not None}
    if known and len(pages) > 1:
        yield from (f"page {number} {UNSURE_PAGE}" for number, value in known.items() if value < below)
    elif confidence is not None and confidence < below:
        yield UNSURE


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


def left_out(device: str, reason: str) -> str:
    """Say that a device takes no part in the run.

    >>> left_out("cuda:1", "tiny does not fit in memory")
    'cuda:1 is left out: tiny does not fit in memory'
    """
    return f"{device} is left out: {reason}"


class NoticeCounter:
    """Counts the notices that are said once a run."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._firsts: dict[str, str] = {}  # the first notice of each kind, with its path

    def add(self, path: str, notice: str) -> bool:
        """Count the notice of an input or a page; returns False, and counts nothing, if it is said of each input."""
        kind = VARYING.sub("", notice)
        if kind not in OF_MANY:
            return False
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._firsts.setdefault(kind, f"{path}: {notice}")
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
            self._firsts[kind] if count == 1 else OF_MANY[kind].format(f"{count:,}")
            for kind, count in self._counts.items()
        ]
