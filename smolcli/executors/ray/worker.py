"""A worker on a node of a Ray cluster, one of Ray's actors: an engine that answers batches until the run ends."""

from __future__ import annotations

import pickle
import platform
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from typing import NamedTuple

from smolcli import __version__, registry
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, ErrorKind, ModelError, SmolError, UnavailableError
from smolcli.executors.local import LocalExecutor
from smolcli.models.files import BUILT_IN, ModelFiles
from smolcli.models.fingerprint import fingerprint
from smolcli.options import Batch
from smolcli.process.pipe import ErrorParts
from smolcli.records.record_id import Identity
from smolcli.records.sink import RecordSink
from smolcli.tasks.base import Task
from smolcli.types import Item, Record


class WorkerResult(NamedTuple):
    """The records of a batch by the numbers of its items, fewer where the run has ended, and what ended it.

    `restart` says that the worker's engine was lost since its last result, and started again: for a reason of which
    kind, and the number of the item that was under way, if there was one.
    """

    records: dict[int, Record]
    error: ErrorParts | None = None
    restart: tuple[ErrorKind, int | None] | None = None


class WorkerJob(NamedTuple):
    """What a run gives each of its workers; `built_in` is the folder of the built-in model where the run started."""

    task: Task
    identity: Identity
    work: Work
    batch: Batch
    verbose: bool
    built_in: Path


class _RecordCollector(RecordSink):
    """Keeps records, and that the engine was restarted, until a batch is fetched; no pieces and no progress."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.restart: tuple[ErrorKind, int | None] | None = None
        self.changed = Condition()

    def note_restart(self, kind: ErrorKind, path: str) -> None:
        with self.changed:
            self.restart = self.restart or (kind, int(path) if path else None)

    def show_video_progress(self, path: str, done: int, of: int, frames: int) -> None:
        pass

    def write_record(self, record: Record) -> bool:
        with self.changed:
            self.records[int(record.path)] = record
            self.changed.notify_all()
        return True


class Worker:
    """Runs a LocalExecutor in a thread; Ray calls the methods, each in a thread of its own."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Item | None] = SimpleQueue()
        self._collector = _RecordCollector()
        self._executor: LocalExecutor | None = None
        self._has_ended = False
        self._error: ErrorParts | None = None

    def start(self, version: str, pickled_job: bytes, cpus: int, gpus: int) -> bytes:
        """Start the executor of a WorkerJob. Returns a pickled WorkerResult without records.

        `version` is that of the smolcli that started the run: no other can read the job.
        """
        try:
            if version != __version__:
                message = f"smolcli {__version__} is installed there, and {version} started it"
                raise UnavailableError(message, f"pip install smolcli=={version}")
            job: WorkerJob = pickle.loads(pickled_job)
            work = _with_local_files(job)
            if not gpus:
                work = replace(work, model=replace(work.model, threads=cpus))
            self._executor = LocalExecutor(
                job.task, job.identity, work, self._collector, None, job.batch, job.verbose
            )  # fmt: skip
            Thread(target=self._run, args=(self._executor,), daemon=True).start()
        except SmolError as error:
            return pickle.dumps(WorkerResult({}, _error_parts(error)))
        return pickle.dumps(WorkerResult({}))

    def answer(self, batch: bytes) -> bytes:
        """Wait for the records of some items, a pickled list, each named by its number. Returns a WorkerResult."""
        items: list[Item] = pickle.loads(batch)
        numbers = {int(item.path) for item in items}
        for item in items:
            self._inbox.put(item)
        with self._collector.changed:
            collected = self._collector.records
            self._collector.changed.wait_for(lambda: self._has_ended or numbers <= collected.keys())
            records = {number: collected.pop(number) for number in numbers & collected.keys()}
            restart, self._collector.restart = self._collector.restart, None
        return pickle.dumps(WorkerResult(records, self._error, restart))

    def stop(self) -> None:
        """Have the executor finish what its model has begun, and begin nothing else."""
        if self._executor is not None:
            self._executor.stop()

    def _run(self, executor: LocalExecutor) -> None:
        try:
            executor.run(iter(self._inbox.get, None))
        except SmolError as error:
            self._error = _error_parts(error)
        except BaseException as error:
            traceback.print_exc()
            message = f"the worker failed: {type(error).__name__}: {error}"
            self._error = _error_parts(EngineError(message, "run it again with -v and report it"))
        with self._collector.changed:
            self._has_ended = True
            self._collector.changed.notify_all()


def with_moved_files(files: ModelFiles, move: Callable[[Path], Path]) -> ModelFiles:
    """The same model with each of its paths passed through `move`."""
    paths = (files.checkpoint, files.gguf, files.mmproj, files.adapter)
    checkpoint, gguf, mmproj, adapter = (path and move(path) for path in paths)
    return replace(files, checkpoint=checkpoint, gguf=gguf, mmproj=mmproj, adapter=adapter)


def _with_local_files(job: WorkerJob) -> Work:
    """The job's work with the model files of this node.

    Raises UnavailableError where the backend is not installed here, ModelError where the model is missing or another.
    """
    identity = job.identity
    if identity.backend in registry.BACKENDS:
        registry.require(registry.BACKENDS, identity.backend)

    def move(path: Path) -> Path:
        path = BUILT_IN / path.relative_to(job.built_in) if path.is_relative_to(job.built_in) else path
        if not path.exists():
            raise ModelError(f"{path}: no such file", "put the model where every node finds it under this path")
        return path

    work = replace(job.work, files=with_moved_files(job.work.files, move))
    if identity.fingerprint and fingerprint(work.files, identity.backend) != identity.fingerprint:
        raise ModelError(f"{identity.model}: is another model than where the run was started", "copy it anew")
    return work


def _error_parts(error: SmolError) -> ErrorParts:
    """An error for child.rebuild_error, which says on which node it happened."""
    return type(error).__name__, f"{error.what} (on {platform.node()})", error.advice, error.kind
