"""Makes records of items on a Ray cluster: one loaded model for each worker, records in the order of the items.

    item -> batch of items -> Worker.answer, on some node -> records, by number -> each in its turn -> RecordSink
                              Worker.report -> open items -> Answers: which of them are asked about

A Worker has a LocalExecutor of its own, which lives as long as the run and is sent batches. It reports the items that
are open, and the driver, which knows the answers of all workers and of earlier runs, decides which are asked about.
The batches of a worker or a node that dies are sent to another, so no item is lost. Only records that have arrived here
count, so none comes twice.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

from smolcli import registry
from smolcli.errors import SmolError, UsageError
from smolcli.executors.answers import Decision, KnownAnswers, Skip
from smolcli.executors.base import RunSpec
from smolcli.executors.duplicates import AskModel, OpenItem, Wait
from smolcli.executors.producer import EndOfItems, Producer
from smolcli.executors.ray.connection import connected
from smolcli.executors.ray.worker import WorkerJob, WorkerResult, with_moved_files
from smolcli.executors.ray.worker_pool import (
    CallResult,
    ItemBatch,
    Report,
    Start,
    WorkerNeeds,
    WorkerPool,
    WorkerSlot,
)
from smolcli.models.files import BUILT_IN, ModelFiles, weight_files
from smolcli.records.resume import ResultsFile
from smolcli.records.sink import RecordSink
from smolcli.types import Fault, Item, Record, is_url

MAX_BATCH_BYTES = 2**24  # of content from pipes in a batch
AHEAD = 512  # items, for each worker, that are under way or done and wait for their turn
SPARE_MEMORY = 2**29  # bytes of a worker beside its model

# What comes into the inbox: from the source, from the workers, and None to wake the loop.
Message = Item | EndOfItems | BaseException | CallResult | None


class RayExecutor:
    """Runs one task over many items on a Ray cluster; every record goes to `sink`, in the order of the items.

    `spec.batch.address` names the cluster, as Ray does; without one, a cluster of this machine alone is started. With
    `results`, items that have a record there are left out, and an item whose content was answered under another path
    gets a copy of that answer. Raises UsageError for a device that only this machine has.
    """

    def __init__(self, spec: RunSpec, sink: RecordSink, results: ResultsFile | None = None) -> None:
        self._spec, self._sink = spec, sink
        work = spec.work
        self._folder = os.getcwd()
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._producer = Producer(self._inbox)
        device = work.model.device
        entry = registry.BACKENDS.get(spec.identity.backend)
        may_use_gpu = entry is not None and (
            entry.uses_gpu if device == "auto" else device.partition(":")[0] in entry.gpu_kinds
        )
        if may_use_gpu and device.startswith("cuda:"):
            raise UsageError(f"--device {device} is one of this machine", "with --engine ray give cuda")
        needs = WorkerNeeds(
            work.model.threads, SPARE_MEMORY + 2 * _model_bytes(work.files), may_use_gpu,
            must_use_gpu=may_use_gpu and device == "cuda",
        )  # fmt: skip
        work = replace(work, files=with_moved_files(work.files, Path.absolute), streams=False)
        identity = replace(spec.identity)  # a copy without its cached hash, which cannot be pickled
        job = WorkerJob(replace(spec, identity=identity, work=work), BUILT_IN)
        self._pool = WorkerPool(pickle.dumps(job), needs, self._inbox)
        self._answers = KnownAnswers(sink, results, spec.batch.retry_failed)
        self._items: dict[int, Item] = {}  # by number: all that were not delivered
        self._waiting: deque[int] = deque()  # items that no worker was sent
        self._retries: list[ItemBatch] = []  # batches of workers that have died
        self._done: dict[int, Record | Skip] = {}  # what waits for its turn
        self._error: SmolError | None = None  # that ends the run
        self._has_all_items = False
        self._next_number = 0  # of the next item that comes
        self._next_delivery = 0  # the number of the next record to deliver
        self._has_dropped = self._stops_at_once = False
        self.is_stopping = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost now: no worker has a batch, and no record waits or is being written."""
        return not self._done and not self._pool.is_busy

    def run(self, source: Iterable[Item]) -> None:
        """Give the record of every item to the sink, in order.

        Raises what `source` and the sink raise, UnavailableError where there is no cluster or it lacks what is
        needed, and ModelError, UsageError and EngineError as a worker does.
        """
        with contextlib.closing(self._answers), connected(self._spec.batch.address, self._spec.verbose):
            try:
                self._add_permits(self._pool.start())
                self._producer.start(source)
                while not self._is_over:
                    self._handle(self._next_message())
                    self._deliver_in_order()
                    self._send_batches()
                self._deliver_all()
            finally:
                self.is_stopping = True
                self._producer.stop()
                self._pool.kill_workers()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Begin no other item, and finish what the models have begun. Safe in a signal handler."""
        self.is_stopping = True
        self._inbox.put(None)

    @property
    def _is_over(self) -> bool:
        if self._stops_at_once or self._error is not None:
            return True
        return not self._pool.is_busy if self.is_stopping else self._has_all_items and not self._items

    # ---- messages ------------------------------------------------------------------------------------

    def _next_message(self) -> Message:
        try:
            return self._inbox.get(timeout=self._pool.seconds_until_refresh)
        except Empty:
            return None

    def _handle(self, message: Message) -> None:
        match message:
            case CallResult():
                self._on_result(message)
            case Item():
                self._items[self._next_number] = message
                self._waiting.append(self._next_number)
                self._next_number += 1
            case EndOfItems():
                self._has_all_items = True
            case BaseException():
                raise message
        self._add_permits(self._pool.refresh_if_due())
        if self.is_stopping and not self._has_dropped:
            self._drop_waiting()

    def _add_permits(self, new_slots: int) -> None:
        """Let in as many more items as new workers are to have ahead."""
        if new_slots:
            self._producer.add_permits(AHEAD * new_slots)

    def _on_result(self, result: CallResult) -> None:
        if result.is_outdated:
            return
        if result.value is None:
            self._on_death(result)
            return
        match result.call:
            case Report():
                self._on_report(result.slot, pickle.loads(result.value))
            case Start():
                answer = self._note_ends(result.value)
                if answer.error is None:
                    result.slot.is_ready = True
                    self._pool.ask_for_report(result.slot)
            case ItemBatch() as batch:
                answer = self._note_ends(result.value)
                for number, record in answer.records.items():
                    if number in batch.numbers:  # else it waits for another answer, and has failed meanwhile
                        self._finish(number, record)
                result.slot.finish(batch)  # not before: `is_idle` looks at the batches

    def _note_ends(self, value: bytes) -> WorkerResult:
        """What a worker has answered, after its engine's end or the run's was noted."""
        answer: WorkerResult = pickle.loads(value)
        if answer.restart is not None:
            kind, number = answer.restart
            item = None if number is None else self._items.get(number)
            self._sink.note_restart(kind, "" if item is None else item.path)
        if answer.error is not None:
            self._error = answer.error
        return answer

    def _on_report(self, slot: WorkerSlot, opened: Sequence[OpenItem]) -> None:
        """Decide about the items that a worker has opened; one that has ended reports none."""
        if opened and not self.is_stopping:
            self._pool.ask_for_report(slot, [(item.number, self._decide(slot, item)) for item in opened])

    def _decide(self, slot: WorkerSlot, opened: OpenItem) -> AskModel | Skip:
        """Decide whether a worker asks its model about an item."""
        number = int(opened.path)
        batch = slot.batch_of(number)
        if batch is None:
            return Skip()  # it has failed, and its record is here
        item = self._items[number]
        opened = replace(opened, number=number, path=item.path, paths=item.paths)
        self._settle_all(self._answers.reopen(opened))
        decision = self._answers.decide(opened)
        if isinstance(decision, AskModel):
            return decision
        batch.numbers.remove(number)
        self._settle(number, decision)
        return Skip()

    def _finish(self, number: int, record: Record) -> None:
        """Take a record that a worker has made; it gets the names that the user gave."""
        item = self._items[number]
        fault = record.error and Fault(record.error.kind, _with_user_names(record.error.message, item, self._folder))
        record = replace(record, path=item.path, error=fault)
        self._done[number] = record
        self._settle_all(self._answers.finish(number, record))

    def _settle_all(self, decisions: Iterable[tuple[int, AskModel | Record]]) -> None:
        for number, decision in decisions:
            self._settle(number, decision)

    def _settle(self, number: int, decision: Decision) -> None:
        """Do what was decided about an item that no worker has."""
        match decision:
            case AskModel():
                self._retries.append(ItemBatch([number]))
            case Wait():
                pass  # for the answer to another item
            case _:
                self._done[number] = decision

    def _on_death(self, result: CallResult) -> None:
        """Have the batches of a worker that has died sent to another one."""
        batches = self._pool.take_batches_of_dead(result)
        if self.is_stopping:
            return
        self._retries = sorted(self._retries + batches, key=lambda batch: batch.numbers[0])
        self._error = self._pool.count_death(result, batches)
        if self._error is None:
            self._add_permits(self._pool.refresh())

    def _drop_waiting(self) -> None:
        """Have every worker finish what its model has begun, and drop all other items."""
        self._has_dropped = True
        self._waiting.clear()
        self._retries.clear()
        self._pool.stop_workers()

    # ---- batches go out ------------------------------------------------------------------------------

    def _send_batches(self) -> None:
        while not self.is_stopping and (self._retries or self._waiting):
            slot = self._pool.free_slot()
            if slot is None:
                return
            batch = self._retries.pop(0) if self._retries else self._make_batch(slot.batch_size)
            items = [_portable(number, self._items[number], self._folder) for number in batch.numbers]
            self._pool.send(slot, batch, items)

    def _make_batch(self, size: int) -> ItemBatch:
        numbers: list[int] = []
        held = 0
        while self._waiting and len(numbers) < size and held < MAX_BATCH_BYTES:
            numbers.append(self._waiting.popleft())
            held += sum(len(source.data or b"") for source in self._items[numbers[-1]].sources)
        return ItemBatch(numbers)

    # ---- records go out ------------------------------------------------------------------------------

    def _deliver_in_order(self) -> None:
        """Deliver the records whose turn has come."""
        while self._next_delivery in self._done and not self._stops_at_once:
            number = self._next_delivery
            done, item = self._done[number], self._items.pop(number)
            if isinstance(done, Skip):
                self._sink.skip(item.path, done.state, done.id)
            elif not self._answers.deliver(number, done):
                self._stops_at_once = self.is_stopping = True
            del self._done[number]  # not before: `is_idle` looks at it
            self._next_delivery += 1
            self._producer.add_permits()

    def _deliver_all(self) -> None:
        """Deliver all records that are left, in order, though records between them are missing."""
        for number in sorted(self._done):
            self._next_delivery = number
            self._deliver_in_order()


def _model_bytes(files: ModelFiles) -> int:
    """Bytes of a model's files."""
    paths = [path for path in (files.gguf, files.mmproj) if path] or (
        weight_files(files.checkpoint) if files.checkpoint else []
    )
    return sum(path.stat().st_size for path in paths if path.is_file())


def _portable(number: int, item: Item, folder: str) -> Item:
    """An item as a worker gets it: named by its number, its files given from the root on."""
    sources = (
        source if source.data is not None or is_url(source.word) or not source.word
        else replace(source, word=os.path.join(folder, source.word))  # not normalized: a/../b may be elsewhere than b
        for source in item.sources
    )  # fmt: skip
    return replace(item, path=str(number), sources=tuple(sources))


def _with_user_names(message: str, item: Item, folder: str) -> str:
    """A worker's message with the names that the user gave the item's sources, where it has several."""
    if len(item.sources) > 1:
        for source in item.sources:
            message = message.replace(f"{os.path.join(folder, source.word)}: ", f"{source.word}: ", 1)
    return message
