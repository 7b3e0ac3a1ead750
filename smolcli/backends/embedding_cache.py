"""A cache of encoded tiles, so that a picture that is asked about again is not encoded again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Generic, TypeVar

MAX_TILES = 256  # encoded tiles: those of the 2.2B model are 81 embeddings of 2048 floats each, 170 MB in all


Embedding = TypeVar("Embedding")


class EmbeddingCache(Generic[Embedding]):
    """The embeddings of the last tiles, by their content."""

    def __init__(
        self, encode: Callable[[Sequence[bytes]], Iterable[Embedding]], batch_size: int, max_tiles: int = MAX_TILES
    ) -> None:
        """`encode` gets at most `batch_size` tiles at once, which bounds the memory of a picture of many tiles.

        The embeddings of `max_tiles` tiles are kept, or of as many as were asked for at once.
        """
        self._encode, self._batch_size, self._max_tiles = encode, batch_size, max_tiles
        self._embeddings: OrderedDict[bytes, Embedding] = OrderedDict()

    def get(self, tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> list[Embedding]:
        """Return the embeddings of `tiles`, in their order; tiles that are not cached are encoded, equal ones once.

        If the last batch is not full, it is filled from `upcoming`: tiles that will be asked for soon.
        """
        keys = [digest(tile) for tile in tiles]
        new = {key: tile for key, tile in zip(keys, tiles, strict=True) if key not in self._embeddings}
        if new and -len(new) % self._batch_size:
            candidates = {digest(tile): tile for tile in islice(upcoming, self._batch_size)}
            unknown = [
                (key, tile) for key, tile in candidates.items() if key not in self._embeddings and key not in new
            ]
            new.update(unknown[: -len(new) % self._batch_size])
        for start in range(0, len(new), self._batch_size):
            batch = dict(list(new.items())[start : start + self._batch_size])
            self._embeddings.update(zip(batch, self._encode(list(batch.values())), strict=True))
        for key in keys:
            self._embeddings.move_to_end(key)
        embeddings = [self._embeddings[key] for key in keys]
        while len(self._embeddings) > max(self._max_tiles, len(keys)):
            self._embeddings.popitem(last=False)
        return embeddings

    def clear(self) -> None:
        """Empty the cache."""
        self._embeddings.clear()


def digest(tile: bytes) -> bytes:
    """Return the key of a tile: the SHA-256 of its bytes."""
    return hashlib.sha256(tile).digest()
