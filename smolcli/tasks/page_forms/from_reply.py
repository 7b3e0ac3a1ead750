"""A reply about a whole page to pages with places, so that every form can be made of it too.

DocTags say where things are. Of plain text nobody knows it: its lines are laid evenly down the page, so that a search
in a PDF finds at least the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from smolcli.inputs.page import Line, Page, Region
from smolcli.tasks.page_forms.doctags import DOCTAGS, pages_from_doctags
from smolcli.tasks.page_forms.text import page_texts
from smolcli.types import Box

MARGIN = 0.05  # of the page's width and height
X_HEIGHT = 0.4  # of the distance of two lines


def pages_from_reply(
    text: str, width: int, height: int, number: int = 1, confidence: float | None = None
) -> list[Page]:
    """Return the page of a reply, or pages where DocTags have several; `number` is that of the first.

    `width` and `height` are pixels of the upright page; each line gets the `confidence` of the reply.
    """
    if DOCTAGS.search(text):
        pages = pages_from_doctags(text, width, height, number)
    else:
        pages = [Page(number, width, height, tuple(_regions(text, width, height)))]
    return [_with_confidence(page, confidence) for page in pages]


def text_so_far(reply: str, dehyphenate: bool = False) -> str:
    """Return the text of DocTags that are being written, up to the last element that is closed.

    >>> text_so_far("<doctag><title><loc_0><loc_0><loc_500><loc_9>News</title><text><loc_0><loc_9><loc_50")
    'News'
    """
    last = reply.rfind("</")
    end = reply.find(">", last) + 1 if last >= 0 else 0
    return _text_of(reply[:end] if end else reply[: max(last, 0)], dehyphenate)


@lru_cache(maxsize=1)  # most tokens close no element
def _text_of(doctags: str, dehyphenate: bool) -> str:
    return "\n\n".join(filter(None, page_texts(pages_from_doctags(doctags), dehyphenate)))


def _regions(text: str, width: int, height: int) -> Iterator[Region]:
    """Yield a region for each paragraph of a text, which an empty line ends."""
    rows = text.strip().splitlines()
    left, right = round(MARGIN * width), round((1 - MARGIN) * width)
    pitch = (1 - 2 * MARGIN) * height / max(1, len(rows))
    lines: list[Line] = []
    for row, content in enumerate([*rows, ""]):
        if content.strip():
            top = round(MARGIN * height + row * pitch)
            bottom = round(MARGIN * height + (row + 1) * pitch)
            baseline = round(top + 0.8 * (bottom - top))
            lines.append(Line(Box(left, top, right, bottom), (), pitch * X_HEIGHT, baseline, content.strip()))
        elif lines:
            yield Region("text", Box(left, lines[0].box.top, right, lines[-1].box.bottom), tuple(lines))
            lines = []


def _with_confidence(page: Page, confidence: float | None) -> Page:
    regions = tuple(
        replace(region, lines=tuple(replace(line, confidence=confidence) for line in region.lines))
        for region in page.regions
    )
    return replace(page, regions=regions)
