"""The kinds of regions by size, place and indent, and the paragraphs of a block."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np

from smolcli.inputs.page import Line, Region, RegionKind
from smolcli.types import Box

HEADING = 1.18  # of the usual x-height: larger print is a heading
NOTE = 0.88  # of the usual x-height: smaller print at the foot of a page is a note
HEADING_LINES = 4  # a longer region is no heading
EDGE = 0.11  # of the height of a page: lines so near its edges, and apart, are headers and footers
EDGE_WHITE = 2.0  # x-heights between a header and the text
LEADING = 1.3  # of the usual distance of baselines: more begins a paragraph
MARK = 2.4  # x-heights: the width of a bullet or a number before an item of a list
INDENT = (0.7, 6.0)  # x-heights


def paragraphs(region: Region) -> list[Region]:
    """Split a block of text at indents, at more white, and at other sizes of print."""
    lines = region.lines
    if region.kind != "text" or len(lines) < 2:
        return [region]
    size = float(np.median([line.x_height for line in lines]))
    steps = np.diff([line.baseline for line in lines])
    level = steps > 0.6 * size
    usual = float(np.percentile(steps[level], 30)) if level.any() else 0.0
    left = _usual_left(lines, size)
    starts = [0]
    for number in range(1, len(lines)):
        if _begins(lines, number, float(steps[number - 1]), usual, left, size):
            starts.append(number)
    parts = [lines[start:stop] for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True)]
    return [replace(region, box=_around(part), lines=part) for part in parts]


def _usual_left(lines: tuple[Line, ...], size: float) -> float:
    """Where most lines begin: the fullest cluster of left edges, the left one of two."""
    counts = Counter(round(line.box.left / max(1.0, 0.5 * size)) for line in lines)
    most = counts.most_common(1)[0][1]
    return min(place for place, count in counts.items() if count >= 0.6 * most) * max(1.0, 0.5 * size)


def _begins(lines: tuple[Line, ...], number: int, step: float, usual: float, left: float, size: float) -> bool:
    line, before = lines[number], lines[number - 1]
    if step <= 0.6 * size:  # beside it, in the same row
        return False
    if step > LEADING * usual and step > usual + 0.4 * size:
        return True
    if max(line.x_height, before.x_height) > HEADING * min(line.x_height, before.x_height):
        return True
    if _hangs(before, line):
        return False
    if any(_hangs(one, other) for one, other in pairwise(lines)):
        return _has_mark(line) and abs(line.box.left - left) <= 0.5 * size
    indent = (line.box.left - left) / size
    is_indented = INDENT[0] <= indent <= INDENT[1] and (before.box.left - left) / size < INDENT[0]
    return is_indented and number + 1 < len(lines) and (lines[number + 1].box.left - left) / size < INDENT[0]


def _has_mark(line: Line) -> bool:
    """Whether a line begins with something as short as a bullet or a number."""
    return len(line.words) > 1 and line.words[0].box.right - line.words[0].box.left <= MARK * line.x_height


def _hangs(first: Line, second: Line) -> bool:
    """Whether a line begins below the second word of the line before, which has a mark as its first."""
    return _has_mark(first) and abs(second.box.left - first.words[1].box.left) <= 0.7 * first.x_height


def _around(lines: tuple[Line, ...]) -> Box:
    edges = np.array([line.box for line in lines])
    return Box(*(int(edge) for edge in (*edges[:, :2].min(0), *edges[:, 2:].max(0))))


def with_kinds(regions: list[Region], size: tuple[int, int]) -> list[Region]:
    """Name the kinds of regions of text: headings by size, headers and footers by place, notes, lists."""
    lines = [line for region in regions for line in region.lines]
    if not lines:
        return regions
    heights = np.array([line.x_height for line in lines])
    weights = np.array([line.box.right - line.box.left for line in lines])
    order = np.argsort(heights)
    usual = float(heights[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)])
    named = [_with_kind(region, usual) for region in regions]
    named = _with_edges(named, size[1], usual)
    return _with_levels(named)


def _with_kind(region: Region, usual: float) -> Region:
    if region.kind != "text" or not region.lines:
        return region
    height = float(np.median([line.x_height for line in region.lines]))
    if height >= HEADING * usual and len(region.lines) <= HEADING_LINES:
        return replace(region, kind="heading", level=1)
    if _is_list(region):
        return replace(region, kind="list")
    return region


def _is_list(region: Region) -> bool:
    """Whether the first line begins with a short mark, and the others are indented to what follows it."""
    first = region.lines[0]
    return len(region.lines) > 1 and all(_hangs(first, line) for line in region.lines[1:])


def _with_edges(regions: list[Region], height: int, usual: float) -> list[Region]:
    """Name single lines at the head and the foot of the page."""
    named = list(regions)
    for number, region in enumerate(regions):
        if len(region.lines) != 1 or region.kind not in ("text", "list"):
            continue
        others = [other.box for other in regions if other is not region]
        above = max((other.bottom for other in others if other.top < region.box.top), default=None)
        below = min((other.top for other in others if other.bottom > region.box.bottom), default=None)
        white = EDGE_WHITE * usual
        if above is None and below is not None and region.box.bottom < EDGE * height:
            kind: RegionKind = "header" if below - region.box.bottom >= white else "text"
        elif below is None and above is not None and region.box.top > (1 - EDGE) * height:
            kind = "footer" if region.box.top - above >= white else "text"
        else:
            continue
        if kind != "text":
            named[number] = replace(region, kind=kind)
    for number in range(len(named) - 1, -1, -1):
        region = named[number]
        if region.kind == "footer":
            continue
        size = float(np.median([line.x_height for line in region.lines] or [usual]))
        if region.kind != "text" or size > NOTE * usual or region.box.top < 0.5 * height:
            break
        named[number] = replace(region, kind="note")
    return named


def _with_levels(regions: list[Region]) -> list[Region]:
    """Give headings their levels: the largest print is level 1, each smaller size one more."""
    sizes: list[float] = []
    heights = [max(line.x_height for line in region.lines) for region in regions if region.kind == "heading"]
    for height in sorted(heights, reverse=True):
        if not sizes or height < 0.88 * sizes[-1]:
            sizes.append(height)
    leveled = []
    for region in regions:
        if region.kind == "heading":
            height = max(line.x_height for line in region.lines)
            level = 1 + int(np.argmin([abs(height - size) for size in sizes]))
            region = replace(region, level=min(level, 6))
        leveled.append(region)
    return leveled
