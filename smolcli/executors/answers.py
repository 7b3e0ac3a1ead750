"""Which items are asked about: those whose answer is not among the results, not in this run, and not on its way.

    answers = KnownAnswers(sink, results, retry_failed)
    answers.decide(opened)              # -> AskModel, Wait, Skip, or the Record that it gets
    answers.finish(number, record)      # -> what is decided for items that have waited
    answers.deliver(number, record)     # to the sink, in the order of the items

A run on this machine uses it, and the driver of a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from smolcli.executors.duplicates import AskModel, Duplicates, OpenItem, Wait
from smolcli.records.run_answers import RunAnswers
from smolcli.records.sink import RecordSink
from smolcli.types import Record

if TYPE_CHECKING:
    from smolcli.records.resume import InputState, ResultsFile


@dataclass(frozen=True)
class Skip:
    """Leave the item out: it has a record already, of this `id`, which gives it this `state`."""

    state: InputState = "done"
    id: str = ""


Decision = AskModel | Wait | Skip | Record  # a Record is that of the item, made of a known answer


class Answers(Protocol):
    """Decides which items are asked about, and takes their records."""

    def decide(self, item: OpenItem) -> Decision:
        """Decide about an item that is open and whose turn has come."""
        ...

    def finish(self, number: int, record: Record) -> Sequence[tuple[int, AskModel | Record]]:
        """Take the record of an item before its turn. Returns what is decided for items that have waited for it."""
        ...

    def drop(self, number: int) -> Sequence[tuple[int, AskModel | Record]]:
        """Note that an item is left out. Returns what is decided for items that have waited for it."""
        ...

    def deliver(self, number: int, record: Record) -> bool:
        """Give the record of an item, whose turn has come, to the sink. Returns whether the run is to go on."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class KnownAnswers:
    """Looks for an answer in `results`, those of earlier runs; without them among the answers of this run."""

    def __init__(self, sink: RecordSink, results: ResultsFile | None, retry_failed: bool) -> None:
        self._sink, self._results, self._retry_failed = sink, results, retry_failed
        self._run_answers = RunAnswers()  # of the contents that `results` does not know
        self._duplicates = Duplicates()

    def decide(self, item: OpenItem) -> Decision:
        """Decide about an item that is open and whose turn has come."""
        if (skip := self._skip(item.path, item.id, item.stamp)) is not None:
            return skip
        if (answered := (self._results or self._run_answers).answer(item.id)) is not None:
            return item.copy_of(answered)
        return self._duplicates.claim(item)

    def reopen(self, item: OpenItem) -> list[tuple[int, AskModel | Record]]:
        """Note that an item was opened again. Returns what follows for those that wait for it, if it has changed."""
        return self._duplicates.reopen(item)

    def finish(self, number: int, record: Record) -> list[tuple[int, AskModel | Record]]:
        """Take the record of an item before its turn. Returns what is decided for items that have waited for it."""
        return self._duplicates.finish(number, record)

    def drop(self, number: int) -> list[tuple[int, AskModel | Record]]:
        """Note that an item is left out. Returns what is decided for items that have waited for it."""
        return self._duplicates.drop(number)

    def deliver(self, number: int, record: Record) -> bool:
        """Give a record to the sink, or leave it out where there is one. Returns whether the run is to go on."""
        goes_on = True
        if (skip := self._skip(record.path, record.id, record.stamp)) is not None:  # a path that was given twice
            self._sink.skip(record.path, skip.state, skip.id)
        else:
            goes_on = self._sink.write_record(record)
        if self._results is None:
            self._run_answers.add(record)
        self._duplicates.forget(number)
        return goes_on

    def close(self) -> None:
        """Delete the temporary file with this run's answers."""
        self._run_answers.close()

    def _skip(self, path: str, id: str, stamp: str) -> Skip | None:
        """How an item is left out whose record is among the results; None where there is none that counts."""
        if self._results is None:
            return None
        state = self._results.state_by_id(path, id, stamp)
        return Skip(state, id) if self._results.is_skipped(state, self._retry_failed) else None
