"""Makes and writes the report of any benchmark, and has the checks and exit codes that all benchmarks share."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from smolcli import registry
from smolcli.bench.options import FORMATS, Memory, Quality, Show, Speed, Variants
from smolcli.bench.report import text
from smolcli.bench.report.results import Kind, Report, Result
from smolcli.errors import Exit, OutputError, UsageError
from smolcli.inputs.walk import MEDIA_SUFFIXES
from smolcli.system.info import machine
from smolcli.terminal.console import Console
from smolcli.writers.destination import STDOUT_NAMES, destination, format_of

PLOTS = (".png", ".svg")
PAGES = (".html", ".htm")
INTERRUPTED = "interrupted: what was measured until then is reported"


def exit_code(failed: int, succeeded: int) -> Exit:
    """The exit code of a run from its counts of failures and successes."""
    if not failed:
        return Exit.OK
    return Exit.SOME_FAILED if succeeded else Exit.ALL_FAILED


def progress_bar(total: int, show: Show) -> Any:
    """A tqdm bar of `total` steps, hidden if --quiet, --no-progress or no terminal."""
    hidden = show.quiet or show.no_progress or not sys.stderr.isatty()
    return tqdm(total=total, disable=hidden, leave=False, dynamic_ncols=True)


def check_outputs(show: Show, inputs: Sequence[Path] = (), others: Sequence[Path] = ()) -> None:
    """Check, before the measurement, that the output files and `others` can be written and overwrite no input.

    Raises UsageError if not, UnavailableError if --plot needs a library that is not installed.
    """
    for option, suffixes in (("--report", PAGES), ("--plot", PLOTS)):
        if show.output is not None and show.output.suffix.lower() in suffixes:
            raise UsageError(f"{show.output}: -o writes no such file", f"{option} {show.output} does")
    for file, suffixes in ((show.report, PAGES), (show.plot, PLOTS)):
        if file is not None and file.suffix.lower() not in suffixes:
            raise UsageError(f"{file}: is no name of what would be written", f"name it {' or '.join(suffixes)}")
    written = [
        file for file in (show.report, show.plot, show.output, *others) if file and str(file) not in STDOUT_NAMES
    ]
    for number, file in enumerate(written):
        if not file.absolute().parent.is_dir():
            raise UsageError(f"{file}: its folder is not there", "make it first")
        if not os.access(file if file.exists() else file.absolute().parent, os.W_OK) or file.is_dir():
            raise UsageError(f"{file}: cannot be written", "choose another file, or check its rights")
        if any(file.resolve() == other.resolve() for other in (*inputs, *written[:number])):
            raise UsageError(f"{file}: is read, or written twice", "choose another file")
        folders = [path.resolve() for path in inputs if path.is_dir()]
        is_known = file == show.plot and not any(folder in file.resolve().parents for folder in folders)
        if file.suffix.lower() in MEDIA_SUFFIXES and file.is_file() and not is_known:
            raise UsageError(f"{file}: is a picture or a video, by its name", "choose another file")
    if show.plot is not None:
        registry.require(registry.ON_DEMAND, "plot")


def make_report(kind: Kind, variants: Variants, options: Speed | Memory | Quality, results: Iterable[Result]) -> Report:
    """The report of a command that ran with these options."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    command = shlex.join(["smolcli", *sys.argv[1:]])
    fields = json.loads(json.dumps({**asdict(variants), **asdict(options)}, default=str))
    return Report(kind, created, command, machine(), fields, tuple(results))


def write_report(report: Report, show: Show, stdout: TextIO, console: Console) -> None:
    """Write the page, the plot and the report that `show` asks for. The first error is raised after all were tried."""
    failures: list[Exception] = []
    for write in (_write_page, _write_plot, _write_text):
        try:
            write(report, show, stdout)
        except UsageError as error:  # there is nothing to draw
            console.notice(error)
        except (OutputError, OSError) as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _write_page(report: Report, show: Show, stdout: TextIO) -> None:
    if show.report is not None:
        with destination(show.report, stdout) as stream:
            stream.write(registry.load(registry.ON_DEMAND, "page")(report))


def _write_plot(report: Report, show: Show, stdout: TextIO) -> None:
    if show.plot is not None:
        registry.load(registry.ON_DEMAND, "plot")(report, show.plot)


def _write_text(report: Report, show: Show, stdout: TextIO) -> None:
    suffix_format = format_of(show.output, (*FORMATS, "json")) if show.output is not None else "text"
    format = "json" if show.as_json else show.format or suffix_format
    with destination(show.output, stdout) as stream:
        if format == "text":
            text.show(report, stream)
        else:
            texts = {"json": lambda: report.json() + "\n", "jsonl": lambda: text.jsonl(report),
                     "csv": lambda: text.csv(report), "md": lambda: text.markdown(report)}  # fmt: skip
            stream.write(texts[format]())
        stream.flush()
