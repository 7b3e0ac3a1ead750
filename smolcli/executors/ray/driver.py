"""The engine `ray`: the same job on a Ray cluster, one loaded model for each actor, records in the order of the inputs.

    item -> parcel of items -> Worker.answer, on some node -> records, by number -> each in its turn -> delivery

A Worker is an `Answers` of its own that lives as long as the run and is fed parcels. What an actor or a node had when
it died is given to another, so nothing is lost; a record counts when it has arrived here, so nothing comes twice.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from smolcli import __version__
from smolcli.engine.client import LOAD_SECONDS
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, SmolError, UnavailableError, UsageError
from smolcli.executors.producer import END, Producer
from smolcli.executors.ray.connection import connected
from smolcli.executors.ray.worker import Worker, moved
from smolcli.models.files import BUILT_IN, ModelFiles, weights
from smolcli.options import Batch
from smolcli.process.child import received
from smolcli.records.record_id import Identity
from smolcli.records.resume import ResultsFile
from smolcli.records.sink import RecordSink
from smolcli.tasks.base import Task
from smolcli.types import Fault, Item, Record, is_url

# A call of an actor costs Ray about a millisecond. A parcel of a second's work makes that a thousandth of it, and what
# is done is still seen every second; MOST keeps the parcels of very fast backends small.
PARCEL_SECONDS = 1.0
MOST = 64  # inputs of a parcel
MOST_BYTES = 2**24  # of pipes' content in a parcel
DEPTH = 2  # parcels an actor has: while it ends one, the inputs of the next are opened
AHEAD = 512  # inputs, for each actor, that are under way or done and wait for their turn
THREADS = 4  # CPUs of an actor at least, where its node has them: small models gain little from more
SPARE = 2**29  # bytes of memory of an actor beside its model
DEATHS = 3  # so many in a row, without an answer between them, end the run
LOOK = 5.0  # seconds between two looks at which nodes there are


@dataclass(eq=False)
class _Parcel:
    """Some items, by number, that an actor answers in one call."""

    numbers: list[int]
    given: float = 0.0
    deaths: int = 0


@dataclass(eq=False)
class _Seat:
    """A place for one actor on one node, and the actor that has it now."""

    node: str
    host: str
    cpus: int
    gpus: int
    actor: Any = None
    ready: bool = False
    parcels: list[_Parcel] = field(default_factory=list)
    size: int = 1  # inputs of its next parcel
    heard: float = 0.0
    deaths: int = 0  # in a row

    def learn(self, parcel: _Parcel) -> None:
        """How large its next parcel is, from the time that one took; at most twice the size at a time."""
        now = time.monotonic()
        each = (now - max(parcel.given, self.heard)) / len(parcel.numbers)
        wanted = PARCEL_SECONDS / max(each, 1e-6)
        self.size, self.heard = int(min(max(wanted, 1), 2 * self.size, MOST)), now


@dataclass(frozen=True)
class _Heard:
    """What became of one call of an actor: its value, or why there is none; no parcel is its beginning."""

    seat: _Seat
    actor: Any
    parcel: _Parcel | None
    value: Any = None
    failure: BaseException | None = None


class RayExecutor:
    """One task over many items, on a Ray cluster; every record goes to `delivery`, in the order of the items.

    `batch.address` names the cluster, as Ray does; without one, a cluster of this machine alone is started. With
    `results` an item that has its record there is left out, and of the same content the answer that is there is taken.
    """

    def __init__(
        self,
        task: Task,
        identity: Identity,
        work: Work,
        sink: RecordSink,
        results: ResultsFile | None = None,
        batch: Batch | None = None,
        verbose: bool = False,
    ) -> None:
        self._sink, self._results, self._verbose = sink, results, verbose
        batch = batch or Batch()
        self._address, self._threads, self._retry_failed = batch.address, work.model.threads, batch.retry_failed
        self._on_gpus = identity.backend == "torch" and work.model.device != "cpu"
        if self._on_gpus and work.model.device.startswith("cuda:"):
            raise UsageError(f"--device {work.model.device} is one of this machine", "with --engine ray give cuda")
        self._needs_gpus = self._on_gpus and work.model.device == "cuda"
        self._gpus: int | None = None  # of each actor, once the nodes are known
        self._memory = SPARE + 2 * _size(work.files)
        work = replace(work, files=moved(work.files, Path.absolute), streams=False)
        fresh = replace(identity)  # without what it keeps, which cannot be pickled
        self._job = pickle.dumps((task, fresh, work, batch, verbose, BUILT_IN))
        self._folder = os.getcwd()
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._producer = Producer(self._inbox)
        self._seats: list[_Seat] = []
        self._items: dict[int, Item] = {}  # that are not delivered, by number
        self._waiting: deque[int] = deque()
        self._again: list[_Parcel] = []  # what an actor had when it died
        self._done: dict[int, Record] = {}
        self._error: SmolError | None = None
        self._fed = False  # whether all items came
        self._count = 0
        self._next_out = 0  # the number of the next record to deliver
        self._look_at = 0.0
        self._unmanned = 0.0  # since when no actor was ready
        self._let_go = self._enough = False
        self.stopping = False

    @property
    def is_idle(self) -> bool:
        """Whether no actor is at anything, and all that is done is delivered."""
        return not self._done and not self._is_at_work

    def over(self, source: Iterable[Item]) -> None:
        """Answers every item.

        Raises what `source` and the delivery raise, UnavailableError where there is no cluster or it lacks what is
        needed, ModelError, UsageError and EngineError as a node does.
        """
        with connected(self._address, self._verbose):
            self._unmanned = time.monotonic()
            try:
                self._man()
                if not self._seats:
                    raise self._no_seat()
                self._producer.begin(source)
                while not self._is_over:
                    self._take(self._next())
                    self._hand_out()
                    self._give_out()
                self._hand_out(gaps=True)
            finally:
                self.stopping = True
                self._producer.stop()
                for seat in self._seats:
                    _kill(seat.actor)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Begin no item any more; what the models are at is finished. Safe in a signal handler."""
        self.stopping = True
        self._inbox.put(None)

    @property
    def _is_over(self) -> bool:
        if self._enough or self._error is not None:
            return True
        return not self._is_at_work if self.stopping else self._fed and not self._items

    @property
    def _is_at_work(self) -> bool:
        return any(seat.parcels for seat in self._seats)

    # ---- items come ----------------------------------------------------------------------------------

    def _next(self) -> Any:
        try:
            return self._inbox.get(timeout=max(0.01, self._look_at - time.monotonic()))
        except Empty:
            return None

    def _take(self, message: Any) -> None:
        if isinstance(message, _Heard):
            self._hear(message)
        elif isinstance(message, Item):
            self._items[self._count] = message
            self._waiting.append(self._count)
            self._count += 1
        elif message is END:
            self._fed = True
        elif message is not None:
            raise message
        if time.monotonic() >= self._look_at:
            self._look()
        if self.stopping and not self._let_go:
            self._drop_what_waits()

    def _drop_what_waits(self) -> None:
        """Has every actor finish what its model has begun, and forgets all else."""
        self._let_go = True
        self._waiting.clear()
        self._again.clear()
        for seat in self._seats:
            if seat.parcels:
                seat.actor.stop.remote()

    # ---- parcels go out ------------------------------------------------------------------------------

    def _give_out(self) -> None:
        while not self.stopping and (self._again or self._waiting):
            free = (seat for seat in self._seats if seat.ready and len(seat.parcels) < DEPTH)
            seat = min(free, key=lambda seat: len(seat.parcels), default=None)
            if seat is None:
                return
            self._give(seat, self._again.pop(0) if self._again else self._parcel(seat.size))

    def _parcel(self, size: int) -> _Parcel:
        numbers: list[int] = []
        held = 0
        while self._waiting and len(numbers) < size and held < MOST_BYTES:
            numbers.append(self._waiting.popleft())
            held += sum(len(source.data or b"") for source in self._items[numbers[-1]].sources)
        return _Parcel(numbers)

    def _give(self, seat: _Seat, parcel: _Parcel) -> None:
        parcel.given = time.monotonic()
        seat.parcels.append(parcel)
        items = [_sent(number, self._items[number], self._folder) for number in parcel.numbers]
        self._listen(seat, seat.actor.answer.remote(pickle.dumps(items)), parcel)

    def _listen(self, seat: _Seat, reference: Any, parcel: _Parcel | None) -> None:
        """Has what comes of a call put into the inbox."""
        actor = seat.actor

        def tell(future: Any) -> None:
            failure = future.exception()
            value = None if failure else future.result()
            self._inbox.put(_Heard(seat, actor, parcel, value, failure))

        reference.future().add_done_callback(tell)

    def _hear(self, heard: _Heard) -> None:
        seat = heard.seat
        if seat.actor is not heard.actor:
            return  # of one that is gone
        if heard.failure is not None:
            self._lost(seat, heard.failure)
            return
        records, error = pickle.loads(heard.value)
        if heard.parcel is None:
            seat.ready = error is None
        else:
            seat.parcels.remove(heard.parcel)
            seat.learn(heard.parcel)
            seat.deaths = 0
            self._done.update(records)
        if error is not None:
            self._error = received(error)

    # ---- records go out ------------------------------------------------------------------------------

    def _hand_out(self, gaps: bool = False) -> None:
        """Delivers the records whose turn has come; with `gaps` all there are, in order."""
        if gaps:
            for number in sorted(self._done):
                self._next_out = number
                self._hand_out()
        while self._next_out in self._done and not self._enough:
            record = self._done.pop(self._next_out)
            item = self._items.pop(self._next_out)
            self._next_out += 1
            self._producer.make_room()
            if not self._deliver(item, record):
                self._enough = self.stopping = True

    def _deliver(self, item: Item, record: Record) -> bool:
        fault = record.error and Fault(record.error.kind, _renamed(record.error.message, item, self._folder))
        record = replace(record, path=item.path, error=fault)
        if self._results is not None:
            state = self._results.state_of(item.path, record.id, record.stamp)
            if state == "done" or (state == "failed" and not self._retry_failed):
                self._sink.skip(item.path, state == "failed")
                return True
            if (same := self._results.answer(record.id)) is not None:
                record = replace(same, path=item.path, stamp=record.stamp, seconds=record.seconds)
        return self._sink.take(record)

    # ---- actors --------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = time.monotonic()
        self._look_at = now + LOOK
        self._man()
        if any(seat.ready for seat in self._seats):
            self._unmanned = now
        elif now - self._unmanned > LOAD_SECONDS:
            what = f"no worker could be started on the Ray cluster within {LOAD_SECONDS:.0f} s"
            raise UnavailableError(what, "other jobs may have taken its CPUs: see ray status")

    def _man(self) -> None:
        """Sees that every node has its actors: nodes come and go, and actors die."""
        try:
            nodes = {node["NodeID"]: node for node in _ray().nodes() if node["Alive"]}
        except Exception as error:
            raise EngineError(f"the Ray cluster is lost ({_brief(error)})", "--resume goes on") from error
        if self._gpus is None:
            some = any(node["Resources"].get("GPU") for node in nodes.values())
            self._gpus = int(self._needs_gpus or (self._on_gpus and some))
        self._seats = [seat for seat in self._seats if seat.node in nodes or seat.actor is not None]
        for id in nodes.keys() - {seat.node for seat in self._seats}:
            count, cpus = share(nodes[id]["Resources"], self._threads, bool(self._gpus), self._memory)
            host = nodes[id]["NodeManagerHostname"]
            self._seats += [_Seat(id, host, cpus, self._gpus) for _ in range(count)]
            for _ in range(AHEAD * count):
                self._producer.make_room()
        for seat in self._seats:
            if seat.actor is None:
                self._start(seat)

    def _start(self, seat: _Seat) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(seat.node, soft=False)
        actor = _ray().remote(Worker).options(
            num_cpus=seat.cpus, num_gpus=seat.gpus, max_concurrency=DEPTH + 2, max_restarts=0, scheduling_strategy=there
        )  # fmt: skip
        seat.actor = actor.remote()
        self._listen(seat, seat.actor.begin.remote(__version__, self._job, seat.cpus, seat.gpus), None)

    def _lost(self, seat: _Seat, why: BaseException) -> None:
        """An actor has died: what it had is given to another."""
        parcels, seat.parcels = seat.parcels, []
        _kill(seat.actor)
        seat.actor, seat.ready, seat.size = None, False, 1
        if self.stopping:
            return
        seat.deaths += 1
        for parcel in parcels:
            parcel.deaths += 1
        self._again = sorted(self._again + parcels, key=lambda parcel: parcel.numbers[0])
        self._error = _for_good(why, seat.host)
        if max([seat.deaths, *(parcel.deaths for parcel in parcels)]) >= DEATHS:
            what = f"{DEATHS} times in a row a worker of Ray's died, last on {seat.host} ({_brief(why)})"
            self._error = EngineError(what, "is there memory enough? --resume goes on")
        if self._error is None:
            self._man()

    def _no_seat(self) -> SmolError:
        if self._needs_gpus:
            return UnavailableError("no node of the Ray cluster has a GPU", "leave out --device cuda")
        if self._threads is not None:
            return UsageError(f"no node of the Ray cluster has {self._threads} CPUs", "lower --threads")
        return UnavailableError("no node of the Ray cluster has a CPU to give", "see ray status")


def share(resources: Mapping[str, float], threads: int | None, gpus: bool, memory: int) -> tuple[int, int]:
    """How many actors a node takes, and the CPUs of each; `memory` is what each needs, in bytes.

    >>> [share({"CPU": cpus}, None, False, 2**30) for cpus in (0, 1, 7, 8, 11)]
    [(0, 0), (1, 1), (1, 7), (2, 4), (2, 5)]
    >>> share({"CPU": 11}, 3, False, 2**30), share({"CPU": 2}, 3, False, 2**30)
    ((3, 3), (0, 0))
    >>> share({"CPU": 64, "memory": 2**33}, None, False, 2**31), share({"CPU": 16, "GPU": 2}, None, True, 2**31)
    ((4, 16), (2, 8))
    """
    cpus = int(resources.get("CPU", 0))
    count = cpus // threads if threads else min(cpus, max(1, cpus // THREADS))
    if gpus:
        count = min(int(resources.get("GPU", 0)), count if threads else cpus)
    elif count and "memory" in resources:
        count = max(1, min(count, int(resources["memory"]) // memory))
    return (count, threads or cpus // count) if count else (0, 0)


def _size(files: ModelFiles) -> int:
    """Bytes of a model's files."""
    paths = [path for path in (files.gguf, files.mmproj) if path] or (
        weights(files.checkpoint) if files.checkpoint else []
    )
    return sum(path.stat().st_size for path in paths if path.is_file())


def _sent(number: int, item: Item, folder: str) -> Item:
    """An item as it goes to a worker: named by its number, its files from the root on."""
    sources = (
        source if source.data is not None or is_url(source.word) or not source.word
        else replace(source, word=os.path.join(folder, source.word))  # and no more than that: a/../b may be elsewhere
        for source in item.sources
    )  # fmt: skip
    return replace(item, path=str(number), sources=tuple(sources))


def _renamed(message: str, item: Item, folder: str) -> str:
    """A worker's message about an item of several sources with the user's name of the one it is about."""
    if len(item.sources) > 1:
        for source in item.sources:
            message = message.replace(f"{os.path.join(folder, source.word)}: ", f"{source.word}: ", 1)
    return message


def _ray() -> Any:
    """The library; it was first imported in _connected."""
    import ray

    return ray


def _kill(actor: Any) -> None:
    """Ends an actor, its engine with it."""
    if actor is not None:
        with contextlib.suppress(Exception):  # it has died, or the cluster has
            _ray().kill(actor)


def _for_good(why: BaseException, host: str) -> SmolError | None:
    """The error for what would happen each time again; None for a death."""
    from ray.exceptions import RayTaskError

    if "error raised in its creation task" in str(why):
        what = f"a worker cannot be started on {host} ({_brief(why)})"
        return UnavailableError(what, f"install smolcli {__version__} there")
    if isinstance(why, RayTaskError):
        return EngineError(f"a worker failed on {host} ({_brief(why)})", "run it again with -v and report it")
    return None


def _brief(error: BaseException) -> str:
    """The line that says it, of Ray's many."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = next((line for line in lines if "Worker exit detail: " in line), lines[-1])
    return line.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0].strip(" .")[:300]
