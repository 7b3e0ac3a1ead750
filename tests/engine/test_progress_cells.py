"""engine/progress_cells.py: what one process writes, another reads, for any numbers and any number of requests."""

from __future__ import annotations

import mmap
from queue import SimpleQueue
from threading import Thread

import pytest

from smolcli.engine.progress_cells import FIELDS, OPENING, Activity, ProgressCells, RequestId, Stage

EXTREMES = [0, 1, OPENING, 59, 65_533, 65_534, 65_535, 2**32, 2**63 - 1, -(2**63)]


def both_sides(cells: int) -> tuple[ProgressCells, ProgressCells]:
    """Two views of one memory, as two processes have."""
    memory = mmap.mmap(-1, cells * FIELDS * 8)
    return ProgressCells(memoryview(memory).cast("q")), ProgressCells(memoryview(memory).cast("q"))


@pytest.mark.parametrize("number", EXTREMES)
@pytest.mark.parametrize("slot", EXTREMES)
def test_any_64_bit_number_and_slot_are_read_as_they_were_written(number: int, slot: int) -> None:
    engine, owner = both_sides(4)
    engine.begin(RequestId(number, slot), Stage.PREPARING)
    assert owner.activity() == {RequestId(number, slot): Activity(Stage.PREPARING, 0)}


def test_prompt_65534_of_a_video_is_not_the_opening_of_the_next_one() -> None:
    engine, owner = both_sides(4)
    engine.begin(RequestId(0, 65_534), Stage.IN_MODEL)
    engine.begin(RequestId(1, OPENING), Stage.OPENING)
    assert list(owner.activity()) == [(0, 65_534), (1, OPENING)]


@pytest.mark.parametrize("count", [60, 256, 1000])
def test_as_many_replies_as_there_are_cells_are_under_way_at_a_time(count: int) -> None:
    engine, owner = both_sides(count)
    cells = [engine.begin(RequestId(number, 0), Stage.IN_MODEL) for number in range(count)]
    assert not engine.has_free
    for _ in range(3):
        engine.count_piece(cells[7])
    assert set(owner.activity()) == {(number, 0) for number in range(count)}
    assert [owner.activity()[RequestId(number, 0)].pieces for number in (6, 7, 8)] == [0, 3, 0]
    for cell in cells:
        engine.clear(cell)
    assert owner.activity() == {} and engine.has_free


def test_a_request_shows_what_is_done_with_it_and_none_while_it_waits() -> None:
    engine, owner = both_sides(2)
    request = RequestId(3, 1)
    cell = engine.begin(request, Stage.WAITING)
    assert owner.activity() == {}
    for stage, is_in_model in ((Stage.PREPARING, False), (Stage.IN_MODEL, True)):
        engine.set_stage(cell, stage)
        assert owner.activity()[request].stage is stage and owner.activity()[request].is_in_model is is_in_model
    engine.set_stage(cell, Stage.WAITING)  # by the thread that prepares it, for which the model's thread waits
    assert owner.activity()[request].is_in_model and not owner.activity()[request].has_output
    engine.count_piece(cell)
    assert owner.activity()[request].has_output
    engine.clear(cell)
    assert engine.begin(RequestId(4, 0), Stage.IN_MODEL) == cell  # and its pieces begin anew
    assert owner.activity() == {RequestId(4, 0): Activity(Stage.IN_MODEL, 0)}


def test_where_all_cells_are_taken_a_thread_waits_until_one_is_cleared() -> None:
    engine, owner = both_sides(2)
    cells = [engine.begin(RequestId(number, 0), Stage.IN_MODEL) for number in range(2)]
    taken: SimpleQueue[int] = SimpleQueue()
    thread = Thread(target=lambda: taken.put(engine.begin(RequestId(2, OPENING), Stage.OPENING)), daemon=True)
    thread.start()
    assert RequestId(2, OPENING) not in owner.activity()
    engine.clear(cells[1])
    assert taken.get(timeout=10) == cells[1]
    assert list(owner.activity()) == [(0, 0), (2, OPENING)]
