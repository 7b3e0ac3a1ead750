"""The workers of a run on the nodes of a Ray cluster: started on every node, replaced when they die."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from smolcli import __version__
from smolcli.engine.watchdog import LOAD_SECONDS
from smolcli.errors import EngineError, SmolError, UnavailableError, UsageError
from smolcli.executors.answers import Skip
from smolcli.executors.duplicates import AskModel
from smolcli.executors.ray.worker import Worker
from smolcli.process.inbox import Inbox
from smolcli.types import Item

# A call of an actor costs Ray about a millisecond. A batch of a second's work makes that a thousandth of it, and what
# is done is still seen every second; MAX_BATCH keeps the batches of very fast backends small.
BATCH_SECONDS = 1.0
MAX_BATCH = 64  # items of a batch
DEPTH = 2  # batches that a worker has: while it ends one, it opens the items of the next
MIN_CPUS = 4  # of a worker, where its node has them: small models gain little from more
DEATHS = 3  # of the workers of a slot, or of those that had a batch, in a row, end the run
REFRESH_SECONDS = 5.0  # between two looks at which nodes there are

Actor = Any  # Ray's handle of a Worker; it makes the methods at run time


@dataclass(frozen=True)
class WorkerNeeds:
    """What one worker takes of a node: CPUs (None: a share of the node's), bytes of memory, and whether a GPU."""

    threads: int | None
    memory: int
    may_use_gpu: bool
    must_use_gpu: bool


@dataclass(eq=False)
class ItemBatch:
    """Some items, by number, that a worker answers in one call."""

    numbers: list[int]  # without those whose answer has come from elsewhere
    sent_at: float = 0.0
    deaths: int = 0  # of workers that had it


@dataclass(frozen=True)
class Start:
    """The call that starts a worker."""


@dataclass(frozen=True)
class Report:
    """The call with which a worker says which items it has opened."""


Call = Start | Report | ItemBatch


@dataclass(eq=False)
class WorkerSlot:
    """A share of a node that one worker takes, and the worker that has it now."""

    node_id: str
    host: str
    cpus: int
    gpus: int
    actor: Actor | None = None
    is_ready: bool = False
    batches: list[ItemBatch] = field(default_factory=list)  # that it is answering
    batch_size: int = 1  # items of its next batch
    last_result_at: float = 0.0
    deaths: int = 0  # of its workers, in a row

    def batch_of(self, number: int) -> ItemBatch | None:
        """The batch with this item that the worker is answering, if there is one."""
        return next((batch for batch in self.batches if number in batch.numbers), None)

    def finish(self, batch: ItemBatch) -> None:
        """Note that a batch was answered: the next one is to take BATCH_SECONDS, and has at most twice as many items.

        >>> slot, batch = WorkerSlot("", "", 1, 0), ItemBatch([7], sent_at=time.monotonic())
        >>> slot.batches.append(batch)
        >>> slot.finish(batch)
        >>> slot.batch_size, slot.batches
        (2, [])
        """
        now = time.monotonic()
        self.batches.remove(batch)
        item_seconds = (now - max(batch.sent_at, self.last_result_at)) / max(1, len(batch.numbers))
        size = BATCH_SECONDS / max(item_seconds, 1e-6)
        self.batch_size = int(min(max(size, 1), 2 * self.batch_size, MAX_BATCH))
        self.last_result_at, self.deaths = now, 0


@dataclass(frozen=True)
class CallResult:
    """What came of a call of a worker: what it returned, pickled, or why it returned nothing.

    That is a list of OpenItem for a Report, else a WorkerResult.
    """

    slot: WorkerSlot
    actor: Actor
    call: Call
    value: bytes | None = None
    failure: BaseException | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether it is of a worker that was replaced meanwhile."""
        return self.slot.actor is not self.actor


class WorkerPool:
    """Keeps a worker in every slot of every node, and sends batches to them. Results are put into `inbox`.

    `job` is a pickled WorkerJob, which every worker is started with.
    """

    def __init__(self, job: bytes, needs: WorkerNeeds, inbox: Inbox[CallResult]) -> None:
        self._job, self._needs, self._inbox = job, needs, inbox
        self.slots: list[WorkerSlot] = []
        self._gpus: int | None = None  # of each worker, once the nodes are known
        self._next_refresh_at = 0.0
        self._last_ready_at = 0.0  # when a worker was last ready to take batches; at first the start

    @property
    def is_busy(self) -> bool:
        """Whether any worker has a batch."""
        return any(slot.batches for slot in self.slots)

    @property
    def seconds_until_refresh(self) -> float:
        """Seconds until `refresh_if_due` is to be called, at least 0.01."""
        return max(0.01, self._next_refresh_at - time.monotonic())

    def free_slot(self) -> WorkerSlot | None:
        """The slot to send the next batch to: of those that may take another, the one with the fewest."""
        free = (slot for slot in self.slots if slot.is_ready and len(slot.batches) < DEPTH)
        return min(free, key=lambda slot: len(slot.batches), default=None)

    def send(self, slot: WorkerSlot, batch: ItemBatch, items: Sequence[Item]) -> None:
        """Have a slot's worker answer a batch."""
        assert slot.actor is not None
        batch.sent_at = time.monotonic()
        slot.batches.append(batch)
        self._forward_result(slot, slot.actor.answer.remote(pickle.dumps(items)), batch)

    def ask_for_report(self, slot: WorkerSlot, decisions: Sequence[tuple[int, AskModel | Skip]] = ()) -> None:
        """Have a slot's worker say which items it has opened, and tell it what was decided about earlier ones."""
        assert slot.actor is not None
        self._forward_result(slot, slot.actor.report.remote(pickle.dumps(list(decisions))), Report())

    def start(self) -> int:
        """Start the first workers. Returns the number of slots.

        Raises UnavailableError or UsageError where no node has what a worker needs.
        """
        self._last_ready_at = time.monotonic()
        new_slots = self.refresh()
        if not new_slots:
            raise self._no_slot_error()
        return new_slots

    def refresh_if_due(self) -> int:
        """Refresh every few seconds. Returns the number of new slots.

        Raises UnavailableError where no worker has been ready for as long as a model may take to load.
        """
        now = time.monotonic()
        if now < self._next_refresh_at:
            return 0
        self._next_refresh_at = now + REFRESH_SECONDS
        new_slots = self.refresh()
        if any(slot.is_ready for slot in self.slots):
            self._last_ready_at = now
        elif now - self._last_ready_at > LOAD_SECONDS:
            message = f"no worker could be started on the Ray cluster within {LOAD_SECONDS:.0f} s"
            raise UnavailableError(message, "other jobs may have taken its CPUs: see ray status")
        return new_slots

    def refresh(self) -> int:
        """Make slots on new nodes, and start a worker in every slot that has none. Returns the number of new slots.

        Raises EngineError where the cluster is lost.
        """
        try:
            nodes = {node["NodeID"]: node for node in _ray().nodes() if node["Alive"]}
        except Exception as error:
            raise EngineError(f"the Ray cluster is lost ({_summary(error)})", "--resume goes on") from error
        if self._gpus is None:
            has_gpus = any(node["Resources"].get("GPU") for node in nodes.values())
            self._gpus = int(self._needs.must_use_gpu or (self._needs.may_use_gpu and has_gpus))
        self.slots = [slot for slot in self.slots if slot.node_id in nodes or slot.actor is not None]
        new_slots = 0
        for node_id in nodes.keys() - {slot.node_id for slot in self.slots}:
            resources, host = nodes[node_id]["Resources"], nodes[node_id]["NodeManagerHostname"]
            number, cpus = divide_node(resources, self._needs.threads, bool(self._gpus), self._needs.memory)
            self.slots += [WorkerSlot(node_id, host, cpus, self._gpus) for _ in range(number)]
            new_slots += number
        for slot in self.slots:
            if slot.actor is None:
                self._start_worker(slot)
        return new_slots

    def take_batches_of_dead(self, result: CallResult) -> list[ItemBatch]:
        """Empty the slot of a worker that has died. Returns the batches that it had."""
        slot = result.slot
        batches, slot.batches = [batch for batch in slot.batches if batch.numbers], []
        _kill(slot.actor)
        slot.actor, slot.is_ready, slot.batch_size = None, False, 1
        return batches

    def count_death(self, result: CallResult, batches: Sequence[ItemBatch]) -> SmolError | None:
        """Count the death of a worker that had these batches. Returns the error that ends the run, if it has to."""
        slot, failure = result.slot, result.failure
        assert failure is not None
        slot.deaths += 1
        for batch in batches:
            batch.deaths += 1
        if max([slot.deaths, *(batch.deaths for batch in batches)]) >= DEATHS:
            message = f"{DEATHS} times in a row a worker of Ray's died, last on {slot.host} ({_summary(failure)})"
            return EngineError(message, "is there memory enough? --resume goes on")
        return _permanent_error(failure, slot.host)

    def stop_workers(self) -> None:
        """Have every worker finish what its model has begun, and begin nothing else."""
        for slot in self.slots:
            if slot.batches and slot.actor is not None:
                slot.actor.stop.remote()

    def kill_workers(self) -> None:
        """End every worker, its engine with it."""
        for slot in self.slots:
            _kill(slot.actor)

    def _no_slot_error(self) -> SmolError:
        """Why no node has a slot for a worker."""
        if self._needs.must_use_gpu:
            return UnavailableError("no node of the Ray cluster has a GPU", "leave out --device cuda")
        if self._needs.threads is not None:
            return UsageError(f"no node of the Ray cluster has {self._needs.threads} CPUs", "lower --threads")
        return UnavailableError("no node of the Ray cluster has a CPU to give", "see ray status")

    def _start_worker(self, slot: WorkerSlot) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        on_node = NodeAffinitySchedulingStrategy(slot.node_id, soft=False)
        actor_class = _ray().remote(Worker).options(
            num_cpus=slot.cpus, num_gpus=slot.gpus, max_concurrency=DEPTH + 3, max_restarts=0,
            scheduling_strategy=on_node,
        )  # fmt: skip
        slot.actor = actor_class.remote()
        self._forward_result(slot, slot.actor.start.remote(__version__, self._job, slot.cpus, slot.gpus), Start())

    def _forward_result(self, slot: WorkerSlot, reference: Any, call: Call) -> None:
        """Have what comes of a call, which is one of Ray's object references, put into the inbox."""
        actor = slot.actor

        def put_result(future: Future[bytes]) -> None:
            failure = future.exception()
            value = None if failure else future.result()
            self._inbox.put(CallResult(slot, actor, call, value, failure))

        reference.future().add_done_callback(put_result)


def divide_node(resources: Mapping[str, float], threads: int | None, gpus: bool, memory: int) -> tuple[int, int]:
    """How many workers a node takes, and the CPUs of each; `memory` is what each needs, in bytes.

    >>> [divide_node({"CPU": cpus}, None, False, 2**30) for cpus in (0, 1, 7, 8, 11)]
    [(0, 0), (1, 1), (1, 7), (2, 4), (2, 5)]
    >>> divide_node({"CPU": 11}, 3, False, 2**30), divide_node({"CPU": 2}, 3, False, 2**30)
    ((3, 3), (0, 0))
    >>> divide_node({"CPU": 64, "memory": 2**33}, None, False, 2**31)
    (4, 16)
    >>> divide_node({"CPU": 16, "GPU": 2}, None, True, 2**31)
    (2, 8)
    """
    cpus = int(resources.get("CPU", 0))
    workers = cpus // threads if threads else min(cpus, max(1, cpus // MIN_CPUS))
    if gpus:
        workers = min(int(resources.get("GPU", 0)), workers if threads else cpus)
    elif workers and "memory" in resources:
        workers = max(1, min(workers, int(resources["memory"]) // memory))
    return (workers, threads or cpus // workers) if workers else (0, 0)


def _ray() -> Any:
    """The library; connection.py has imported it first."""
    import ray

    return ray


def _kill(actor: Actor | None) -> None:
    if actor is not None:
        with contextlib.suppress(Exception):  # it has died, or the cluster has
            _ray().kill(actor)


def _permanent_error(failure: BaseException, host: str) -> SmolError | None:
    """The error for a failure that would happen again each time; None for a death."""
    from ray.exceptions import RayTaskError

    if "error raised in its creation task" in str(failure):
        message = f"a worker cannot be started on {host} ({_summary(failure)})"
        return UnavailableError(message, f"install smolcli {__version__} there")
    if isinstance(failure, RayTaskError):
        message = f"a worker failed on {host} ({_summary(failure)})"
        return EngineError(message, "run it again with -v and report it")
    return None


def _summary(error: BaseException) -> str:
    """The one line that says what happened, of the many that Ray's errors have."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = next((line for line in lines if "Worker exit detail: " in line), lines[-1])
    return line.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0].strip(" .")[:300]
