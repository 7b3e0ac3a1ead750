"""Whole numbers by what they belong to, 16 bytes each: a million records' places fit where a dictionary would not.

    index = Index()
    index.add(("a.png", "0f…"), 4711)
    index.find(("a.png", "0f…"))        # 4711

Of a key its 64-bit hash alone is kept, which differs from process to process: among a million keys two are alike
with a chance of one in thirty million. Sorted arrays, with a small dictionary on top for what came last.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Hashable

import numpy as np

FRESH = 200_000  # numbers in the dictionary before they are sorted into the arrays


class Index:
    """Of several numbers under one key the largest is found."""

    def __init__(self) -> None:
        self._fresh: dict[int, int] = {}
        self._keys = memoryview(array("q"))
        self._numbers = memoryview(array("q"))

    def add(self, key: Hashable, number: int) -> None:
        """Keep a number of 64 bits under a key."""
        hashed = hash(key)
        self._fresh[hashed] = max(number, self._fresh.get(hashed, number))
        if len(self._fresh) >= FRESH:
            self._sort_in()

    def find(self, key: Hashable) -> int | None:
        """The largest number under a key; None where there is none."""
        hashed = hash(key)
        found = self._fresh.get(hashed)
        place = bisect_left(self._keys, hashed)
        if place < len(self._keys) and self._keys[place] == hashed:
            return max(self._numbers[place], found if found is not None else self._numbers[place])
        return found

    def _sort_in(self) -> None:
        keys = np.concatenate([self._keys, np.fromiter(self._fresh.keys(), np.int64, len(self._fresh))])
        numbers = np.concatenate([self._numbers, np.fromiter(self._fresh.values(), np.int64, len(self._fresh))])
        self._fresh.clear()
        order = np.lexsort((-numbers, keys))  # of equal keys the largest number comes first, which is found
        self._keys, self._numbers = keys[order].data, numbers[order].data
