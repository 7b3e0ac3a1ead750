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


def test_the_tiles_of_several_prompts_fill_batches_together() -> None:
    """More tiles than a batch has, some of them equal; only the last batch is filled from what comes next."""
    batches: list[bytes] = []

    def encode(tiles: Sequence[bytes]) -> Iterator[bytes]:
        batches.append(b"".join(tiles))
        return iter(tile.upper() for tile in tiles)

    cache = EmbeddingCache(encode, batch_size=4)
    first, second, third = [b"a", b"b", b"c"], [b"b", b"d", b"e"], [b"f"]
    embeddings = cache.get([*first, *second, *third], upcoming=[b"a", b"g", b"h", b"i"])
    assert embeddings == [b"A", b"B", b"C", b"B", b"D", b"E", b"F"]
    assert batches == [b"abcd", b"efgh"]
