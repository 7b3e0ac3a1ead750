"""The last lines of a run on standard error, with or without a terminal, and its exit code."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from smolcli.errors import ErrorKind, Exit
from smolcli.inputs.collect import OWN_DESCRIPTORS, without_password
from smolcli.pipeline.request import Request
from smolcli.records.sink import RecordSink
from smolcli.terminal.console import Console
from smolcli.terminal.words import format_duration, format_rate

MAX_COMMAND = 200  # characters of a command line that is shown again


@dataclass(frozen=True)
class Totals:
    """What became of the inputs of one run: `new` were answered by it, `before` by an earlier one.

    `failed` counts the failures of this run by their kind, `failed_before` is the number of those of earlier runs,
    which this one did not try again. `partly_failed` of the answered ones have a page that could not be read.
    """

    new: int
    before: int
    failed: Mapping[ErrorKind, int]
    failed_before: int = 0
    partly_failed: int = 0

    @classmethod
    def of(cls, sink: RecordSink) -> Totals:
        """Those that `sink` has counted."""
        before = sink.skipped - sink.failed_before
        failed = Counter(sink.failed_kinds)
        return cls(sink.done - sink.failed, before, failed, sink.failed_before, sink.partly_failed)

    @property
    def inputs(self) -> int:
        """How many inputs the run has come to."""
        return self.new + self.before + sum(self.failed.values()) + self.failed_before

    def describe(self) -> str:
        """The counts in words.

        >>> Totals(70, 27, {ErrorKind.TRUNCATED: 1, ErrorKind.MISSING: 2}).describe()
        '70 new, 27 from before, 3 failed (2 missing, 1 truncated)'
        """
        parts = [f"{self.new:,} new"]
        if self.before:
            parts.append(f"{self.before:,} from before")
        kinds = sorted(((count, kind) for kind, count in self.failed.items() if count), key=lambda pair: -pair[0])
        words = ", ".join(f"{count:,} {kind}" for count, kind in kinds)
        parts.append(f"{sum(self.failed.values()):,} failed" + (f" ({words})" if words else ""))
        if self.failed_before:
            parts.append(f"{self.failed_before:,} failed before")
        if self.partly_failed:
            parts.append(f"{self.partly_failed:,} with pages that failed")
        return ", ".join(parts)


def conclude(
    request: Request,
    sink: RecordSink,
    console: Console,
    started_at: float,
    is_interrupted: bool = False,
) -> Exit:
    """Print the totals of a run over several inputs, or why it has no record, and give the exit code.

    `started_at` is its time.monotonic().
    """
    for notice in sink.closing_notices():
        console.notice(notice)
    totals = Totals.of(sink)
    has_none = not totals.inputs and not sink.left_alone
    if totals.inputs > (0 if is_interrupted else 1) or totals.before or totals.failed_before:
        for line in last_lines(request, totals, time.monotonic() - started_at, is_interrupted, sink.notes):
            console.notice(line)
    if is_interrupted:
        return Exit.INTERRUPTED
    if has_none and request.input.shard is not None:
        console.notice(f"none of the inputs is of shard {request.input.shard}")
        return Exit.OK
    if has_none:
        names = ", ".join((*request.input.inputs, *filter(None, (request.input.files_from,))))
        noun = request.task.noun
        console.error(f"{names}: no {noun} was found", f"name {noun} files or a directory that has some")
    return sink.exit_code


def last_lines(
    request: Request, totals: Totals, seconds: float, is_interrupted: bool, notes: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the line of totals, with the `notes`, and after failures a line with the command that tries them again."""
    done = totals.new + sum(totals.failed.values())
    parts = [totals.describe()]
    if done and seconds:
        parts.append(format_rate(done, seconds, request.task.noun))
    parts.append(format_duration(seconds))
    if request.record_file is not None:
        parts.append(f"in {request.record_file}")
    if is_interrupted:
        notes = (*notes, _how_to_go_on(request))
    yield "; ".join([", ".join(parts), *notes])
    has_failures = any(totals.failed.values()) or totals.failed_before or totals.partly_failed
    if has_failures and not is_interrupted and _is_resumable(request) and "-" not in request.input.inputs:
        yield f"to try the failed ones again: {_command_again(request, '--resume', '--retry-failed')}"


def _is_resumable(request: Request) -> bool:
    return request.record_file is not None and request.record_format == "jsonl"


def _how_to_go_on(request: Request) -> str:
    """What Ctrl-C leaves to be done."""
    if _is_resumable(request):
        return "go on with --resume"
    if request.record_format is None and request.output.if_exists == "skip":  # sidecars alone
        return "the same command goes on"
    return "interrupted"


def _command_again(request: Request, *flags: str) -> str:
    """The command line of this process with `flags`, or a description of it.

    It is described where it is too long to be read, where a list comes from another program, as from <(...), and where
    it has a password, which logs must not hold.
    """
    words = [*sys.argv[1:], *(flag for flag in flags if flag not in sys.argv)]
    command = shlex.join(["smolcli", *words])
    values = [value for word in words for value in (word, word.partition("=")[2])]  # also that of --files-from=-
    reads_pipe = any(value == "-" or value.startswith(OWN_DESCRIPTORS) for value in values)
    if "--" in words or reads_pipe or len(command) > MAX_COMMAND or _has_password(words, request):
        return f"the same command with {' '.join(flags)}"
    return command


def _has_password(words: Sequence[str], request: Request) -> bool:
    """Whether a word holds the password of --password, or one in a URL."""
    password = request.task.page_options.password
    return any((password and password in word) or without_password(word) != word for word in words)
