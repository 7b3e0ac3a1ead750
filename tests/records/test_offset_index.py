"""records/offset_index.py: the largest number under each key, as a dictionary would find it."""

from __future__ import annotations

import random

import pytest

from smolcli.records import offset_index
from smolcli.records.offset_index import OffsetIndex


@pytest.mark.parametrize("fresh", [1, 7, 100_000])
def test_it_finds_what_a_dictionary_finds(monkeypatch: pytest.MonkeyPatch, fresh: int) -> None:
    monkeypatch.setattr(offset_index, "FRESH", fresh)
    chance, made, plain = random.Random(0), OffsetIndex(), {}
    for _ in range(2000):
        key, number = (b"path", chance.randrange(300)), chance.randrange(-1, 2**40)
        made.add(key, number)
        plain[key] = max(number, plain.get(key, number))
        other = (b"path", chance.randrange(400))
        assert made.find(other) == plain.get(other)
    assert all(made.find(key) == number for key, number in plain.items())
    made.load([((b"more", number), number) for number in range(50)] + [((b"more", 7), 3)])
    assert [made.find((b"more", number)) for number in range(51)] == [*range(50), None]
    assert all(made.find(key) == number for key, number in plain.items())


def test_an_empty_one_finds_nothing() -> None:
    assert OffsetIndex().find(b"nothing") is None
