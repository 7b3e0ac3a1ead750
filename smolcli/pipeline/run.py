"""Takes one request from options to exit code: who answers, from what, and where the records go.

The only module that sees every stage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from threading import Event
from typing import TYPE_CHECKING, TextIO

from smolcli import registry
from smolcli.backends.select import backend_candidates, settle_options
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, Exit, InputError
from smolcli.executors.base import Executor
from smolcli.generation import json_schema
from smolcli.inputs.collect import InputCollector, IsDone, common_folder
from smolcli.inputs.walk import MEDIA
from smolcli.models import fingerprint, resolve
from smolcli.options import MOST_JOBS, Batch, Generate, Input, Model, Output
from smolcli.pipeline.signals import interruptible
from smolcli.pipeline.validate import _check, _check_decoder, _file, _format
from smolcli.process import child
from smolcli.records.record_id import Identity, id_options
from smolcli.records.sink import RecordSink
from smolcli.tasks.base import Task
from smolcli.terminal.console import Console
from smolcli.types import Fault, Item
from smolcli.writers.base import NullWriter, Writer
from smolcli.writers.destination import destination
from smolcli.writers.template import Template

if TYPE_CHECKING:
    from smolcli.records.resume import ResultsFile
    from smolcli.writers.sidecar import Sidecars


def run(
    name: str, stdout: TextIO, task: Task, input: Input, model: Model, generate: Generate, output: Output, batch: Batch
) -> Exit:
    """The command `name`: everything between its options and its exit code.

    Raises UsageError, UnavailableError, EngineError, OutputError, and BrokenPipeError where nobody reads the answers.
    """
    console = Console(output.quiet)
    if generate.schema is not None:
        generate = replace(generate, schema=json_schema.canonical(generate.schema))
    _check(name, task, input, output, batch)
    if task.sampling is not None:
        _check_decoder(task.sampling.decoder)
    words = InputCollector(input, output, reads=task.reads)
    files, backend = resolve.choose(model, backend_candidates(model))
    model = settle_options(model, backend, files)
    if files.notice:
        console.notice(files.notice)
    many = words.is_many and not task.together
    if not many and model.jobs is None and task.at_once:
        model = replace(model, jobs=min(task.at_once, MOST_JOBS))  # room for more would be memory lost
    options = {**task.id_options, **id_options(_deciding(generate), model)}
    identity = Identity(name, files.name, backend, fingerprint.fingerprint(files, backend), options)
    work = Work(
        registry.BACKENDS[backend].place,
        files,
        model,
        replace(input, inputs=()),  # a shell may have named a hundred thousand
        generate,
        sampling=task.sampling,
    )
    if task.is_plan:
        return _planned(stdout, task, words, work, input, output, console)
    with contextlib.ExitStack() as stack:
        results = _results(batch, output, identity, console)
        if results is not None and results.is_large and not task.together:
            words.look_ahead()
        stream = stack.enter_context(destination(_file(output), stdout, batch.resume))
        if results is not None:
            results.read()
        writer = stack.enter_context(_writer(output, stream, many, task.blocks))
        sidecars = _sidecars(input, output)
        to_terminal = stream is stdout and stdout.isatty()
        progress = None
        if (many or task.sampling is not None) and not (output.quiet or output.no_progress):
            answers_shown = to_terminal and _format(output) is not None and task.sampling is None
            show = registry.load(registry.LIBRARIES, "progress")
            progress = stack.enter_context(closing(show(console, words.survey(), answers_shown)))
        sink = RecordSink(
            writer, console, sidecars=sidecars, results=results, progress=progress, fail_fast=batch.fail_fast,
            verbose=output.verbose,
        )  # fmt: skip
        executor: Executor = registry.load(registry.EXECUTORS, batch.engine)(
            task, identity, replace(work, streams=to_terminal and not many), sink, results, batch, output.verbose
        )
        skips = sidecars if _format(output) is None and output.if_exists == "skip" else None
        is_done = _done_before(results, skips, batch.retry_failed, sink.skip)
        source = _together(words.items()) if task.together else _arriving(words, input, is_done, stack)
        if sidecars is not None:
            source = _checked(source, sidecars)
        shown: Item | None = None
        if task.sheet is not None:
            listed = list(source)
            shown = next(iter(listed), Item.of(input.inputs[0]))  # which has its record already
            source = iter(listed)
        with interruptible(executor, console) as interrupted:
            try:
                executor.over(source)
            except EngineError:
                if not interrupted():
                    raise
    if interrupted():
        return Exit.INTERRUPTED
    if results is not None:
        results.compact()
    if sink.exit_code == Exit.OK:
        _write_sheet(shown, task, work, output)
    return _concluded(sink, console, input, task.noun)


def _planned(
    stdout: TextIO, task: Task, words: InputCollector, work: Work, input: Input, output: Output, console: Console
) -> Exit:
    """--dry-run: what would be looked at."""
    show = registry.load(registry.LIBRARIES, "--dry-run")
    items = list(words.items())
    with destination(_file(output), stdout) as stream:
        sink = RecordSink(NullWriter(stream), console)
        show(task, items, work, stream, _format(output) == "jsonl", sink)
    if sink.exit_code == Exit.OK:
        _write_sheet(next(iter(items), None), task, work, output)
    return _concluded(sink, console, input, task.noun)


def _write_sheet(item: Item | None, task: Task, work: Work, output: Output) -> None:
    """The picture of what is looked at, if one is wanted; native code may crash, so it is made in a child."""
    if task.sheet is not None and item is not None:
        place = "smolcli.inputs.contact_sheet:write"
        args = (item, task.sampling, work.input, work.model.offline, task.sheet)
        child.call(place, *args, verbose=output.verbose)


def _deciding(generate: Generate) -> Generate:
    """The options that change answers: without chance there is nothing to choose from."""
    return replace(generate, top_p=1.0, seed=0) if generate.temperature == 0 else generate


def _results(batch: Batch, output: Output, identity: Identity, console: Console) -> ResultsFile | None:
    path = _file(output)
    if not batch.resume or path is None:
        return None
    results: ResultsFile = registry.load(registry.LIBRARIES, "--resume")(path, identity)
    if torn := results.repair_torn_tail():
        console.notice(f"{path}: a record of {torn} bytes was torn and is made again")
    return results


def _together(source: Iterable[Item]) -> Iterator[Item]:
    """All items as one, for a task that looks at them together; none of none."""
    parts = list(source)
    if parts:
        yield Item(" ".join(part.path for part in parts), tuple(one for part in parts for one in part.sources))


def _done_before(
    results: ResultsFile | None, sidecars: Sidecars | None, retry_failed: bool, skip: Callable[[str, bool], None]
) -> IsDone:
    """Whether a path needs no answer, as far as can be told unread; `sidecars` where they are all that is wanted."""

    def is_done(path: str, mark: str | None = None) -> bool:
        state = results.state(path, mark) if results is not None else "new"
        done = state == "done" or (state == "failed" and not retry_failed) or (sidecars and sidecars.exists(path))
        if done:
            skip(path, state == "failed")
        return bool(done)

    return is_done


def _checked(source: Iterable[Item], sidecars: Sidecars) -> Iterator[Item]:
    """The items; one that can have no sidecar is not asked about."""
    for item in source:
        try:
            sidecars.check(item.path)
        except InputError as error:
            item = replace(item, fault=Fault(error.kind, str(error)))
        yield item


def _writer(output: Output, stream: TextIO, many: bool, blocks: bool) -> Writer:
    format = _format(output)
    if format is None:
        return NullWriter(stream)
    if output.template is not None:
        return Template(stream, many, blocks, template=output.template)
    writer: Writer = registry.load(registry.WRITERS, format)(stream, many, blocks)
    return writer


def _sidecars(input: Input, output: Output) -> Sidecars | None:
    if not output.sidecar:
        return None
    base = "." if input.files_from is not None else common_folder((*input.inputs, *input.watch))
    make = registry.load(registry.LIBRARIES, "--sidecar")
    sidecars: Sidecars = make(output.sidecar, base, output.out_dir, output.if_exists, suffixes=MEDIA)
    return sidecars


def _arriving(words: InputCollector, input: Input, is_done: IsDone, stack: contextlib.ExitStack) -> Iterator[Item]:
    """All that is named, what lies in the folders watched, and then for ever what arrives in them."""
    if not input.watch:
        return words.items(is_done)
    end = Event()
    stack.callback(end.set)
    watch_arrivals = registry.load(registry.LIBRARIES, "--watch")  # the watch begins now: nothing is missed meanwhile
    arrived = watch_arrivals(input.watch, words.accepts, end, input.recursive, existing=words.watched())
    return chain(words.items(is_done), (Item.of(path) for path in arrived if not is_done(path, None)))


def _concluded(sink: RecordSink, console: Console, input: Input, noun: str) -> Exit:
    """What is said at the end, and the exit code."""
    if sink.skipped:
        told = f"{sink.done} done now, {sink.failed} of them failed; {sink.skipped} were done before"
        if sink.failed_before:
            told += f", {sink.failed_before} of them failed: --retry-failed tries again"
        console.notice(told)
    elif not sink.done and input.shard is not None:
        console.notice(f"none of the inputs is of shard {input.shard}")
        return Exit.OK
    elif not sink.done:
        named = ", ".join((*input.inputs, *filter(None, (input.files_from,))))
        console.error(f"{named}: no {noun} was found; name {noun} files or a directory that has some")
    return sink.exit_code
