"""`bench quality`: how right the answers of models are on labelled data. Needs rapidfuzz."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from smolcli.bench.configurations import Configuration, configurations
from smolcli.bench.options import Quality, Show, Variants
from smolcli.bench.quality import tesseract
from smolcli.bench.quality.rows import Row
from smolcli.bench.quality.scoring import NAME, QualityRun, Rows, identity_of, new_scores
from smolcli.bench.quality.suites import reads_pages
from smolcli.bench.report.results import Result
from smolcli.bench.report.write import INTERRUPTED, check_outputs, exit_code, make_report, progress_bar, write_report
from smolcli.errors import EngineError, Exit, UnavailableError, UsageError
from smolcli.pipeline.signals import interruptible
from smolcli.records.record_id import Identity
from smolcli.records.resume import ResultsFile, replaced_records
from smolcli.terminal.console import Console
from smolcli.terminal.stdout import claim_stdout
from smolcli.types import Item, pluralize
from smolcli.writers.base import NullWriter, Writer
from smolcli.writers.destination import STDOUT_NAMES, destination
from smolcli.writers.json_lines import JsonLines


def quality(data: Path, models: Sequence[str], variants: Variants, options: Quality, show: Show) -> Exit:
    """Ask every configuration the rows of `data`, score the answers and write the report."""
    console = Console(show.quiet)
    stdout = claim_stdout()
    if options.records is not None and (str(options.records) in STDOUT_NAMES or options.records.is_dir()):
        raise UsageError(f"{options.records}: no file for records", "name one: --records answers.jsonl")
    check_outputs(show, [data], [options.records] if options.records else [])
    rows = Rows(data, options, console)
    if show.plot is not None and show.plot.exists() and rows.has_picture(show.plot):
        raise UsageError(f"{show.plot}: is a picture of the data set", "choose another file")
    if options.suite and not reads_pages(options.suite) and not variants.detail:
        variants = replace(variants, detail=("high",))  # as SmolVLM's authors cut pictures
    with configurations(models, variants, console) as all_configurations:
        results, is_interrupted = _ask_all(all_configurations, rows, console, stdout, show)
        if options.resume and not is_interrupted:
            for configuration in all_configurations:
                _compact(configuration, options)
    others: list[Result] = []  # of other programs, whose failures are not those of this command
    if rows.reads_pages and not is_interrupted:
        try:
            others = _read_by_tesseract(rows, console, show)
        except KeyboardInterrupt:
            is_interrupted = True
    for notice in _notices(rows, results):
        console.notice(notice)
    about = {
        "path": str(data), "rows": rows.used, "left_out": len(rows.bad), "suite": options.suite or "",
        "split": options.split or "", "sha256": rows.sha256, "lower_is_better": not rows.metric.higher_is_better,
    }  # fmt: skip
    report = replace(
        make_report("quality", variants, options, [*results, *others]), metric=rows.metric.title, data=about
    )
    if is_interrupted:
        report = replace(report, notices=(INTERRUPTED,))
    write_report(report, show, stdout, console)
    if is_interrupted:
        return Exit.INTERRUPTED
    scored = sum(result.figures["score"].count for result in results if "score" in result.figures)
    failed = sum(result.failed + result.is_broken for result in results)
    if not scored and not failed:
        return Exit.NO_INPUT
    return exit_code(failed + len(rows.bad), scored)


def _ask_all(
    all_configurations: Sequence[Configuration], rows: Rows, console: Console, stdout: TextIO, show: Show
) -> tuple[list[Result], bool]:
    """The result of each configuration, and whether the run was interrupted."""
    options, results = rows.options, list[Result]()
    with ExitStack() as stack:
        torn = 0
        if options.records and options.resume:
            torn = ResultsFile(options.records, Identity(NAME, "", "")).repair_torn_tail()
        if torn:
            console.notice(f"{options.records}: a record of {torn} bytes was torn and is made again")
        writer: Writer = NullWriter(stdout)
        if options.records is not None:
            if not options.resume and (notice := replaced_records(options.records)):
                console.notice(notice)
            writer = JsonLines(stack.enter_context(destination(options.records, stdout, options.resume)))
        for configuration in all_configurations:
            if len(all_configurations) > 1:
                console.notice(configuration.name)
            show_progress = not (show.quiet or show.no_progress)
            run = QualityRun(configuration, rows, writer, console, show.verbose, show_progress)
            with interruptible(run.executor, console) as is_interrupted:
                try:
                    results.append(run.result())
                except (EngineError, UnavailableError) as error:
                    if not is_interrupted():
                        console.error(f"{configuration.name}: {error}")
                    results.append(configuration.failed_result(configuration.settings, error))
            if is_interrupted():
                return results, True
    return results, False


def _read_by_tesseract(rows: Rows, console: Console, show: Show) -> list[Result]:
    """The result of Tesseract, or none if it is not installed."""
    program = tesseract.find()
    if program is None:
        console.notice("tesseract is not installed, so there is no row of it to compare with")
        return []
    scores = new_scores(rows)
    with progress_bar(rows.used, show) as bar:
        items = _ticking(rows.items(), bar)
        result, unreadable = tesseract.result(program, items, scores.add, scores.figures, rows.options.timeout)
    if unreadable:
        console.notice(f"tesseract opens no PDF: {pluralize(unreadable, 'row')} of the data set without it")
    return [replace(result, categories=scores.by_category(), splits=scores.by_split())]


def _ticking(items: Iterator[tuple[Row, Item]], bar: Any) -> Iterator[tuple[Row, Item]]:
    """The same items; the progress bar moves on after each."""
    for item in items:
        yield item
        bar.update()


def _compact(configuration: Configuration, options: Quality) -> None:
    """Remove the failed records that have a later one; one configuration at a time, since each moves the others'."""
    assert options.records is not None
    records = ResultsFile(options.records, identity_of(configuration, options))
    records.read()
    records.compact()


def _notices(rows: Rows, results: Sequence[Result]) -> Iterator[str]:
    """What to know about the rows: those left out, their splits, those another metric fits, and those that failed."""
    if rows.bad:
        left_out = f"{pluralize(len(rows.bad), 'row')} of {rows.used + len(rows.bad)}"
        yield f"{rows.path}: {left_out} cannot be used and {'are' if len(rows.bad) > 1 else 'is'} left out"
    if len(rows.splits) > 1:
        counts = ", ".join(f"{name or 'no split'} {count:,}" for name, count in rows.splits.items())
        yield f"{rows.path}: the score is of all splits ({counts}); --split NAME takes one"
    if rows.unfit and rows.options.suite is None and rows.options.metric is None:
        unfit = pluralize(rows.unfit, "row")
        yield f"{rows.path}: {unfit} would be scored by another metric than {rows.metric.name}; see --metric"
    failed = sum(result.failed for result in results)
    if failed and rows.options.resume and not rows.options.retry_failed:
        yield f"{pluralize(failed, 'answer')} failed, now or before: --retry-failed tries again"
