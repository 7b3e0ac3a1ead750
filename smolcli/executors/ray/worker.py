"""A worker on a node of a Ray cluster, one of Ray's actors: an engine that answers batches until the run ends."""

from __future__ import annotations

import pickle
import platform
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from smolcli import __version__, registry
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, ErrorKind, ModelError, SmolError, UnavailableError
from smolcli.executors.base import RunSpec
from smolcli.executors.local import LocalExecutor
from smolcli.executors.ray.outbox import Outbox
from smolcli.models.files import BUILT_IN, ModelFiles
from smolcli.models.fingerprint import fingerprint
from smolcli.process.pipe import picklable_error
from smolcli.types import Item, Record


class WorkerResult(NamedTuple):
    """The records of a batch by the numbers of its items, and what ended the run, if it has.

    There are fewer records than items where the run has ended, or the driver had other answers.

    `restart` says that the worker's engine was lost since its last result, and started again: for a reason of which
    kind, and the number of the item that was under way, if there was one.
    """

    records: dict[int, Record]
    error: SmolError | None = None
    restart: tuple[ErrorKind, int | None] | None = None


class WorkerJob(NamedTuple):
    """What a run gives each of its workers; `built_in` is the folder of the built-in model where the run started."""

    spec: RunSpec
    built_in: Path


class Worker:
    """Runs a LocalExecutor in a thread; Ray calls the methods, each in a thread of its own."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Item | None] = SimpleQueue()
        self._outbox = Outbox()
        self._executor: LocalExecutor | None = None
        self._error: SmolError | None = None

    def start(self, version: str, pickled_job: bytes, cpus: int, gpus: int) -> bytes:
        """Start the executor of a WorkerJob. Returns a pickled WorkerResult without records.

        `version` is that of the smolcli that started the run: no other can read the job.
        """
        try:
            if version != __version__:
                message = f"smolcli {__version__} is installed there, and {version} started it"
                raise UnavailableError(message, f"install smolcli {version} there")
            job: WorkerJob = pickle.loads(pickled_job)
            work = _with_local_files(job)
            if not gpus:
                work = replace(work, model=replace(work.model, threads=cpus))
            self._executor = LocalExecutor(replace(job.spec, work=work), self._outbox, answers=self._outbox)
            Thread(target=self._run, args=(self._executor,), daemon=True).start()
        except SmolError as error:
            return pickle.dumps(WorkerResult({}, _error_of_node(error)))
        return pickle.dumps(WorkerResult({}))

    def answer(self, batch: bytes) -> bytes:
        """Wait for the records of some items, a pickled list, each named by its number. Returns a WorkerResult."""
        items: list[Item] = pickle.loads(batch)
        call = self._outbox.begin(int(item.path) for item in items)
        for item in items:
            self._inbox.put(item)
        records = self._outbox.wait(call)
        return pickle.dumps(WorkerResult(records, self._error, self._outbox.take_restart()))

    def report(self, decisions: bytes) -> bytes:
        """Take decisions about items, and wait for open items to decide about.

        `decisions` is a pickled list of (number, AskModel or Skip). Returns a pickled list of OpenItem, whose numbers
        are the worker's own; an empty one where it has ended.
        """
        assert self._executor is not None
        for number, decision in pickle.loads(decisions):
            self._outbox.note_decision(number, decision)
            self._executor.decide(number, decision)
        return pickle.dumps(self._outbox.take_undecided())

    def stop(self) -> None:
        """Have the executor finish what its model has begun, and begin nothing else."""
        if self._executor is not None:
            self._executor.stop()

    def _run(self, executor: LocalExecutor) -> None:
        try:
            executor.run(iter(self._inbox.get, None))
        except SmolError as error:
            self._error = _error_of_node(error)
        except BaseException as error:
            traceback.print_exc()
            message = f"the worker failed: {type(error).__name__}: {error}"
            self._error = _error_of_node(EngineError(message, "run it again with -v and report it"))
        self._outbox.end()


def with_moved_files(files: ModelFiles, move: Callable[[Path], Path]) -> ModelFiles:
    """The same model with each of its paths passed through `move`."""
    paths = (files.checkpoint, files.gguf, files.mmproj, files.adapter)
    checkpoint, gguf, mmproj, adapter = (path and move(path) for path in paths)
    return replace(files, checkpoint=checkpoint, gguf=gguf, mmproj=mmproj, adapter=adapter)


def _with_local_files(job: WorkerJob) -> Work:
    """The job's work with the model files of this node.

    Raises UnavailableError where the backend is not installed here, ModelError where the model is missing or another.
    """
    identity = job.spec.identity
    if identity.backend in registry.BACKENDS:
        registry.require(registry.BACKENDS, identity.backend)

    def move(path: Path) -> Path:
        path = BUILT_IN / path.relative_to(job.built_in) if path.is_relative_to(job.built_in) else path
        if not path.exists():
            raise ModelError(f"{path}: no such file", "put the model where every node finds it under this path")
        return path

    work = replace(job.spec.work, files=with_moved_files(job.spec.work.files, move))
    if identity.fingerprint and fingerprint(work.files, identity.backend) != identity.fingerprint:
        raise ModelError(f"{identity.model}: is another model than where the run was started", "copy it anew")
    return work


def _error_of_node(error: SmolError) -> SmolError:
    """An error for the driver, which says on which node it happened."""
    error = picklable_error(error)
    error.what = f"{error.what} (on {platform.node()})"
    return error
