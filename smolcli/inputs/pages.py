"""Which pages of a document are looked at, and how: the options that `ocr` has for files of several pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from smolcli.errors import ErrorKind, InputError, UsageError
from smolcli.terminal.option_fields import opt
from smolcli.types import pluralize

MIN_DPI, MAX_DPI = 20, 2400
_RANGE = re.compile(r"([0-9]{1,9})(-([0-9]{0,9}))?")


class PageRange(NamedTuple):
    """The pages from `first` to `last`, numbered from 1; `last` is None for the end of the document."""

    first: int
    last: int | None

    def __str__(self) -> str:
        if self.last is None:
            return f"{self.first}-"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def parse_pages(word: str) -> str:
    """Parse the value of --pages to its one canonical form. Raises UsageError.

    >>> parse_pages("1 - 2, 3,7-")
    '1-3,7-'
    """
    ranges: list[PageRange] = []
    for part in word.replace(" ", "").split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise UsageError(
                f"--pages {word}: {part or 'nothing'} is no page", "write numbers and ranges, as 1-4,7,10-"
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[3]) if match[3] else None
        if first < 1 or (last is not None and last < first):
            raise UsageError(f"--pages {word}: there are no pages {part}", "count from 1, as in 1-4,7,10-")
        if ranges and (ranges[-1].last is None or first <= ranges[-1].last):
            raise UsageError(f"--pages {word}: page {first} does not come after those before it", "put them in order")
        if ranges and ranges[-1].last == first - 1:
            ranges[-1] = PageRange(ranges[-1].first, last)
        else:
            ranges.append(PageRange(first, last))
    return ",".join(map(str, ranges))


def _ranges(pages: str) -> list[PageRange]:
    """The ranges of a canonical value of --pages."""
    ranges = []
    for part in pages.split(","):
        first, dash, last = part.partition("-")
        ranges.append(PageRange(int(first), int(last or first) if last or not dash else None))
    return ranges


class Selection(NamedTuple):
    """The pages that are looked at, by their index from 0, and a message for the user where some are not there."""

    indices: list[int]
    notice: str = ""


@dataclass(frozen=True)
class Pages:
    """Which pages of a document are looked at, and how."""

    panel = "Pages"

    pages: str | None = opt(
        None,
        "Read only these pages: 1-4,7,10-.\nThey keep their numbers; 10- is page 10 and all after it.",
        id_key="pages",
        short=True,
        parser=parse_pages,
        metavar="PAGES",
        show_default="all pages",
    )
    dpi: int | None = opt(
        None,
        "Render pages of PDFs with N dots an inch.",
        id_key="dpi",
        min=MIN_DPI,
        max=MAX_DPI,
        metavar="N",
        show_default="200, of a scanned page what the scan has, up to 400",
    )
    password: str | None = opt(
        None, "Open encrypted PDFs with this password.", secret=True, metavar="TEXT", show_default="none"
    )
    force_ocr: bool = opt(
        False,
        "Read every page of a PDF from its picture, also where it has its text as text.",
        "--force-ocr",
        id_key="force_ocr",
        short=True,
    )
    split_pages: bool = opt(
        False,
        "Write a record for each page, and not one for each document.",
        "--split-pages",
        id_key="split_pages",
    )

    @property
    def first_page(self) -> int:
        """The number of the first page that is looked at."""
        return 1 if self.pages is None else _ranges(self.pages)[0][0]

    def select(self, count: int) -> Selection:
        """Choose among the pages of a document, which has `count`. Raises InputError where none is chosen."""
        if self.pages is None:
            return Selection(list(range(count)))
        chosen = [
            range(first - 1, count if last is None else min(last, count)) for first, last in _ranges(self.pages)
        ]  # fmt: skip
        indices = [index for part in chosen for index in part]
        has = f"has {pluralize(count, 'page')}"
        if not indices:
            raise InputError(f"{has}, and none of --pages {self.pages}", "choose others", kind=ErrorKind.NO_FRAMES)
        first, last = _ranges(self.pages)[-1]
        is_past_end = first > count or (last is not None and last > count)
        return Selection(indices, f"{has}, and not all of --pages {self.pages}" if is_past_end else "")
