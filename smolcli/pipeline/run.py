"""Takes one request from its options to an exit code.

    validate -> choose the model and the backend -> open the outputs -> answer the items -> conclude

The only module that sees every stage.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TextIO

from smolcli import registry
from smolcli.backends.select import backend_target, faster_backend_notice, select_backend, settle_options
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, Exit
from smolcli.executors.base import Executor, RunSpec
from smolcli.generation import json_schema
from smolcli.inputs.collect import InputCollector
from smolcli.models import fingerprint
from smolcli.models.family import BASE_NOTICE, is_base, turns_options
from smolcli.models.files import ModelFiles
from smolcli.options import MAX_JOBS, Batch, Generate, Input, Model, Output
from smolcli.pipeline.conclude import conclude
from smolcli.pipeline.items import items_to_answer
from smolcli.pipeline.outputs import Outputs, open_outputs
from smolcli.pipeline.request import Request
from smolcli.pipeline.signals import interruptible
from smolcli.pipeline.validate import check_model, validate
from smolcli.process import child
from smolcli.records.layout import Layout
from smolcli.records.record_id import Identity, id_options
from smolcli.tasks.base import Task
from smolcli.terminal.console import Console
from smolcli.types import Item


@dataclass(frozen=True)
class EngineJob:
    """What the engine is to do, and what its records' ids are made of."""

    work: Work
    identity: Identity


def run(
    name: str,
    stdout: TextIO,
    task: Task,
    input: Input,
    model: Model,
    generate: Generate,
    output: Output,
    layout: Layout,
    batch: Batch,
) -> Exit:
    """Runs the command `name` and gives its exit code.

    Raises UsageError, UnavailableError, EngineError, OutputError, and BrokenPipeError if nobody reads the answers.
    """
    started_at = time.monotonic()
    console = Console(output.quiet)
    request = Request(name, task, input, model, _canonical(generate), output, batch, layout)
    inputs = InputCollector(input, output, reads=task.reads)
    validate(request, inputs)
    job = choose_job(request, inputs, console)
    if batch.dry_run:
        code: Exit = registry.load(registry.ON_DEMAND, "--dry-run")(request, inputs, job, stdout, console)
        return code
    with contextlib.ExitStack() as stack:
        outputs = open_outputs(request, inputs, job.identity, stdout, console, stack)
        executor = make_executor(request, job, outputs)
        items = items_to_answer(request, inputs, outputs, stack)
        sheet_item: Item | None = None
        if task.sheet is not None:
            listed = list(items)
            sheet_item = next(iter(listed), Item.of(input.inputs[0]))  # the run may resume, and have no item left
            items = iter(listed)
        try:
            with interruptible(executor, console) as interrupted:
                executor.run(items)
        except EngineError:
            if not interrupted():
                raise
        except KeyboardInterrupt:  # at once
            conclude(request, outputs.sink, console, started_at, is_interrupted=True)
            raise
    if interrupted():
        return conclude(request, outputs.sink, console, started_at, is_interrupted=True)
    if outputs.results is not None:
        outputs.results.compact()
    if outputs.sink.exit_code == Exit.OK:
        write_contact_sheet(sheet_item, request, job.work)
    if passed_by := inputs.passed_by.describe(task.noun):
        console.notice(passed_by)
    if job.work.files.is_fallback and outputs.sink.done:
        outputs.sink.notes.append(job.work.files.notice)  # the one at the beginning has scrolled out of sight
    return conclude(request, outputs.sink, console, started_at)


def choose_job(request: Request, inputs: InputCollector, console: Console) -> EngineJob:
    """Finds the model's files and the backend that runs them.

    Raises ModelError, UnavailableError and UsageError.
    """
    task, model = request.task, request.model
    files, backend = select_backend(model)
    check_model(request, files, backend)
    model = settle_options(model, backend, files)
    notices = (files.notice, faster_backend_notice(model, files, backend), _base_notice(request, files))
    for notice in filter(None, notices):
        console.notice(notice)
    if model.jobs is None and task.at_once and not request.asks_many(inputs):
        model = replace(model, jobs=min(task.at_once, MAX_JOBS))  # more slots than prompts would waste memory
    options = {**task.id_options, **id_options(_without_unused_seed(request.generate), model), **turns_options(files)}
    identity = Identity(request.name, files.name, backend, fingerprint.fingerprint(files, backend), options)
    work = Work(
        backend_target(backend, files),
        files,
        model,
        replace(request.input, inputs=()),  # a shell may have named a hundred thousand
        request.generate,
        sampling=task.sampling,
        every_page=task.reads_every_page,
        asks_for_pages=task.asks_for_pages and request.generate.schema is None,
        pages=task.page_options,
        lists_devices=registry.BACKENDS[backend].lists_devices,
    )
    return EngineJob(work, identity)


def make_executor(request: Request, job: EngineJob, outputs: Outputs) -> Executor:
    """The executor of --engine; the engine streams pieces where one answer is shown on a terminal."""
    work = replace(job.work, streams=outputs.is_terminal and not outputs.has_many)
    spec = RunSpec(request.task, job.identity, work, request.batch, request.output.verbose)
    executor: Executor = registry.load(registry.EXECUTORS, request.batch.executor)(spec, outputs.sink, outputs.results)
    return executor


def write_contact_sheet(item: Item | None, request: Request, work: Work) -> None:
    """Writes the picture of --contact-sheet, if it is given; in a child process, since native code may crash."""
    task = request.task
    if task.sheet is not None and item is not None:
        target = "smolcli.inputs.contact_sheet:write"
        args = (item, task.sampling, work.input, work.model.offline, task.sheet)
        child.call(target, *args, verbose=request.output.verbose)


def _base_notice(request: Request, files: ModelFiles) -> str:
    """A line that says how a base model is asked, unless that was asked for with --raw; else ""."""
    if getattr(request.task, "raw", False) or not is_base(files):
        return ""
    return f"{files.name} {BASE_NOTICE}"


def _canonical(generate: Generate) -> Generate:
    """The options with --schema as one canonical JSON Schema, so that equal schemas give equal ids."""
    return generate if generate.schema is None else replace(generate, schema=json_schema.canonicalize(generate.schema))


def _without_unused_seed(generate: Generate) -> Generate:
    """The options that change answers: at temperature 0 nothing is drawn, and neither seed nor top_p matters."""
    return replace(generate, top_p=1.0, seed=0) if generate.temperature == 0 else generate
