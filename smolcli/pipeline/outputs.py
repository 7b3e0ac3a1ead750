"""Opens what a run writes to: the records' file or standard output, sidecars, the progress line."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from smolcli import registry
from smolcli.inputs.collect import InputCollector
from smolcli.inputs.walk import MEDIA_SUFFIXES
from smolcli.pipeline.request import Request
from smolcli.pipeline.signals import printed_on_signal
from smolcli.records.layout import Layout
from smolcli.records.page_records import split_pages
from smolcli.records.record_id import Identity
from smolcli.records.sink import RecordSink
from smolcli.terminal.console import Console
from smolcli.writers.base import NullWriter, Writer
from smolcli.writers.columns import Column
from smolcli.writers.destination import destination
from smolcli.writers.template import Template

if TYPE_CHECKING:
    from smolcli.records.resume import ResultsFile
    from smolcli.terminal.progress import Progress
    from smolcli.writers.companions import Companion


@dataclass(frozen=True)
class Outputs:
    """Where the records of one run go.

    `results` is the file that --resume continues. `has_many` says whether there may be several records, `is_terminal`
    whether they go to a terminal.
    """

    sink: RecordSink
    sidecars: Companion | None
    results: ResultsFile | None
    has_many: bool
    is_terminal: bool


def open_outputs(
    request: Request,
    inputs: InputCollector,
    identity: Identity,
    stdout: TextIO,
    console: Console,
    stack: contextlib.ExitStack,
) -> Outputs:
    """Opens every output; `stack` closes them, a records' file only then taking its place.

    Raises OutputError for what cannot be written.
    """
    has_many = request.asks_many(inputs)
    results = open_results(request, identity, console)
    if results is not None and results.is_large and not request.task.together:
        inputs.collect_in_background()  # the inputs are found while the records are read
    stream = stack.enter_context(destination(request.record_file, stdout, request.batch.resume))
    if results is not None:
        results.read()
    layout, is_multiline = request.layout, request.task.is_multiline
    template = request.output.template if request.record_format == "template" else None
    writer = stack.enter_context(
        make_writer(
            stream,
            request.record_format,
            template,
            layout,
            request.columns,
            has_many,
            is_multiline,
            request.has_table_rows,
        )
    )
    sidecars = with_searchable(make_companions(request, inputs, console), request, stack)
    is_terminal = stream is stdout and stdout.isatty()
    answers = stream if stream is stdout and request.record_format is not None else None
    progress = start_progress(request, inputs, console, has_many, answers, stack)
    sink = RecordSink(
        writer,
        console,
        sidecars=sidecars,
        results=results,
        progress=progress,
        fail_fast=request.batch.fail_fast,
        verbose=request.output.verbose,
        split=partial(split_pages, page_id=identity.page_id) if request.task.page_options.split_pages else None,
    )
    return Outputs(sink, sidecars, results, has_many, is_terminal)


def open_results(request: Request, identity: Identity, console: Console) -> ResultsFile | None:
    """The records of earlier runs, if --resume is given; a torn last line is cut off first.

    Without --resume it is said how many records will be replaced.
    """
    path = request.record_file
    if path is None:
        return None
    if not request.batch.resume:
        say_what_is_replaced(path, request.record_format, console)
        return None
    results: ResultsFile = registry.load(registry.ON_DEMAND, "--resume")(path, identity)
    if torn_bytes := results.repair_torn_tail():
        console.notice(f"{path}: a record of {torn_bytes} bytes was torn and is made again")
    return results


def say_what_is_replaced(path: Path, record_format: str | None, console: Console) -> None:
    """Tells the user that this run writes a file anew, and of JSON Lines how many records that replaces."""
    if not path.is_file() or not path.stat().st_size:  # a pipe or a device keeps nothing
        return
    if record_format != "jsonl":
        console.notice(f"replaces {path}")
    elif notice := registry.load(registry.ON_DEMAND, "replaced records")(path):
        console.notice(notice)


def make_writer(
    stream: TextIO,
    record_format: str | None,
    template: str | None,
    layout: Layout,
    columns: Sequence[Column] | None,
    has_many: bool,
    is_multiline: bool,
    has_table_rows: bool = False,
) -> Writer:
    """The writer of a format on `stream`; `columns` are the fields that it writes, None where they are not chosen.

    `template` is that of the records, None for any other format. With `has_table_rows` csv and tsv hold the rows of the
    tables that were read. Raises UsageError as writers.template.parse does.
    """
    if record_format is None:
        return NullWriter(stream)
    if template is not None:
        return Template(stream, has_many, is_multiline, template=template)
    writers = registry.TABLE_WRITERS if has_table_rows else registry.WRITERS
    options = {name: getattr(layout, name) for name in writers[record_format].options - {"fields"}}
    if columns is not None and not has_table_rows:
        options["columns"] = columns
    writer: Writer = registry.load(writers, record_format)(stream, has_many, is_multiline, **options)
    return writer


def make_companions(request: Request, inputs: InputCollector, console: Console) -> Companion | None:
    """What writes --write-metadata and --sidecar, in this order: a sidecar may hold the stamp of the changed picture.

    With --out-dir the tree below the inputs' common folder is repeated there.
    """
    output = request.output
    companions: list[Companion] = []
    if output.write_metadata:
        make = registry.load(registry.ON_DEMAND, "--write-metadata")
        is_only_output = request.record_format is None and not output.sidecar
        companions.append(make(request.task.gives_keywords, output.if_exists, is_only_output, console.notice))
    if output.sidecar:
        make = registry.load(registry.ON_DEMAND, "--sidecar")
        companions.append(
            make(
                output.sidecar,
                inputs.common_folder(),
                output.out_dir,
                output.if_exists,
                suffixes=MEDIA_SUFFIXES,
                template=request.sidecar_template,
            )
        )
    if len(companions) < 2:
        return companions[0] if companions else None
    several: Companion = registry.load(registry.ON_DEMAND, "companions")(companions)
    return several


def with_searchable(others: Companion | None, request: Request, stack: contextlib.ExitStack) -> Companion | None:
    """Add what writes the PDF of --searchable to the other companions; `stack` writes it at the end."""
    if request.task.searchable is None:
        return others
    make = registry.load(registry.ON_DEMAND, "--searchable")
    pages, max_pixels = request.task.page_options, request.input.max_pixels
    companion = make(request.task.searchable, max_pixels, pages.password, pages.first_page)
    searchable: Companion = stack.enter_context(companion)
    if others is None:
        return searchable
    several: Companion = registry.load(registry.ON_DEMAND, "companions")([searchable, others])
    return several


def may_have_pages(request: Request) -> bool:
    """Whether an input may be a document of many pages, by its name."""
    names = [word.lower() for word in request.input.inputs] if request.task.reads_every_page else []
    return any(name.endswith((".pdf", ".tif", ".tiff")) for name in names)


def start_progress(
    request: Request,
    inputs: InputCollector,
    console: Console,
    has_many: bool,
    answers: TextIO | None,
    stack: contextlib.ExitStack,
) -> Progress | None:
    """The progress of many inputs, a video or the pages of a document, unless it is turned off.

    `answers` is standard output where the records go there.
    """
    is_long = request.task.sampling is not None or may_have_pages(request)
    if not (has_many or is_long) or request.output.quiet or request.output.no_progress:
        return None
    make = registry.load(registry.ON_DEMAND, "progress")
    progress: Progress = stack.enter_context(closing(make(console, inputs.survey(), request.task.noun, answers)))
    stack.enter_context(printed_on_signal(progress))
    return progress
