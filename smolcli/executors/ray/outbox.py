"""What a worker has for its driver: the records of each batch, and open items about which the driver decides.

    outbox = Outbox()
    executor = LocalExecutor(spec, outbox, answers=outbox)
    call = outbox.begin(numbers)        # before the items are given to the executor
    outbox.wait(call)                   # -> their records
    outbox.take_undecided()             # -> [OpenItem, ...], in another thread

A worker does not know which contents other workers are asked about, nor what is among the results. So it asks the
driver about every item that is open. The items of a worker are named by the driver's numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Condition

from smolcli.errors import ErrorKind
from smolcli.executors.answers import Skip
from smolcli.executors.duplicates import AskModel, OpenItem, Wait
from smolcli.records.resume import InputState
from smolcli.records.sink import RecordSink
from smolcli.types import Record

# A question costs the driver about a millisecond. While the model has several items to work on, those that are opened
# within GROUP_SECONDS are one question, so that many fast workers do not keep the driver busy.
SEVERAL = 8
GROUP_SECONDS = 0.25


@dataclass(eq=False)
class BatchCall:
    """A batch that is being answered: the numbers of the items that are not done, and the records of the others."""

    pending: set[int]
    records: dict[int, Record] = field(default_factory=dict)


class Outbox(RecordSink):
    """Takes the place of a LocalExecutor's sink and of its answers; no pieces and no progress."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._calls: list[BatchCall] = []  # in order; an item that is sent again is pending in the later one too
        self._restart: tuple[ErrorKind, int | None] | None = None
        self._undecided: list[OpenItem] = []
        self._reported: set[int] = set()  # items that the driver decides about, by the executor's numbers
        self._asked: set[int] = set()  # items that the model is asked about
        self._has_ended = False

    # ---- the executor's sink -------------------------------------------------------------------------

    def note_restart(self, kind: ErrorKind, path: str) -> None:
        with self._changed:
            self._restart = self._restart or (kind, int(path) if path else None)

    def show_video_progress(self, path: str, done: int, of: int, frames: int) -> None:
        pass

    def show_page_progress(self, path: str, page: int, of: int) -> None:
        pass

    def skip(self, path: str, state: InputState = "done", id: str = "") -> None:
        """Note that the driver has another answer to an item."""
        self._settle(int(path), None)

    # ---- the executor's answers ----------------------------------------------------------------------

    def decide(self, item: OpenItem) -> Wait:
        """Have the driver asked about an item; what it decides comes to LocalExecutor.decide."""
        with self._changed:
            self._undecided.append(item)
            self._changed.notify_all()
        return Wait()

    def finish(self, number: int, record: Record) -> Sequence[tuple[int, AskModel | Record]]:
        """Note that the model has done with an item."""
        self.drop(number)
        return ()

    def drop(self, number: int) -> Sequence[tuple[int, AskModel | Record]]:
        """Note that an item is not asked about any more."""
        with self._changed:
            self._asked.discard(number)
            self._reported.discard(number)
            self._undecided = [item for item in self._undecided if item.number != number]
            self._changed.notify_all()
        return ()

    def deliver(self, number: int, record: Record) -> bool:
        """Keep a record for the call that waits for it."""
        self._settle(int(record.path), record)
        return True

    def close(self) -> None:
        """Do nothing: what is there is still fetched."""

    # ---- the worker's calls --------------------------------------------------------------------------

    def end(self) -> None:
        """Let all calls end: the executor has ended, and nothing comes any more."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def begin(self, numbers: Iterable[int]) -> BatchCall:
        """Note the items of a batch, before any of them can be done."""
        call = BatchCall(set(numbers))
        with self._changed:
            self._calls.append(call)
        return call

    def wait(self, call: BatchCall) -> dict[int, Record]:
        """Wait for a batch. Returns the records by number, without items whose answer the driver has from elsewhere."""
        with self._changed:
            self._changed.wait_for(lambda: not call.pending or self._has_ended)
            self._calls.remove(call)
            return call.records

    def take_restart(self) -> tuple[ErrorKind, int | None] | None:
        """What is to be told of an engine that was lost since the last time."""
        with self._changed:
            restart, self._restart = self._restart, None
            return restart

    def take_undecided(self) -> list[OpenItem]:
        """Wait for items about which the driver is to decide; none where the executor has ended."""
        with self._changed:
            undecided: list[OpenItem] = []
            while not (undecided or self._has_ended):  # those that came first may have failed in the meantime
                self._changed.wait_for(lambda: self._undecided or self._has_ended)
                self._changed.wait_for(lambda: len(self._asked) < SEVERAL or self._has_ended, GROUP_SECONDS)
                undecided, self._undecided = self._undecided, []
            self._reported.update(item.number for item in undecided)
            return undecided

    def note_decision(self, number: int, decision: AskModel | Skip) -> None:
        """Note what the driver has decided about an item, before the executor is told."""
        with self._changed:
            if number in self._reported:  # else it has failed meanwhile, and nothing more comes of it
                self._reported.remove(number)
                if isinstance(decision, AskModel):
                    self._asked.add(number)

    def _settle(self, number: int, record: Record | None) -> None:
        """Note that an item is done, in the first call that waits for it."""
        with self._changed:
            call = next(call for call in self._calls if number in call.pending)
            call.pending.remove(number)
            if record is not None:
                call.records[number] = record
            self._changed.notify_all()
