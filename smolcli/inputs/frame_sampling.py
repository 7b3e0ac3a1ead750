"""Which frames of a video are looked at: arithmetic on the frames' times, no decoding.

    times, duration -> Span ... and the numbers of their frames, as --frames, --fps, --segment, --scene, --start and
    --end ask

All times are seconds from the first frame. The frame shown at a moment is the last one whose time is not after it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

from smolcli.errors import InputError
from smolcli.options import MOST_FRAMES, Sampling
from smolcli.types import Span

FEWEST, MOST, MOST_OF_SPAN = 4, 50, 8  # frames, where --frames and --fps are not given
TINY = 0.001  # seconds: Matroska and others round the times of frames to milliseconds
UNEVEN = 0.1  # of the time between two frames; with less than this the rate counts as constant
TAIL = 0.25  # of a segment; a last one that is shorter joins the one before


def choose(
    times: Sequence[float], duration: float, sampling: Sampling, cuts: Sequence[float] = ()
) -> tuple[tuple[Span, ...], tuple[int, ...]]:
    """The stretches to look at, and the numbers of their frames in order; a span's `first` and `stop` index the latter.

    `times` ascends, `cuts` are the moments where scenes change. Every span has a frame: of its own, or, in a gap
    between frames, the one that is shown when it begins, which is then there twice.

    >>> choose([0.0, 0.5, 1.0, 1.5], 2.0, Sampling(frames=2, segment=1.0))
    ((Span(start=0.0, end=1.0, first=0, stop=2), Span(start=1.0, end=2.0, first=2, stop=4)), (0, 1, 2, 3))

    Raises InputError, no-frames, where --start and --end leave nothing.
    """
    start, end = bounds(duration, sampling)
    edges = _edges(start, end, sampling, cuts)
    most = MOST_OF_SPAN if sampling.segment or sampling.scene else MOST
    spans: list[Span] = []
    chosen: list[int] = []
    for begin, finish in pairwise(edges):
        numbers = _own(times, begin, finish, is_first=begin == start, is_last=finish == end)
        picked = _picked(times, numbers, begin, finish, sampling, most)
        spans.append(Span(begin, finish, len(chosen), len(chosen) + len(picked)))
        chosen += picked
    return tuple(spans), tuple(chosen)


def bounds(duration: float, sampling: Sampling) -> tuple[float, float]:
    """Where --start and --end begin and end it. Raises InputError, no-frames, where that is nothing."""
    start = sampling.start or 0.0
    end = duration if sampling.end is None else min(sampling.end, duration)
    if (start and start >= duration) or (sampling.end is not None and sampling.end <= start):
        shown_end = duration if sampling.end is None else sampling.end
        what = f"has no frame between {start:g} s and {shown_end:g} s; it is {duration:.1f} s long"
        raise InputError(what, "change --start or --end", kind="no-frames")
    return start, end


def shown(times: Sequence[float], moment: float) -> int:
    """The number of the frame that is shown at a moment."""
    return max(bisect_right(times, moment + TINY) - 1, 0)


def _edges(start: float, end: float, sampling: Sampling, cuts: Sequence[float]) -> list[float]:
    """Where the spans begin, and the end of the last.

    What is left over at the end joins the segment before it where it is shorter than a quarter of one: a flicker needs
    no note. Scenes longer than --segment are cut into equal parts.
    """
    size = sampling.segment or math.inf
    if (end - start) / size > MOST_FRAMES:
        raise InputError(f"has more than {MOST_FRAMES:,} segments", "make --segment longer", kind="too-large")
    if not sampling.scene:
        count = max(1, math.floor((end - start) / size + 1 - TAIL))
        return [start, *(start + number * size for number in range(1, count)), end]
    scenes = [start, *(cut for cut in cuts if start < cut < end), end]
    edges: list[float] = []
    for begin, finish in pairwise(scenes):
        parts = max(1, math.ceil((finish - begin - TINY) / size))
        edges += [begin + part * (finish - begin) / parts for part in range(parts)]
    return [*edges, end]


def _own(times: Sequence[float], begin: float, finish: float, is_first: bool, is_last: bool) -> range:
    """The numbers of the frames of a span: those that begin in it.

    The first span has also the frame that is shown when it begins, the last one the frame at its very end.
    """
    first = shown(times, begin) if is_first else bisect_left(times, begin - TINY)
    stop = shown(times, finish) + 1 if is_last else bisect_left(times, finish - TINY)
    return range(first, stop) if first < stop else range(shown(times, begin), shown(times, begin) + 1)


def _picked(
    times: Sequence[float], own: range, begin: float, finish: float, sampling: Sampling, most: int
) -> list[int]:
    """Which of a span's frames are looked at."""
    if sampling.fps is not None and sampling.frames is None:
        return _by_rate(times, own, begin, finish, sampling.fps)
    count = sampling.frames or max(FEWEST, min(math.floor(finish - begin) + 1, most))
    return _evenly(times, own, count)


def _by_rate(times: Sequence[float], own: range, begin: float, finish: float, rate: float) -> list[int]:
    """The frames shown at begin, begin + 1 / rate and so on.

    A frame is one of them if the first of those moments that is not before it is before the next frame.
    """
    ends = [*(times[number] - TINY for number in own[1:]), finish]
    moments = (begin + math.ceil((times[number] - TINY - begin) * rate) / rate for number in own[1:])
    return [own[0], *(number for number, moment, end in zip(own[1:], moments, ends[1:], strict=True) if moment < end)]


def _evenly(times: Sequence[float], own: range, count: int) -> list[int]:
    """The frames shown at `count` moments evenly spaced from the first frame to the last, none of them twice.

    Where the rate is constant those are numpy.linspace(0, len(own) - 1, count).astype(int), computed as it does.
    """
    if count >= len(own):
        return list(own)
    if count == 1:
        return [own[0]]
    if _is_constant(times, own):
        step = (len(own) - 1) / (count - 1)
        return [*(own[int(number * step)] for number in range(count - 1)), own[-1]]
    first, last = times[own[0]], times[own[-1]]
    moments = (first + number * (last - first) / (count - 1) for number in range(count - 1))
    return sorted({*(shown(times, moment) for moment in moments), own[-1]})


def _is_constant(times: Sequence[float], own: range) -> bool:
    first, last = times[own[0]], times[own[-1]]
    gap = (last - first) / (len(own) - 1)
    return all(abs(times[number] - first - place * gap) <= UNEVEN * gap for place, number in enumerate(own))
