"""What an actor of Ray's is on a node: one engine, which answers parcels until the run ends."""

from __future__ import annotations

import pickle
import platform
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread

from smolcli import __version__, registry
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, ModelError, SmolError, UnavailableError
from smolcli.executors.local import LocalExecutor
from smolcli.models.files import BUILT_IN, ModelFiles
from smolcli.models.fingerprint import fingerprint
from smolcli.records.record_id import Identity
from smolcli.records.sink import RecordSink
from smolcli.types import Item, Record

Told = tuple[str, str, str, str]  # an error as child.received makes it an exception again


class _Collected(RecordSink):
    """Keeps records until their parcel is fetched."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.changed = Condition()

    def part(self, path: str, done: int, of: int, frames: int) -> None:
        pass  # of a video; records alone are fetched

    def take(self, record: Record) -> bool:
        with self.changed:
            self.records[int(record.path)] = record
            self.changed.notify_all()
        return True


class Worker:
    """One engine on a node, an actor of Ray's: it answers parcels until the run ends."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Item | None] = SimpleQueue()
        self._made = _Collected()
        self._answers: LocalExecutor | None = None
        self._over = False
        self._error: Told | None = None

    def begin(self, version: str, job: bytes, cpus: int, gpus: int) -> bytes:
        """Takes the job, which only the same version of smolcli can read. Gives no records, and an error or None."""
        try:
            if version != __version__:
                what = f"smolcli {__version__} is installed there, and {version} started it"
                raise UnavailableError(what, f"pip install smolcli=={version}")
            task, identity, work, batch, verbose, built_in = pickle.loads(job)
            work = _here(identity, work, built_in)
            if not gpus:
                work = replace(work, model=replace(work.model, threads=cpus))
            self._answers = LocalExecutor(task, identity, work, self._made, None, batch, verbose)
            Thread(target=self._run, args=(self._answers,), daemon=True).start()
        except SmolError as error:
            return pickle.dumps(({}, told(error)))
        return pickle.dumps(({}, None))

    def answer(self, parcel: bytes) -> bytes:
        """The records of some items by their numbers, fewer when the run has ended; and what ended it or None."""
        items: list[Item] = pickle.loads(parcel)
        numbers = {int(item.path) for item in items}
        for item in items:
            self._inbox.put(item)
        with self._made.changed:
            self._made.changed.wait_for(lambda: self._over or numbers <= self._made.records.keys())
            records = {number: self._made.records.pop(number) for number in numbers & self._made.records.keys()}
        return pickle.dumps((records, self._error))

    def stop(self) -> None:
        """Has what the model is at finished, and nothing begun."""
        if self._answers is not None:
            self._answers.stop()

    def _run(self, answers: LocalExecutor) -> None:
        try:
            answers.over(iter(self._inbox.get, None))
        except SmolError as error:
            self._error = told(error)
        except BaseException as error:
            traceback.print_exc()
            what = f"the worker failed: {type(error).__name__}: {error}"
            self._error = told(EngineError(what, "run it again with -v and report it"))
        with self._made.changed:
            self._over = True
            self._made.changed.notify_all()


def _here(identity: Identity, work: Work, built_in: Path) -> Work:
    """The work with this node's files. Raises UnavailableError and ModelError where they are not what the run needs."""
    if identity.backend in registry.BACKENDS:
        registry.require(registry.BACKENDS, identity.backend)

    def move(path: Path) -> Path:
        path = BUILT_IN / path.relative_to(built_in) if path.is_relative_to(built_in) else path
        if not path.exists():
            raise ModelError(f"{path}: no such file", "put the model where every node finds it under this path")
        return path

    work = replace(work, files=moved(work.files, move))
    if identity.fingerprint and fingerprint(work.files, identity.backend) != identity.fingerprint:
        raise ModelError(f"{identity.model}: is another model than where the run was started", "copy it anew")
    return work


def told(error: SmolError) -> Told:
    return type(error).__name__, f"{error.what} (on {platform.node()})", error.advice, error.kind


def moved(files: ModelFiles, move: Callable[[Path], Path]) -> ModelFiles:
    """A model whose files are in another place."""
    checkpoint, gguf, mmproj = (path and move(path) for path in (files.checkpoint, files.gguf, files.mmproj))
    return replace(files, checkpoint=checkpoint, gguf=gguf, mmproj=mmproj)
