"""Connected components of a binary picture by its runs: all work is done on runs and boxes, none pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Runs:
    """The horizontal runs of ink of a picture of `shape` (height, width), by row, then from the left.

    `starts` and `stops` are columns, `stops` the first without ink.
    """

    rows: Ints
    starts: Ints
    stops: Ints
    shape: tuple[int, int]

    def paint(self, chosen: Mask | None = None) -> Mask:
        """Draw the runs, or those that are `chosen`, as a mask of `shape`."""
        height, width = self.shape
        stride = width + 1
        steps = np.zeros(height * stride + 1, np.int8)
        rows, starts, stops = self.rows, self.starts, self.stops
        if chosen is not None:
            rows, starts, stops = rows[chosen], starts[chosen], stops[chosen]
        steps[rows * stride + starts] = 1
        steps[rows * stride + stops] -= 1  # runs of a row do not touch
        filled = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)
        return np.ascontiguousarray(filled.reshape(height, stride)[:, :width])


@dataclass(frozen=True)
class Components:
    """The connected components of `runs`: their boxes, their ink in pixels, and of which component each run is."""

    runs: Runs
    of_run: Ints
    left: Ints
    top: Ints
    right: Ints
    bottom: Ints
    area: Ints

    def __len__(self) -> int:
        return len(self.left)

    @property
    def width(self) -> Ints:
        """The widths of the boxes."""
        return self.right - self.left

    @property
    def height(self) -> Ints:
        """The heights of the boxes."""
        return self.bottom - self.top

    def paint(self, chosen: Mask) -> Mask:
        """Draw the components that are `chosen` as a mask."""
        return self.runs.paint(chosen[self.of_run])


def find_runs(ink: Mask) -> Runs:
    """Find the runs of a mask of shape (height, width)."""
    height, width = ink.shape
    stride = width + 1
    padded = np.zeros((height, stride), np.bool_)
    padded[:, :width] = ink
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        edges = np.concatenate(([0], edges))
    firsts, ends = edges[0::2], edges[1::2]
    rows = firsts // stride
    return Runs(rows, firsts - rows * stride, ends - rows * stride, (height, width))


def find_components(ink: Mask | Runs) -> Components:
    """Find the components of a mask or of its runs; pixels that touch by a corner are connected."""
    runs = ink if isinstance(ink, Runs) else find_runs(ink)
    stride = runs.shape[1] + 2  # one column more than find_runs, so that corners never touch around the edge
    starts, stops = runs.rows * stride + runs.starts, runs.rows * stride + runs.stops
    first = np.searchsorted(stops, starts + stride, "left")
    last = np.searchsorted(starts, stops + stride, "right")
    above, below = expand_ranges(first, last)
    return gather(runs, connect(len(starts), above, below))


def expand_ranges(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Return each i with each j of first[i] <= j < last[i], as two arrays.

    >>> expand_ranges(np.array([0, 5]), np.array([2, 6]))
    (array([0, 0, 1]), array([0, 1, 5]))
    """
    counts = np.maximum(last - first, 0)
    owners = np.repeat(np.arange(len(counts)), counts)
    offsets = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owners, first[owners] + offsets


def connect(count: int, left: Ints, right: Ints) -> Ints:
    """Number the sets into which the pairs join `count` things (union-find), by the first of each set.

    >>> connect(4, np.array([0, 2]), np.array([3, 1]))
    array([0, 1, 1, 0])
    """
    parent = np.arange(count)
    while len(left):
        left, right = parent[left], parent[right]
        apart = left != right
        left, right = left[apart], right[apart]
        parent[np.maximum(left, right)] = np.minimum(left, right)
        while True:
            grandparent = parent[parent]
            if np.array_equal(grandparent, parent):
                break
            parent = grandparent
    is_root = parent == np.arange(count)
    return (np.cumsum(is_root) - 1)[parent]


def gather(runs: Runs, of_run: Ints) -> Components:
    """Make components of runs that have their numbers, from 0 without a gap."""
    count = int(of_run.max()) + 1 if len(of_run) else 0
    left = np.full(count, runs.shape[1])
    right = np.zeros(count, np.int64)
    top = np.full(count, runs.shape[0])
    bottom = np.zeros(count, np.int64)
    np.minimum.at(left, of_run, runs.starts)
    np.maximum.at(right, of_run, runs.stops)
    np.minimum.at(top, of_run, runs.rows)
    np.maximum.at(bottom, of_run, runs.rows + 1)
    area = np.bincount(of_run, runs.stops - runs.starts, count).astype(np.int64)
    return Components(runs, of_run, left, top, right, bottom, area)


def keep(parts: Components, chosen: Mask) -> Components:
    """Return the components that are `chosen`, in the same order, with their runs."""
    of_run = chosen[parts.of_run]
    runs = parts.runs
    kept = Runs(runs.rows[of_run], runs.starts[of_run], runs.stops[of_run], runs.shape)
    numbers = np.cumsum(chosen) - 1
    return Components(
        kept,
        numbers[parts.of_run[of_run]],
        parts.left[chosen],
        parts.top[chosen],
        parts.right[chosen],
        parts.bottom[chosen],
        parts.area[chosen],
    )


def facing_pairs(parts: Components, reach: float) -> tuple[Ints, Ints, Ints, Ints]:
    """Find the components that face each other along a row with only white between, at most `reach` pixels.

    Returns the left one, the right one, in how many rows, and the narrowest white between them.
    """
    runs = parts.runs
    gaps = runs.starts[1:] - runs.stops[:-1]
    left, right = parts.of_run[:-1], parts.of_run[1:]
    chosen = (runs.rows[1:] == runs.rows[:-1]) & (left != right) & (gaps <= reach)
    left, right, gaps = left[chosen], right[chosen], gaps[chosen]
    codes, index, rows = np.unique(left * max(len(parts), 1) + right, return_inverse=True, return_counts=True)
    narrowest = np.full(len(codes), np.iinfo(np.int64).max)
    np.minimum.at(narrowest, index.ravel(), gaps)
    return codes // max(len(parts), 1), codes % max(len(parts), 1), rows, narrowest
