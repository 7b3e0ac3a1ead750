"""backends/embedding_cache.py: which tiles are encoded, and in which batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smolcli.backends.embedding_cache import EmbeddingCache


def test_a_batch_is_filled_with_tiles_of_the_next_prompts() -> None:
    batches: list[list[bytes]] = []

    def encode(tiles: Sequence[bytes]) -> Iterator[bytes]:
        batches.append(list(tiles))
        return iter(tile.upper() for tile in tiles)

    cache = EmbeddingCache(encode, batch_size=4)
    assert cache.get([b"a", b"b", b"a"], [b"b", b"c", b"c", b"d", b"e"]) == [b"A", b"B", b"A"]
    assert batches == [[b"a", b"b", b"c", b"d"]]
    assert cache.get([b"c"], [b"x"]) == [b"C"] and len(batches) == 1  # nothing is new, so nothing is encoded ahead
    assert cache.get([b"d", b"e"], []) == [b"D", b"E"]
    assert batches[1] == [b"e"]
