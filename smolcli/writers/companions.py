"""What a run writes beside, or into, its inputs: sidecars, and metadata inside the pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from smolcli.types import Record


class Companion(Protocol):
    """One kind of it."""

    def exists(self, path: str) -> bool:
        """Whether the input `path` has all of it already."""
        ...

    def check(self, path: str) -> None:
        """Raise InputError if the input `path` should not be answered, because it can or must not have it."""
        ...

    def write(self, record: Record) -> Record:
        """Write what belongs to a record; returns the record as it is after that. Raises InputError, OutputError."""
        ...

    def complete(self, path: str, find_record: Callable[[], Record | None]) -> Record | None:
        """Write what an input lacks that has a record of an earlier run, which `find_record` gives.

        Returns the record if it has changed by that. Raises InputError and OutputError.
        """
        ...

    def closing_notices(self, left_alone: int) -> Iterator[str]:
        """Yield what is said at the end of a run; `left_alone` inputs were not looked at because all existed."""
        ...


class Companions:
    """Several kinds as one, in order."""

    def __init__(self, kinds: Sequence[Companion]) -> None:
        self._kinds = kinds

    def exists(self, path: str) -> bool:
        """Whether the input has each of them."""
        return all(kind.exists(path) for kind in self._kinds)

    def check(self, path: str) -> None:
        """Raise InputError if one of them does."""
        for kind in self._kinds:
            kind.check(path)

    def write(self, record: Record) -> Record:
        """Write each of them; what one changes in the record, the next ones have."""
        for kind in self._kinds:
            record = kind.write(record)
        return record

    def complete(self, path: str, find_record: Callable[[], Record | None]) -> Record | None:
        """Complete each of them."""
        changed: Record | None = None
        for kind in self._kinds:
            find_current = find_record if changed is None else partial(_identity, changed)
            changed = kind.complete(path, find_current) or changed
        return changed

    def closing_notices(self, left_alone: int) -> Iterator[str]:
        """Yield the notices of each; the inputs that were not looked at are told by the first."""
        for number, kind in enumerate(self._kinds):
            yield from kind.closing_notices(0 if number else left_alone)


def _identity(record: Record) -> Record:
    return record
