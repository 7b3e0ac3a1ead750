"""Takes `smolcli records` from its options to an exit code.

check -> look at what the records have -> read, choose, write -> conclude
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TextIO

from smolcli import registry
from smolcli.commands.records.survey import check_names, data_columns
from smolcli.errors import ErrorKind, Exit, InputError, OutputError, UnavailableError, UsageError
from smolcli.inputs.walk import MEDIA_SUFFIXES
from smolcli.models import catalog
from smolcli.pipeline.outputs import make_writer
from smolcli.pipeline.validate import (
    check_is_no_medium,
    check_out_dir,
    check_sidecar_suffixes,
    check_standard_input,
    check_template_alone,
)
from smolcli.records.layout import Layout, is_table, refuse_foreign
from smolcli.records.offset_index import OffsetIndex
from smolcli.records.stored import RecordFiles, describe, stored_record
from smolcli.records.where import BATCH, Where
from smolcli.terminal.console import Console
from smolcli.types import StoredRecord, is_url, pluralize
from smolcli.writers.base import Writer
from smolcli.writers.columns import COLUMNS, PATH_FIELDS, Column, Keys, table_columns, video_segments
from smolcli.writers.destination import STDOUT_NAMES, chosen_format, destination, sidecar_template
from smolcli.writers.fields import GROUPS, check_template, parse_fields
from smolcli.writers.template import Template

if TYPE_CHECKING:
    from smolcli.commands.records.command import RecordOutput, Selection
    from smolcli.writers.sidecar import Sidecars

FAILED_TEMPLATE = "{path}: {error.message}"  # of --failed without a format


@dataclass
class Tally:
    """What was read and done."""

    read: int = 0
    chosen: int = 0
    failed: int = 0  # of the chosen
    sidecars_wanted: int = 0  # records with an answer whose sidecars should be written
    sidecars_failed: int = 0
    first_failure: str = field(default="")


def write_records(stdout: TextIO, selection: Selection, output: RecordOutput, layout: Layout) -> Exit:
    """Write the chosen records of the files. Raises UsageError, InputError and OutputError, and BrokenPipeError."""
    console, tally = Console(output.quiet), Tally()
    record_format, template = choose_format(selection, output)
    check(selection, output, layout, record_format)
    where = None if selection.where is None else Where(selection.where)
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(RecordFiles(selection.files))
        columns = choose_columns(files, layout, where, record_format)
        if template is not None and columns is not None:
            check_template(template, columns)
        sidecars = make_sidecars(output)
        latest = None if sidecars is None else latest_records(files, selection.failed, where)
        records = choose(files, selection.failed, where, tally)
        first = list(islice(records, 1))  # the first answer tells whether answers have several lines
        file = None if output.output is None or str(output.output) in STDOUT_NAMES else output.output
        stream = stack.enter_context(destination(file, stdout))
        check_output(stream, selection.files)
        is_multiline = any(map(has_lines, first))
        if template is not None:
            writer: Writer = Template(stream, True, is_multiline, template=template, writes_failed=selection.failed)
        else:
            writer = make_writer(stream, record_format, None, layout, columns, has_many=True, is_multiline=is_multiline)
        stack.enter_context(writer)
        for number, record in enumerate(chain(first, records)):
            if sidecars is not None and latest is not None and latest.find(record.path) == number:
                write_sidecars(sidecars, record, output, tally)
            writer.write(record)
    template_holds_answers = template is not None and "{error." not in template and not selection.failed
    holds_answers_only = record_format == "text" or template_holds_answers
    for notice in () if sidecars is None else sidecars.closing_notices(0):
        console.notice(notice)
    return conclude(files, tally, holds_answers_only, console)


def choose_format(selection: Selection, output: RecordOutput) -> tuple[str | None, str | None]:
    """Return the format of the records, None for sidecars alone, and its template."""
    otherwise = None if output.sidecar else "template" if selection.failed else "text"
    record_format = chosen_format(output, otherwise)
    return record_format, (output.template or FAILED_TEMPLATE) if record_format == "template" else None


def check(selection: Selection, output: RecordOutput, layout: Layout, record_format: str | None) -> None:
    """Refuse options that contradict each other. Raises UsageError."""
    if not selection.files:
        raise UsageError("no file was given", "smolcli records results.jsonl, or - for standard input")
    check_standard_input(selection.files)
    refuse_foreign(record_format)
    if record_format in registry.NEEDS_SEGMENTS:
        raise UsageError(f"{record_format} holds one video", "write one beside each: --sidecar .srt")
    check_template_alone(record_format, output.format)
    check_sidecar_suffixes(output.sidecar)
    check_out_dir(output.out_dir, output.sidecar)
    if selection.failed and (output.sidecar or record_format == "text"):
        message = "sidecars hold answers" if output.sidecar else "text holds answers"
        raise UsageError(f"{message}, and failed records have none", "leave it out, or add -f csv")
    layout.check_format(record_format)
    if output.output is not None:
        check_is_no_medium(output.output)


def check_output(stream: TextIO, names: Sequence[str]) -> None:
    """Raise UsageError if the output is one of the files that are read, which would never end with `>>`."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # not a file of the system
        return
    for name in names:
        input_status = os.fstat(sys.stdin.fileno()) if name == "-" else os.stat(name)
        if stat.S_ISREG(status.st_mode) and os.path.samestat(status, input_status):
            raise UsageError(
                f"{'standard input' if name == '-' else name}: the input is also the output",
                "choose another file with -o",
            )


def choose_columns(
    files: RecordFiles, layout: Layout, where: Where | None, record_format: str | None
) -> tuple[Column, ...] | None:
    """Return the fields that are written, None where the format has none to choose.

    The files are read for it where a table needs to know what `data` holds, or --where and --fields name what only some
    records have. Raises UsageError for a name that none has.
    """
    wanted: dict[str, Keys] = {} if where is None else dict(where.wanted)
    names = [name.strip() for name in (layout.fields or "").split(",")]
    others = [name for name in filter(None, names) if name not in (*COLUMNS, *GROUPS, *PATH_FIELDS)]
    wanted |= {name: ("data", *name.split(".")[1:]) if name.startswith("data.") else (name,) for name in others}
    needs_columns = layout.fields is None and is_table(record_format)
    if wanted or needs_columns:
        keep(files)
    if wanted:
        check_names(files.read(), wanted)
    if needs_columns:
        return table_columns(data_columns(files.read()))
    return None if layout.fields is None else parse_fields(layout.fields, None, others)


def keep(files: RecordFiles) -> None:
    """Make the files readable more than once. Raises OutputError."""
    try:
        files.keep()
    except OSError as error:
        message = f"a pipe cannot be kept in a temporary file ({error.strerror})"
        raise OutputError(message, "name a file, or set TMPDIR to a folder with space") from error


def latest_records(files: RecordFiles, only_failed: bool, where: Where | None) -> OffsetIndex:
    """Read the files for the number of the last chosen record of each path, which is the one that counts.

    A file that changed between two runs, or was asked about again, has several records.
    """
    keep(files)
    latest = OffsetIndex()
    for number, fields in enumerate(_matching(files.read(), only_failed, where, Tally())):
        latest.add(fields["path"], number)
    return latest


def make_sidecars(output: RecordOutput) -> Sidecars | None:
    """The writer of --sidecar; with --out-dir the tree below the current folder is repeated there."""
    if not output.sidecar:
        return None
    make = registry.load(registry.ON_DEMAND, "--sidecar")
    sidecars: Sidecars = make(
        output.sidecar, None, output.out_dir, output.if_exists, suffixes=MEDIA_SUFFIXES,
        template=sidecar_template(output),
    )  # fmt: skip
    return sidecars


def choose(files: RecordFiles, only_failed: bool, where: Where | None, tally: Tally) -> Iterator[StoredRecord]:
    """Yield the chosen records in their order, and count them."""
    for fields in _matching(files.read(), only_failed, where, tally):
        tally.chosen += 1
        tally.failed += fields.get("error") is not None
        yield stored_record(fields)


def _matching(
    records: Iterator[dict[str, Any]], only_failed: bool, where: Where | None, tally: Tally
) -> Iterator[dict[str, Any]]:
    batch_size = 1 if where is None else BATCH
    while batch := list(islice(records, batch_size)):
        tally.read += len(batch)
        if only_failed:
            batch = [fields for fields in batch if fields.get("error") is not None]
        yield from batch if where is None else where.select(batch)


def has_lines(record: StoredRecord) -> bool:
    """Whether answers of this record's task have several lines, so that text and Markdown put each under a heading."""
    entry = registry.TASKS.get(record.task)
    is_multiline = entry is not None and getattr(registry.load(registry.TASKS, record.task), "is_multiline", False)
    return is_multiline is True or isinstance(record.data, list)  # a list has an answer for each question


def write_sidecars(sidecars: Sidecars, record: StoredRecord, output: RecordOutput, tally: Tally) -> None:
    """Write the sidecars of one record; one that cannot be written is counted."""
    try:
        if record.error is None:
            tally.sidecars_wanted += 1
            check_place(record, output)
        sidecars.write(record)
    except InputError as error:
        tally.sidecars_failed += 1
        tally.first_failure = tally.first_failure or f"{record.path}: {error}"


def check_place(record: StoredRecord, output: RecordOutput) -> None:
    """Raise InputError if the input of a record is not here, or has no segments for a sidecar of them.

    Raises UnavailableError for an answer of the built-in model that would go into the user's own picture collection: a
    record does not say whether the user chose that model or nothing else was there.
    """
    if record.model == catalog.NANO and ".xmp" in output.sidecar and output.out_dir is None:
        message = f"--sidecar .xmp writes into your picture collection, and {record.model} knows no photographs"
        raise UnavailableError(message, f"answer with another model ({catalog.PULL_ADVICE}), or add --out-dir DIR")
    if output.out_dir is None and record.path != "-" and not is_url(record.path) and not os.path.lexists(record.path):
        advice = "change to the folder where the run was started, or add --out-dir DIR"
        raise InputError("no such file", advice, kind=ErrorKind.MISSING)
    needs_segments = [kind for kind in output.sidecar if kind in registry.NEEDS_SEGMENTS]
    if needs_segments and not video_segments(record):
        raise InputError(f"has no segments for {needs_segments[0]}", "leave it out", kind=ErrorKind.UNSUPPORTED)


def conclude(files: RecordFiles, tally: Tally, holds_answers_only: bool, console: Console) -> Exit:
    """Say what was left out, and give the exit code."""
    has_other_lines = False
    for name, others in files.others.items():
        shown = "standard input" if name == "-" else name
        if others.torn_bytes:
            console.notice(f"{shown}: the last record is torn, of {others.torn_bytes} bytes, and left out")
        if others.count and tally.read:
            console.error(describe(shown, others))
        has_other_lines |= others.count > 0
    if not tally.read:
        names = ", ".join("standard input" if name == "-" else name for name in files.others)
        console.error(f"{names}: no record was found; name a file that a run wrote with -o FILE.jsonl")
        return Exit.NO_INPUT
    if not tally.chosen:
        console.notice(f"none of {pluralize(tally.read, 'record')} is chosen")
    if holds_answers_only and tally.failed:
        console.notice(f"{pluralize(tally.failed, 'failed record')} left out; --failed lists them")
    if tally.sidecars_failed:
        count = pluralize(tally.sidecars_failed, "record")
        console.error(f"no sidecars of {count}, the first is {tally.first_failure}")
        return Exit.ALL_FAILED if tally.sidecars_failed == tally.sidecars_wanted else Exit.SOME_FAILED
    return Exit.SOME_FAILED if has_other_lines else Exit.OK
