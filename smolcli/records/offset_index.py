"""A map from keys to integers in 16 bytes an entry, for a million records, where a dictionary would not fit.

    index = OffsetIndex()
    index.load([(b"a.png", 4711), (b"b.png", 815)])     # many at once
    index.add(b"c.png", 42)
    index.find(b"a.png")                                # 4711

Only the 64-bit hash of a key is stored, which differs between processes. Among a million keys two have the same hash
with a probability of one in thirty million. The entries are in sorted arrays; the latest are in a small dictionary.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterable

FRESH = 200_000  # entries in the dictionary before they are sorted into the arrays


class OffsetIndex:
    """Maps hashable keys to integers of 64 bits; of several integers under one key the largest is found."""

    def __init__(self) -> None:
        self._fresh: dict[int, int] = {}
        self._hashes = array("q")
        self._offsets = array("q")

    def load(self, rows: Iterable[tuple[Hashable, int]]) -> None:
        """Add many (key, offset) pairs and sort them once."""
        for key, offset in rows:
            self._hashes.append(hash(key))
            self._offsets.append(offset)
        self._sort()

    def add(self, key: Hashable, offset: int) -> None:
        """Add one pair."""
        key_hash = hash(key)
        self._fresh[key_hash] = max(offset, self._fresh.get(key_hash, offset))
        if len(self._fresh) >= FRESH:
            self._hashes.extend(self._fresh.keys())
            self._offsets.extend(self._fresh.values())
            self._fresh.clear()
            self._sort()

    def find(self, key: Hashable) -> int | None:
        """Return the largest offset added under `key`, or None."""
        key_hash = hash(key)
        largest = self._fresh.get(key_hash)
        position = bisect_left(self._hashes, key_hash)
        while position < len(self._hashes) and self._hashes[position] == key_hash:
            offset = self._offsets[position]
            largest = offset if largest is None else max(largest, offset)
            position += 1
        return largest

    def _sort(self) -> None:
        """Sort both arrays by hash, in place."""
        import numpy as np  # not above: most runs have fewer entries, and are started sooner without it

        hashes, offsets = np.frombuffer(self._hashes, np.int64), np.frombuffer(self._offsets, np.int64)
        order = np.argsort(hashes, kind="stable")
        hashes[:] = hashes[order]
        offsets[:] = offsets[order]
