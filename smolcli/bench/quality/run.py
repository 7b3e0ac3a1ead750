"""`bench quality`: how right the answers of models are on labelled data. [rapidfuzz, through metrics]"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from smolcli.bench.configurations import Configuration, configurations
from smolcli.bench.options import Quality, Show, Variants
from smolcli.bench.quality.scoring import NAME, Rows, Run, identity_of
from smolcli.bench.report.model import Result
from smolcli.bench.report.write import INTERRUPTED, check, exit_code, report_of, write
from smolcli.errors import EngineError, Exit, UnavailableError, UsageError
from smolcli.pipeline.signals import interruptible
from smolcli.records.record_id import Identity
from smolcli.records.resume import ResultsFile
from smolcli.terminal.console import Console
from smolcli.terminal.stdout import claim_stdout
from smolcli.types import pluralize
from smolcli.writers.base import NullWriter, Writer
from smolcli.writers.destination import STDOUT, destination
from smolcli.writers.json_lines import JsonLines


def quality(data: Path, words: Sequence[str], variants: Variants, wanted: Quality, show: Show) -> Exit:
    """How right the answers are."""
    console = Console(show.quiet)
    stdout = claim_stdout()
    if wanted.records is not None and (str(wanted.records) in STDOUT or wanted.records.is_dir()):
        raise UsageError(f"{wanted.records}: no file for records", "name one: --records answers.jsonl")
    check(show, [data], [wanted.records] if wanted.records else [])
    rows = Rows(data, wanted, console)
    if show.plot is not None and show.plot.exists() and rows.names(show.plot):
        raise UsageError(f"{show.plot}: is a picture of the data set", "choose another file")
    if wanted.suite and not variants.detail:
        variants = replace(variants, detail=("high",))  # as the authors' models cut pictures
    with configurations(words, variants, console) as found:
        results, interrupted = _asked(found, rows, console, stdout, show)
        if wanted.resume and not interrupted:
            for setup in found:
                _tidy(setup, wanted)
    for notice in _notices(rows, results):
        console.notice(notice)
    about = {
        "path": str(data), "rows": rows.used, "left_out": len(rows.bad), "suite": wanted.suite or "",
        "sha256": rows.sha256, "lower_is_better": not rows.metric.higher_is_better,
    }  # fmt: skip
    report = replace(report_of("quality", variants, wanted, results), metric=rows.metric.title, data=about)
    if interrupted:
        report = replace(report, notices=(INTERRUPTED,))
    write(report, show, stdout, console)
    if interrupted:
        return Exit.INTERRUPTED
    scored = sum(result.figures["score"].count for result in results if "score" in result.figures)
    failed = sum(result.failed + result.is_broken for result in results)
    if not scored and not failed:
        return Exit.NO_INPUT
    return exit_code(failed + len(rows.bad), scored)


def _asked(
    found: Sequence[Configuration], rows: Rows, console: Console, stdout: TextIO, show: Show
) -> tuple[list[Result], bool]:
    """The result of each setup, and whether there was an interrupt."""
    wanted, results = rows.wanted, []
    with ExitStack() as stack:
        torn = (
            ResultsFile(wanted.records, Identity(NAME, "", "")).repair_torn_tail()
            if wanted.records and wanted.resume
            else 0
        )
        if torn:
            console.notice(f"{wanted.records}: a record of {torn} bytes was torn and is made again")
        writer: Writer = NullWriter(stdout)
        if wanted.records is not None:
            writer = JsonLines(stack.enter_context(destination(wanted.records, stdout, wanted.resume)))
        for setup in found:
            if len(found) > 1:
                console.notice(setup.name)
            run = Run(setup, rows, writer, console, show.verbose, not (show.quiet or show.no_progress))
            with interruptible(run.answers, console) as interrupted:
                try:
                    results.append(run.result())
                except (EngineError, UnavailableError) as error:
                    if not interrupted():
                        console.error(f"{setup.name}: {error}")
                    results.append(setup.failed(setup.settings, error))
            if interrupted():
                return results, True
    return results, False


def _tidy(setup: Configuration, wanted: Quality) -> None:
    """Takes the failed records out that have a later one; one setup after the other, since each moves the others."""
    assert wanted.records is not None
    records = ResultsFile(wanted.records, identity_of(setup, wanted))
    records.read()
    records.compact()


def _notices(rows: Rows, results: Sequence[Result]) -> Iterator[str]:
    if rows.bad:
        left_out = f"{pluralize(len(rows.bad), 'row')} of {rows.used + len(rows.bad)}"
        yield f"{rows.path}: {left_out} cannot be used and {'are' if len(rows.bad) > 1 else 'is'} left out"
    if rows.unfit and rows.wanted.suite is None and rows.wanted.metric is None:
        unfit = pluralize(rows.unfit, "row")
        yield f"{rows.path}: {unfit} would be scored by another metric than {rows.metric.name}; see --metric"
    failed = sum(result.failed for result in results)
    if failed and rows.wanted.resume and not rows.wanted.retry_failed:
        yield f"{pluralize(failed, 'answer')} failed, now or before: --retry-failed tries again"
