"""The lines of a page to paragraphs, headings, items of lists, and tables, which keep their lines.

    Page -> Region -> Paragraph (lines) -> text

Lengths are multiples of the height of a small letter of the lines, so that they do not depend on the resolution.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median, median_low

from smolcli.inputs.page import Line, Page, Region, RegionKind
from smolcli.tasks.page_forms.code import is_code

INDENT = 1.0  # x-heights: half an em, the least that is printed as an indent
MARGIN = 0.6  # x-heights: lines this near to each other begin at the same margin
GAP = 1.4  # times the usual distance of two lines; between paragraphs it is at least 1.5 times as large
PITCH = 3.6  # x-heights from line to line where too few lines say what is usual: 1.5 lines of usual print
SPACE = 0.6  # x-heights: the width of a space
FULL_LINE = 0.75  # of its region's width: a line that goes on in another column is at least as long
STOP = re.compile("[.!?:;\u2026\u3002\uff01\uff1f][\"'\u201d\u2019\u201c\u00bb)\\]]*\\Z")
OPENING = "\"'\u201c\u2018\u201e\u00ab(["
BULLETS = (
    "\u2022\u2023\u25e6\u2043\u2219\u25aa\u25ab\u25a0\u25a1\u25cf\u25cb\u25c6\u27a2\u2713\u2714\u00b7\u2013\u2014*-"
)
# A bullet, or a number of up to three digits, one letter or a Roman number with a full stop or brackets.
MARKER = re.compile(rf"(?:[{BULLETS}]|\(?(?:\d{{1,3}}|[A-Za-z]|[ivxlcIVXLC]{{2,5}})[.)])(?=\s)")
WHOLE: frozenset[RegionKind] = frozenset({"heading", "table", "code", "formula"})  # not divided
BETWEEN: frozenset[RegionKind] = frozenset({"header", "footer", "note", "picture", "table"})


@dataclass(frozen=True)
class Paragraph:
    """Lines that belong together: a paragraph, a heading, an item of a list, or a whole table, formula or listing.

    `level` is a heading's, from 1, or how deep an item of a list stands, from 0. `region` is where it ends, `page` the
    number of the page where it begins.
    """

    kind: RegionKind
    lines: tuple[Line, ...]
    region: Region
    page: int
    level: int = 0


def paragraphs(page: Page) -> list[Paragraph]:
    """Return the parts of a page in reading order; lines without text are left out, and regions without any."""
    return [part for region in page.regions for part in region_paragraphs(page, region)]


def region_paragraphs(page: Page, region: Region) -> list[Paragraph]:
    """Return the parts of a region of a page in reading order; none if it has no text."""
    lines = tuple(line for line in region.lines if line.text.strip())
    if not lines:
        return []
    if region.kind in WHOLE:
        return [Paragraph(region.kind, lines, region, page.number, region.level)]
    if region.kind == "list":
        return _items(region, lines, page.number)
    if region.kind == "text" and is_code(lines):
        return [Paragraph("code", lines, region, page.number)]
    return [Paragraph(region.kind, part, region, page.number) for part in _split(lines)]


def join_continued(parts: Iterable[Paragraph], over: Collection[RegionKind] = ()) -> list[Paragraph]:
    """Join paragraphs of text that go on in another region; parts of the kinds `over` may stand between, and follow."""
    joined: list[Paragraph] = []
    for part in parts:
        index = next((i for i in reversed(range(len(joined))) if joined[i].kind not in over), None)
        if index is not None and _goes_on(joined[index], part):
            joined[index] = replace(joined[index], lines=joined[index].lines + part.lines, region=part.region)
        else:
            joined.append(part)
    return joined


def _goes_on(before: Paragraph, after: Paragraph) -> bool:
    """Whether text goes on in the next region: no stop ends it, a small letter follows, and its last line is full."""
    if not before.kind == after.kind == "text" or before.region is after.region:
        return False
    last, box = before.lines[-1], before.region.box
    is_full = last.box.right - box.left >= FULL_LINE * (box.right - box.left)
    has_stop = STOP.search(last.text.strip()) is not None
    return is_full and not has_stop and after.lines[0].text.lstrip().lstrip(OPENING)[:1].islower()


@dataclass(frozen=True)
class _Print:
    """How a region is printed, in pixels: `pitch` is the largest distance of the baselines of two lines of a paragraph.

    `margin` is the left edge that most lines have, None if there is none. `has_room` says of every line but the last
    whether the first word of the next one would have fitted into it; of full lines it does not.
    """

    x_height: float
    pitch: float
    margin: float | None
    has_room: list[bool]

    @classmethod
    def of(cls, lines: Sequence[Line]) -> _Print:
        x_height = _x_height(lines)
        pairs = list(pairwise(lines))
        pitches = [below.baseline - above.baseline for above, below in pairs if below.baseline > above.baseline]
        right, space = max(line.box.right for line in lines), SPACE * x_height
        return cls(
            x_height,
            GAP * median_low(pitches) if len(pitches) > 1 else PITCH * x_height,
            _margin([line.box.left for line in lines], MARGIN * x_height),
            [line.box.right + space + _first_word_width(after) <= right - space for line, after in pairs],
        )


def _split(lines: tuple[Line, ...]) -> list[tuple[Line, ...]]:
    """Return the paragraphs of a region of text."""
    form = _Print.of(lines)
    starts = [index for index in range(1, len(lines)) if _begins(lines, index, form)]
    return [lines[first:stop] for first, stop in zip([0, *starts], [*starts, len(lines)], strict=True)]


def _begins(lines: Sequence[Line], index: int, form: _Print) -> bool:
    """Whether a paragraph begins at a line: by a gap above it, an indent, or a short line with a stop above it."""
    before, line = lines[index - 1], lines[index]
    pitch = line.baseline - before.baseline
    if pitch <= 0:  # beside it, or in another column
        return False
    return pitch > form.pitch or _is_indented(before, line, form) or _ends_short(lines, index - 1, form)


def _is_indented(before: Line, line: Line, form: _Print) -> bool:
    """Whether a line begins right of the margin, unlike the line before it, or hangs out left of it."""
    if form.margin is None:
        return False
    least = INDENT * form.x_height
    is_hanging = line.box.left < form.margin - least
    return is_hanging or (line.box.left > form.margin + least and before.box.left <= form.margin + least)


def _ends_short(lines: Sequence[Line], index: int, form: _Print) -> bool:
    """Whether a line ends in a stop and before the right margin, in text whose lines are mostly full."""
    is_wrapped = len(lines) > 2 and 2 * sum(form.has_room) <= len(form.has_room)
    return is_wrapped and form.has_room[index] and STOP.search(lines[index].text.strip()) is not None


def _x_height(lines: Iterable[Line]) -> float:
    """Return the usual height of small letters in pixels, at least 1."""
    return max(1.0, median(line.x_height or (line.box.bottom - line.box.top) / 2 for line in lines))


def _margin(lefts: Sequence[int], reach: float) -> float | None:
    """Return the left edge that at least half of the lines have, `reach` pixels more or less; None if there is none."""
    ordered = sorted(lefts)
    counts = [bisect_right(ordered, left + reach) - bisect_left(ordered, left - reach) for left in ordered]
    most = max(counts)
    return ordered[counts.index(most)] if most > 1 and 2 * most >= len(lefts) else None


def _first_word_width(line: Line) -> float:
    """Return the width of the first word of a line in pixels."""
    if line.words:
        return line.words[0].box.right - line.words[0].box.left
    first = line.text.split(maxsplit=1)[0]
    return (line.box.right - line.box.left) * len(first) / len(line.text.strip())


def _items(region: Region, lines: tuple[Line, ...], page: int) -> list[Paragraph]:
    """Return the items of a list: one begins at a marker, or without any markers at a line at the left margin."""
    least = INDENT * _x_height(lines)
    lefts = [line.box.left for line in lines]
    has_markers = any(MARKER.match(line.text.strip()) for line in lines)
    is_start = [
        bool(MARKER.match(line.text.strip())) if has_markers else left <= min(lefts) + least
        for line, left in zip(lines, lefts, strict=True)
    ]
    starts = [index for index in range(len(lines)) if is_start[index] or index == 0]
    depths = _depths([lefts[index] for index in starts], least)
    stops = [*starts[1:], len(lines)]
    return [
        Paragraph("list", lines[first:stop], region, page, depth)
        for first, stop, depth in zip(starts, stops, depths, strict=True)
    ]


def _depths(lefts: Sequence[int], least: float) -> list[int]:
    """Return how deep items are nested, by their left edges; a step is at least `least` pixels."""
    outer: list[int] = []  # the left edges of the items around one, and its own
    depths = []
    for left in lefts:
        while outer and left < outer[-1] - least:
            outer.pop()
        if not outer or left > outer[-1] + least:
            outer.append(left)
        depths.append(len(outer) - 1)
    return depths
