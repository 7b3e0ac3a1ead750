"""Chooses the frames of a video to look at, by arithmetic on their times; nothing is decoded.

The options are --frames, --fps, --segment, --scene, --start and --end. All times are seconds from the beginning of the
file, where the sound may begin before the first frame. The frame shown at a moment is the last frame whose time is not
after it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

from smolcli.errors import ErrorKind, InputError
from smolcli.options import MAX_FRAMES, Sampling
from smolcli.types import Span

# Frames of a span if neither --frames nor --fps is given: at least, at most, and at most if there are several spans.
MIN_DEFAULT, MAX_DEFAULT, MAX_DEFAULT_OF_SEGMENT = 4, 50, 8
TOLERANCE = 0.001  # seconds: Matroska and others round the times of frames to milliseconds
MAX_LEAD = 0.2  # seconds before the first frame, as sound often has; up to this the first span begins with the file
MAX_JITTER = 0.1  # of the mean time between two frames; up to this the frame rate counts as constant
MIN_TAIL = 0.25  # of a segment; a shorter last segment is joined to the one before


def sample_frames(
    times: Sequence[float], duration: float, sampling: Sampling, cuts: Sequence[float] = ()
) -> tuple[tuple[Span, ...], tuple[int, ...]]:
    """Return the spans of the video to look at, and the numbers of their frames in order.

    `times` are those of all frames, ascending; `cuts` are the times at which scenes change. A span's `first` and
    `stop` are indices into the frame numbers. Every span has a frame. A span without one of its own, in a gap between
    frames, gets the frame that is shown when it begins, which is then in the result twice.

    >>> sample_frames([0.0, 0.5, 1.0, 1.5], 2.0, Sampling(frames=2, segment=1.0))
    ((Span(start=0.0, end=1.0, first=0, stop=2), Span(start=1.0, end=2.0, first=2, stop=4)), (0, 1, 2, 3))

    Raises InputError: no-frames if nothing is left between --start and --end, too-large for too many segments.
    """
    start, end = bounds(times, duration, sampling)
    edges = _span_edges(start, end, sampling, cuts)
    max_frames = MAX_DEFAULT_OF_SEGMENT if sampling.segment or sampling.scene else MAX_DEFAULT
    spans: list[Span] = []
    chosen: list[int] = []
    for span_start, span_end in pairwise(edges):
        own = _frames_in_span(times, span_start, span_end, is_first=span_start == start, is_last=span_end == end)
        sampled = _sample(times, own, span_start, span_end, sampling, max_frames)
        spans.append(Span(span_start, span_end, len(chosen), len(chosen) + len(sampled)))
        chosen += sampled
    return tuple(spans), tuple(chosen)


def bounds(times: Sequence[float], duration: float, sampling: Sampling) -> tuple[float, float]:
    """Return where --start and --end begin and end the video, which begins with its first frame.

    Raises InputError, no-frames, if nothing is left.
    """
    begin = times[0] if times[0] > MAX_LEAD else 0.0
    start = max(sampling.start or 0.0, begin)
    end = duration if sampling.end is None else min(sampling.end, duration)
    if (start and start >= duration) or (sampling.end is not None and sampling.end <= start):
        shown_end = duration if sampling.end is None else sampling.end
        extent = f"its pictures are from {begin:.1f} s to {duration:.1f} s" if begin else f"it is {duration:.1f} s long"
        message = f"has no frame between {sampling.start or 0:g} s and {shown_end:g} s; {extent}"
        raise InputError(message, "change --start or --end", kind=ErrorKind.NO_FRAMES)
    return start, end


def frame_at(times: Sequence[float], moment: float) -> int:
    """Return the number of the frame that is shown at a moment."""
    return max(bisect_right(times, moment + TOLERANCE) - 1, 0)


def _span_edges(start: float, end: float, sampling: Sampling, cuts: Sequence[float]) -> list[float]:
    """Return the starts of all spans, and the end of the last one.

    A last segment shorter than MIN_TAIL is joined to the one before, so that a moment at the end gets no note of its
    own. Scenes longer than --segment are cut into equal parts.
    """
    size = sampling.segment or math.inf
    if (end - start) / size > MAX_FRAMES:
        raise InputError(f"has more than {MAX_FRAMES:,} segments", "make --segment longer", kind=ErrorKind.TOO_LARGE)
    if not sampling.scene:
        count = max(1, math.floor((end - start) / size + 1 - MIN_TAIL))
        return [start, *(start + number * size for number in range(1, count)), end]
    scene_edges = [start, *(cut for cut in cuts if start < cut < end), end]
    edges: list[float] = []
    for scene_start, scene_end in pairwise(scene_edges):
        parts = max(1, math.ceil((scene_end - scene_start - TOLERANCE) / size))
        edges += [scene_start + part * (scene_end - scene_start) / parts for part in range(parts)]
    return [*edges, end]


def _frames_in_span(times: Sequence[float], start: float, end: float, is_first: bool, is_last: bool) -> range:
    """Return the numbers of the frames that begin within a span.

    The first span also has the frame that is shown when it begins, the last span the frame at its very end.
    """
    first = frame_at(times, start) if is_first else bisect_left(times, start - TOLERANCE)
    stop = frame_at(times, end) + 1 if is_last else bisect_left(times, end - TOLERANCE)
    return range(first, stop) if first < stop else range(frame_at(times, start), frame_at(times, start) + 1)


def _sample(
    times: Sequence[float], own: range, start: float, end: float, sampling: Sampling, max_frames: int
) -> list[int]:
    """Choose among the frames `own` of a span."""
    if sampling.fps is not None and sampling.frames is None:
        return _sample_by_rate(times, own, start, end, sampling.fps)
    count = sampling.frames or max(MIN_DEFAULT, min(math.floor(end - start) + 1, max_frames))
    return _sample_evenly(times, own, count)


def _sample_by_rate(times: Sequence[float], own: range, start: float, end: float, rate: float) -> list[int]:
    """Choose the frames shown at `start`, `start` + 1 / `rate` and so on.

    A frame is one of them if the first such moment that is not before the frame comes before the next frame.
    """
    ends = [*(times[number] - TOLERANCE for number in own[1:]), end]
    moments = (start + math.ceil((times[number] - TOLERANCE - start) * rate) / rate for number in own[1:])
    later = zip(own[1:], moments, ends[1:], strict=True)
    return [own[0], *(number for number, moment, frame_end in later if moment < frame_end)]


def _sample_evenly(times: Sequence[float], own: range, count: int) -> list[int]:
    """Choose the frames shown at `count` moments spaced evenly from the first frame to the last, without repetition.

    For a constant frame rate they are numpy.linspace(0, len(own) - 1, count).astype(int), with the same rounding.
    """
    if count >= len(own):
        return list(own)
    if count == 1:
        return [own[0]]
    if _has_constant_rate(times, own):
        step = (len(own) - 1) / (count - 1)
        return [*(own[int(number * step)] for number in range(count - 1)), own[-1]]
    first, last = times[own[0]], times[own[-1]]
    moments = (first + number * (last - first) / (count - 1) for number in range(count - 1))
    return sorted({*(frame_at(times, moment) for moment in moments), own[-1]})


def _has_constant_rate(times: Sequence[float], own: range) -> bool:
    first, last = times[own[0]], times[own[-1]]
    gap = (last - first) / (len(own) - 1)
    return all(abs(times[number] - first - index * gap) <= MAX_JITTER * gap for index, number in enumerate(own))
