"""Whole numbers by what they belong to, 16 bytes each: a million records' places fit where a dictionary would not.

    index = Index()
    index.load([(b"a.png", 4711), (b"b.png", 815)])     # many at once
    index.add(b"c.png", 42)
    index.find(b"a.png")                                # 4711

Of a key its 64-bit hash alone is kept, which differs from process to process: among a million keys two are alike
with a chance of one in thirty million. Sorted arrays, with a small dictionary on top for what came last.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterable

import numpy as np

FRESH = 200_000  # numbers in the dictionary before they are sorted into the arrays


class OffsetIndex:
    """Of several numbers under one key the largest is found."""

    def __init__(self) -> None:
        self._fresh: dict[int, int] = {}
        self._keys = array("q")
        self._numbers = array("q")

    def load(self, rows: Iterable[tuple[Hashable, int]]) -> None:
        """Keep many numbers of 64 bits under their keys."""
        for key, number in rows:
            self._keys.append(hash(key))
            self._numbers.append(number)
        self._sort()

    def add(self, key: Hashable, number: int) -> None:
        """Keep one more."""
        hashed = hash(key)
        self._fresh[hashed] = max(number, self._fresh.get(hashed, number))
        if len(self._fresh) >= FRESH:
            self._keys.extend(self._fresh.keys())
            self._numbers.extend(self._fresh.values())
            self._fresh.clear()
            self._sort()

    def find(self, key: Hashable) -> int | None:
        """The largest number under a key; None where there is none."""
        hashed = hash(key)
        found = self._fresh.get(hashed)
        place = bisect_left(self._keys, hashed)
        while place < len(self._keys) and self._keys[place] == hashed:
            number = self._numbers[place]
            found = number if found is None else max(found, number)
            place += 1
        return found

    def _sort(self) -> None:
        """In place, by key."""
        keys, numbers = np.frombuffer(self._keys, np.int64), np.frombuffer(self._numbers, np.int64)
        order = np.argsort(keys, kind="stable")
        keys[:] = keys[order]
        numbers[:] = numbers[order]
