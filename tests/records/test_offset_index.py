"""smolcli/records/offset_index.py: the same largest offset under each key as in a dictionary."""

from __future__ import annotations

import random

import pytest

from smolcli.records import offset_index
from smolcli.records.offset_index import OffsetIndex


@pytest.mark.parametrize("fresh", [1, 7, 100_000])
def test_it_finds_what_a_dictionary_finds(monkeypatch: pytest.MonkeyPatch, fresh: int) -> None:
    monkeypatch.setattr(offset_index, "FRESH", fresh)
    dice, index = random.Random(0), OffsetIndex()
    expected: dict[tuple[bytes, int], int] = {}
    for _ in range(2000):
        key, offset = (b"path", dice.randrange(300)), dice.randrange(-1, 2**40)
        index.add(key, offset)
        expected[key] = max(offset, expected.get(key, offset))
        other = (b"path", dice.randrange(400))
        assert index.find(other) == expected.get(other)
    assert all(index.find(key) == offset for key, offset in expected.items())
    index.load([((b"more", offset), offset) for offset in range(50)] + [((b"more", 7), 3)])
    assert [index.find((b"more", offset)) for offset in range(51)] == [*range(50), None]
    assert all(index.find(key) == offset for key, offset in expected.items())


def test_an_empty_index_finds_nothing() -> None:
    assert OffsetIndex().find(b"nothing") is None
