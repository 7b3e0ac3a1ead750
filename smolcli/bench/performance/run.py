"""`bench speed`, `bench memory` and `bench compare`: from their options to the report and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from smolcli.bench.configurations import Configuration, configurations
from smolcli.bench.options import Compare, Memory, Show, Speed, Variants
from smolcli.bench.performance.memory import measure_memory
from smolcli.bench.performance.speed import Tick, measure_speed
from smolcli.bench.report.compare import as_rows, compare_reports, differences, regressions, show_changes
from smolcli.bench.report.results import FAILED, Kind, Report, Result, escape_controls
from smolcli.bench.report.write import INTERRUPTED, check_outputs, exit_code, make_report, progress_bar, write_report
from smolcli.errors import EngineError, Exit, UnavailableError, UsageError
from smolcli.system.temporary import temporary_folder
from smolcli.terminal.console import Console
from smolcli.terminal.stdout import claim_stdout
from smolcli.types import pluralize
from smolcli.writers.destination import destination

Measure = Callable[[Configuration, Tick], Iterator[Result]]


def speed(models: Sequence[str], variants: Variants, options: Speed, show: Show) -> Exit:
    """Measure how long every stage takes and write the report."""
    return _run("speed", models, variants, options, show, lambda c, tick: measure_speed(c, options, show.verbose, tick))


def memory(models: Sequence[str], variants: Variants, options: Memory, show: Show) -> Exit:
    """Measure the peak memory of the processes and write the report."""
    return _run("memory", models, variants, options, show, lambda c, tick: measure_memory(c, options, tick))


def _run(
    kind: Kind, models: Sequence[str], variants: Variants, options: Speed | Memory, show: Show, measure: Measure
) -> Exit:
    console = Console(show.quiet)
    stdout = claim_stdout()
    check_outputs(show, [Path(image) for image in options.image])
    temporary_folder()  # without one no configuration can be measured
    results: list[Result] = []
    is_interrupted = False
    with (
        configurations(models, variants, console) as all_configurations,
        closing(progress_bar(len(all_configurations) * options.ticks, show)) as bar,
    ):
        try:
            for configuration in all_configurations:
                bar.set_description_str(configuration.name)
                for result in _results(configuration, measure, bar.update):
                    results.append(result)
                    if result.is_broken:
                        console.error(f"{result.name}: {result.notices[0].removeprefix(FAILED)}")
        except KeyboardInterrupt:
            is_interrupted = True
    report = make_report(kind, variants, options, results)
    if is_interrupted:
        console.notice(INTERRUPTED)
        report = replace(report, notices=(INTERRUPTED,))
    write_report(report, show, stdout, console)
    succeeded = sum(not result.is_broken for result in results)
    return Exit.INTERRUPTED if is_interrupted else exit_code(len(results) - succeeded, succeeded)


def _results(configuration: Configuration, measure: Measure, tick: Tick) -> Iterator[Result]:
    """The results of a configuration; one with the reason if it cannot be run at all."""
    try:
        yield from measure(configuration, tick)
    except (EngineError, UnavailableError) as error:
        yield configuration.failed_result(configuration.settings, error)


def compare(options: Compare) -> Exit:
    """Compare two reports and write what changed. Raises UsageError if they have no combination in common."""
    check_outputs(Show(output=options.output), [options.before, options.after])
    before, after = Report.read(options.before), Report.read(options.after)
    changes = compare_reports(before, after, options.tolerance)
    console = Console()
    if not any(old.settings == new.settings for old in before.results for new in after.results):
        raise UsageError(f"{options.before} and {options.after} have no combination in common", "see their settings")
    worse = regressions(changes)
    notices = differences(before, after)
    stdout = claim_stdout()
    with destination(options.output, stdout) as stream:
        if options.as_json:
            fields = {"changes": as_rows(changes), "notices": notices}
            stream.write(escape_controls(json.dumps(fields, ensure_ascii=False, indent=2)) + "\n")
        else:
            show_changes(changes, notices, stream)
        stream.flush()
    if worse:
        console.error(f"{pluralize(len(worse), 'thing')} became worse or went missing, first: {worse[0]}")
    return Exit.FAULT if worse else Exit.OK
