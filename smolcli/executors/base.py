"""What makes records of items: here (local.py) or on a Ray cluster (ray/)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from smolcli.types import Item

if TYPE_CHECKING:
    pass


class Executor(Protocol):
    """What makes records of items: executors/local.py here, cluster.py on many machines."""

    stopping: bool

    @property
    def is_idle(self) -> bool: ...

    def over(self, source: Iterable[Item]) -> None: ...

    def stop(self) -> None: ...
