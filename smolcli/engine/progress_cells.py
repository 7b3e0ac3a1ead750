"""Progress cells: shared memory in which the engine's process shows what it is working on.

No message is needed, and the values outlive the process: whatever ends it, its owner still reads what was under way.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from threading import Condition
from typing import NamedTuple

FIELDS = 4  # 64-bit integers of a cell: stage, number, slot, pieces
OPENING = -1  # the slot of an item's opening; its prompts are numbered from 0


class RequestId(NamedTuple):
    """The number of an item, and OPENING or the slot of one of its prompts; any integers of 64 bits."""

    number: int
    slot: int

    @property
    def is_opening(self) -> bool:
        """Whether it is the opening of the item, not a prompt."""
        return self.slot == OPENING


class Stage(IntEnum):
    """What the engine's process does with the request of a cell."""

    FREE = 0  # the cell has no request
    OPENING = 1  # an item is being opened
    PREPARING = 2  # the pictures of a prompt are being decoded and cut into tiles, in a thread
    IN_MODEL = 3  # the model is working on a prompt
    WAITING = 4  # a prompt was taken, and waits for a thread or for the model: nothing is done with it


class Activity(NamedTuple):
    """How far a request is that is being worked on: OPENING, PREPARING or IN_MODEL, and the pieces of its reply."""

    stage: Stage
    pieces: int = 0

    @property
    def is_in_model(self) -> bool:
        """Whether the model is working on it; else it is being opened or prepared."""
        return self.stage is Stage.IN_MODEL

    @property
    def has_output(self) -> bool:
        """Whether pieces of its reply have come."""
        return self.pieces > 0


class ProgressCells:
    """The progress cells in `memory`, 64-bit integers that two processes share: as many cells as it has room for.

    The engine's process writes them, from any of its threads: `begin`, `set_stage`, `count_piece`, `clear`. Its owner
    reads them with `activity`. A request has a cell from its beginning to its end, and which cell it has means nothing.

    Where all cells are taken, the model's thread takes no further prompt until one is free: it asks `has_free` before.
    Other threads wait in `begin`. They keep a cell only while they work, so one of theirs becomes free.

    >>> cells = ProgressCells(memoryview(bytearray(2 * FIELDS * 8)).cast("q"))  # two cells
    >>> opening = cells.begin(RequestId(7, OPENING), Stage.OPENING)
    >>> prompt = cells.begin(RequestId(6, 0), Stage.PREPARING)
    >>> cells.has_free
    False
    >>> cells.set_stage(prompt, Stage.IN_MODEL)
    >>> cells.count_piece(prompt)
    >>> for request, activity in cells.activity().items():
    ...     print(*request, activity.stage.name, activity.pieces)
    7 -1 OPENING 0
    6 0 IN_MODEL 1
    >>> cells.clear(opening)
    >>> list(cells.activity()), cells.has_free
    ([RequestId(number=6, slot=0)], True)
    """

    def __init__(self, memory: memoryview[int]) -> None:
        self._memory = memory
        self._free = deque(range(0, len(memory) // FIELDS * FIELDS, FIELDS))  # cells: where their integers begin
        self._changed = Condition()  # guards `_free`, and the stages of taken cells

    @property
    def has_free(self) -> bool:
        """Whether a cell is free now."""
        return bool(self._free)

    def begin(self, request: RequestId, stage: Stage) -> int:
        """Take a free cell for a request, and return it. Where there is none, wait until another thread clears one."""
        with self._changed:
            self._changed.wait_for(lambda: self._free)
            cell = self._free.popleft()
        memory = self._memory
        memory[cell + 1], memory[cell + 2], memory[cell + 3] = request.number, request.slot, 0
        memory[cell] = stage  # last: a cell that has a stage is whole, wherever the process ends
        return cell

    def is_in_model(self, cell: int) -> bool:
        """Whether the model is working on the cell's request."""
        return self._memory[cell] == Stage.IN_MODEL

    def set_stage(self, cell: int, stage: Stage) -> None:
        """Say what is done with the cell's request from now on.

        Once it is IN_MODEL it stays so: the model's thread may wait for the thread that prepares it.
        """
        with self._changed:
            if self._memory[cell] != Stage.IN_MODEL:
                self._memory[cell] = stage

    def count_piece(self, cell: int) -> None:
        """Say that one more piece of the cell's reply has come."""
        self._memory[cell + 3] += 1

    def clear(self, cell: int) -> None:
        """Say that the cell's request is done; the cell is free."""
        self._memory[cell] = Stage.FREE
        with self._changed:
            self._free.appendleft(cell)  # taken again first: few cells change, and the others stay out of the caches
            self._changed.notify()

    def activity(self) -> dict[RequestId, Activity]:
        """What is being worked on, in the order of the cells. A request may still be here after its answer came.

        While the engine's process runs, a cell that gets another request meanwhile may be read as a mixture of the two;
        the next reading is right. When it has ended, every reading is.
        """
        memory = self._memory
        return {
            RequestId(memory[cell + 1], memory[cell + 2]): Activity(Stage(stage), memory[cell + 3])
            for cell, stage in zip(range(0, len(memory), FIELDS), memory[::FIELDS], strict=True)
            if stage and stage != Stage.WAITING  # most are FREE, which is 0
        }
