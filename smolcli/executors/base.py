"""The seam between a run and what makes records of its items: local.py on this machine, ray/ on a Ray cluster.

    executor = LocalExecutor(RunSpec(task, identity, work, batch), sink, results)
    executor.run(items)

Every record goes to the sink, in the order of the items.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from smolcli.engine.protocol import Work
from smolcli.options import Batch
from smolcli.records.record_id import Identity
from smolcli.tasks.base import Task
from smolcli.types import Item


@dataclass(frozen=True)
class RunSpec:
    """What a run does with each of its items: the task, what identifies its answers, and how the model is run."""

    task: Task
    identity: Identity
    work: Work
    batch: Batch = Batch()
    verbose: bool = False


class Executor(Protocol):
    """Makes records of items, once."""

    is_stopping: bool  # whether no other item is begun

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost now: no prompt is unanswered, and no record waits or is being written."""
        ...

    def run(self, source: Iterable[Item]) -> None:
        """Give the record of every item to the sink, in order.

        Raises what `source` and the sink raise, ModelError, EngineError, and UnavailableError for a missing cluster.
        """
        ...

    def stop(self) -> None:
        """Begin no other item, and finish what the model has begun. Safe in a signal handler."""
        ...
