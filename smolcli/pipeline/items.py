"""The items that a run answers: all that is named, less what has its record, and what arrives in watched folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from threading import Event
from typing import TYPE_CHECKING

from smolcli import registry
from smolcli.errors import InputError
from smolcli.inputs.collect import InputCollector, IsDone
from smolcli.pipeline.outputs import Outputs
from smolcli.pipeline.request import Request
from smolcli.types import Fault, Item

if TYPE_CHECKING:
    from smolcli.writers.companions import Companion


def items_to_answer(
    request: Request, inputs: InputCollector, outputs: Outputs, stack: contextlib.ExitStack
) -> Iterator[Item]:
    """The items in their order, found as they are asked for; `stack` ends the watch over folders."""
    if request.task.together:
        items = join_items(inputs.items())
    else:
        items = announce_rows(find_items(request, inputs, is_done_before(request, outputs), stack), outputs)
    return items if outputs.sidecars is None else check_sidecar_places(items, outputs.sidecars)


def join_items(items: Iterable[Item]) -> Iterator[Item]:
    """All items as one, for a task that looks at them together; none if there are none."""
    parts = list(items)
    if parts:
        sources = tuple(source for part in parts for source in part.sources)
        faults = (replace(part.fault, message=f"{part.path}: {part.fault.message}") for part in parts if part.fault)
        paths = tuple(part.path for part in parts)
        yield Item(" ".join(paths), sources, next(faults, None), paths=paths)


def find_items(
    request: Request, inputs: InputCollector, is_done: IsDone, stack: contextlib.ExitStack
) -> Iterator[Item]:
    """What is named and what lies in the watched folders, and then without end what arrives in them."""
    watched = request.input.watch
    if not watched:
        return inputs.items(is_done)
    end = Event()
    stack.callback(end.set)
    watch_arrivals = registry.load(registry.ON_DEMAND, "--watch")  # starts the watch: no file is missed meanwhile
    arrivals = watch_arrivals(
        watched, inputs.accepts, end, request.input.recursive, inputs.existing_files(),
        follow_links=request.input.follow_links,
    )  # fmt: skip
    return chain(inputs.items(is_done), (Item.of(path) for path in arrivals if not is_done(path, None)))


def announce_rows(items: Iterable[Item], outputs: Outputs) -> Iterator[Item]:
    """The items; the outputs are told before the first of several that come from what was named as one input."""
    for item in items:
        if item.in_row:
            outputs.sink.expect_many()
        yield item


def is_done_before(request: Request, outputs: Outputs) -> IsDone:
    """Whether a path needs no answer, as far as its path and stamp tell.

    Its record is in the results file, or its sidecar exists and sidecars are all that is written.
    """
    results, retry_failed = outputs.results, request.batch.retry_failed
    skips_existing = request.record_format is None and request.output.if_exists == "skip"
    sidecars = outputs.sidecars if skips_existing else None

    def is_done(path: str, stamp: str | None = None) -> bool:
        state = results.state_by_stamp(path, stamp) if results is not None else "new"
        if results is not None and results.is_skipped(state, retry_failed):
            outputs.sink.skip(path, state)
        elif sidecars is not None and sidecars.exists(path):
            outputs.sink.leave_alone(path)
        else:
            return False
        return True

    return is_done


def check_sidecar_places(items: Iterable[Item], sidecars: Companion) -> Iterator[Item]:
    """The items; one whose sidecar cannot be written has that as its fault, and the model is not asked about it."""
    for item in items:
        try:
            sidecars.check(item.path)
        except InputError as error:
            item = replace(item, fault=Fault(error.kind, str(error)))
        yield item
