"""executors/ray/driver.py: a run is idle, so that Ctrl-C stops it at once, only where no record would be lost."""

from __future__ import annotations

import io
import pickle

import pytest

from smolcli.engine.protocol import Work
from smolcli.executors.answers import Skip
from smolcli.executors.base import RunSpec
from smolcli.executors.ray.driver import RayExecutor
from smolcli.executors.ray.worker import WorkerResult
from smolcli.executors.ray.worker_pool import CallResult, ItemBatch, WorkerSlot
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model
from smolcli.records.sink import RecordSink
from smolcli.tasks.caption import Caption
from smolcli.terminal.console import Console
from smolcli.types import Item
from smolcli.writers.json_lines import JsonLines
from tests.helpers import IDENTITY, RECORD


@pytest.fixture
def executor() -> RayExecutor:
    """An executor of two items, on no cluster."""
    sink = RecordSink(JsonLines(io.StringIO()), Console(quiet=True))
    work = Work("none:None", ModelFiles("none"), Model(), Input(), Generate())
    executor = RayExecutor(RunSpec(Caption(), IDENTITY, work), sink)
    executor._items = {number: Item.of(f"{number}.png") for number in range(2)}
    return executor


@pytest.fixture
def were_idle(executor: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the executor was idle, each time the sink was given something."""
    were_idle: list[bool] = []

    def note(*_: object) -> bool:
        were_idle.append(executor.is_idle)
        return True

    for name in ("write_record", "skip"):
        monkeypatch.setattr(executor._sink, name, note)
    return were_idle


def test_a_run_is_not_idle_while_its_last_record_is_written(executor: RayExecutor, were_idle: list[bool]) -> None:
    executor._done = {0: RECORD, 1: Skip()}
    executor._deliver_in_order()
    assert were_idle == [False, False]
    assert executor.is_idle


def test_a_run_is_not_idle_between_a_batch_and_its_records(
    executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    were_idle: list[bool] = []
    finish_batch = WorkerSlot.finish

    def watched_finish(slot: WorkerSlot, batch: ItemBatch) -> None:
        finish_batch(slot, batch)
        were_idle.append(executor.is_idle)

    monkeypatch.setattr(WorkerSlot, "finish", watched_finish)
    batch = ItemBatch([0, 1])
    slot = WorkerSlot("node", "host", 1, 0, batches=[batch])
    executor._pool.slots.append(slot)
    assert not executor.is_idle
    records = dict.fromkeys(batch.numbers, RECORD)
    executor._on_result(CallResult(slot, None, batch, pickle.dumps(WorkerResult(records))))
    assert were_idle == [False]
    assert not executor.is_idle
