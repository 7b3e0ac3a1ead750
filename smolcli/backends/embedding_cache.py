"""Encoded tiles that are kept, so that a picture asked about again is not encoded again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Generic, TypeVar

KEPT_TILES = 256  # encoded tiles kept: of the 2.2B 81 embeddings of 2048 floats each, 170 MB in all


Embedding = TypeVar("Embedding")


class EmbeddingCache(Generic[Embedding]):
    """What the tiles seen last were encoded to, by their content: a tile seen before costs nothing."""

    def __init__(self, encode: Callable[[Sequence[bytes]], Iterable[Embedding]], at_once: int) -> None:
        """`encode` is given at most `at_once` tiles, which bounds memory on a picture of many."""
        self._encode, self._at_once = encode, at_once
        self._kept: OrderedDict[bytes, Embedding] = OrderedDict()

    def of(self, tiles: Sequence[bytes], next_ones: Iterable[bytes] = ()) -> list[Embedding]:
        """The embeddings of `tiles`, in their order; each different one is encoded once, now and for later calls.

        Where they leave room in the last batch it is filled from `next_ones`, tiles that are to be asked for soon.
        """
        keys = [digest(tile) for tile in tiles]
        new = {key: tile for key, tile in zip(keys, tiles, strict=True) if key not in self._kept}
        if new and -len(new) % self._at_once:
            others = {digest(tile): tile for tile in islice(next_ones, self._at_once)}
            unknown = [each for each in others.items() if each[0] not in self._kept and each[0] not in new]
            new.update(unknown[: -len(new) % self._at_once])
        for start in range(0, len(new), self._at_once):
            batch = dict(list(new.items())[start : start + self._at_once])
            self._kept.update(zip(batch, self._encode(list(batch.values())), strict=True))
        for key in keys:
            self._kept.move_to_end(key)
        found = [self._kept[key] for key in keys]
        while len(self._kept) > max(KEPT_TILES, len(keys)):
            self._kept.popitem(last=False)
        return found

    def clear(self) -> None:
        """Forgets them."""
        self._kept.clear()


def digest(tile: bytes) -> bytes:
    """What equal tiles have in common, and no others."""
    return hashlib.sha256(tile).digest()
