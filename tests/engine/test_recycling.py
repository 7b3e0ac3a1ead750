"""engine/recycling.py: given how much a child holds, when it is replaced."""

from smolcli.engine.recycling import Recycler


def replies(recycler: Recycler, count: int) -> list[bool]:
    """Whether the memory is to be measured after each of so many replies."""
    due = []
    for _ in range(count):
        recycler.count_reply()
        due.append(recycler.is_due)
    return due


def test_memory_is_measured_after_every_16_replies() -> None:
    assert [number for number, is_due in enumerate(replies(Recycler(), 50), 1) if is_due] == [16, 32, 48]


def test_a_child_may_grow_by_half_of_what_it_held_when_warm_and_by_so_many_bytes_more() -> None:
    recycler = Recycler(growth=1000)
    assert [recycler.has_outgrown(held) for held in (400, 1600, 1601, 1599)] == [False, False, True, False]


def test_the_next_child_has_a_standard_of_its_own() -> None:
    recycler = Recycler(growth=0)
    replies(recycler, 15)
    assert not recycler.has_outgrown(100) and recycler.has_outgrown(1000)
    recycler.child_ended()
    assert replies(recycler, 16) == [False] * 15 + [True]
    assert not recycler.has_outgrown(1000)
