"""`bench speed`, `bench memory` and `bench compare`, from their options to the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from smolcli.bench.configurations import Configuration, configurations
from smolcli.bench.options import Compare, Memory, Show, Speed, Variants
from smolcli.bench.performance.memory import memory as memory_of
from smolcli.bench.performance.speed import Tick
from smolcli.bench.performance.speed import speed as speed_of
from smolcli.bench.report.compare import as_rows, differences, regressions, show_changes
from smolcli.bench.report.compare import compare as compared
from smolcli.bench.report.model import FAILED, Kind, Report, Result, shown
from smolcli.bench.report.write import INTERRUPTED, bar_of, check, exit_code, report_of, write
from smolcli.errors import EngineError, Exit, UnavailableError, UsageError
from smolcli.terminal.console import Console
from smolcli.terminal.stdout import claim_stdout
from smolcli.types import pluralize
from smolcli.writers.destination import destination


def speed(words: Sequence[str], variants: Variants, wanted: Speed, show: Show) -> Exit:
    """How long every stage takes."""
    return _measured(
        "speed", words, variants, wanted, show, lambda setup, tick: speed_of(setup, wanted, show.verbose, tick)
    )


def memory(words: Sequence[str], variants: Variants, wanted: Memory, show: Show) -> Exit:
    """What the processes take."""
    return _measured("memory", words, variants, wanted, show, lambda setup, tick: memory_of(setup, wanted, tick))


def _measured(
    kind: Kind, words: Sequence[str], variants: Variants, wanted: Speed | Memory, show: Show,
    results_of: Callable[[Configuration, Tick], Iterator[Result]],
) -> Exit:  # fmt: skip
    console = Console(show.quiet)
    stdout = claim_stdout()
    check(show, [Path(image) for image in wanted.image])
    results: list[Result] = []
    interrupted = False
    with configurations(words, variants, console) as found, closing(bar_of(len(found) * wanted.ticks, show)) as bar:
        try:
            for setup in found:
                bar.set_description_str(setup.name)
                for result in _results(setup, results_of, bar.update):
                    results.append(result)
                    if result.is_broken:
                        console.error(f"{result.name}: {result.notices[0].removeprefix(FAILED)}")
        except KeyboardInterrupt:
            interrupted = True
    report = report_of(kind, variants, wanted, results)
    if interrupted:
        console.notice(INTERRUPTED)
        report = replace(report, notices=(INTERRUPTED,))
    write(report, show, stdout, console)
    done = sum(not result.is_broken for result in results)
    return Exit.INTERRUPTED if interrupted else exit_code(len(results) - done, done)


def _results(
    setup: Configuration, results_of: Callable[[Configuration, Tick], Iterator[Result]], tick: Tick
) -> Iterator[Result]:
    """Those of a setup; one that says why where it cannot be run at all."""
    try:
        yield from results_of(setup, tick)
    except (EngineError, UnavailableError) as error:
        yield setup.failed(setup.settings, error)


def compare(wanted: Compare) -> Exit:
    """What changed from one report to another."""
    check(Show(output=wanted.output), [wanted.before, wanted.after])
    before, after = Report.read(wanted.before), Report.read(wanted.after)
    changes = compared(before, after, wanted.tolerance)
    console = Console()
    if not any(one.settings == other.settings for one in before.results for other in after.results):
        raise UsageError(f"{wanted.before} and {wanted.after} have no combination in common", "see their settings")
    worse = regressions(changes)
    notices = differences(before, after)
    stdout = claim_stdout()
    with destination(wanted.output, stdout) as stream:
        if wanted.format == "json":
            told = {"changes": as_rows(changes), "notices": notices}
            stream.write(shown(json.dumps(told, ensure_ascii=False, indent=2)) + "\n")
        else:
            show_changes(changes, notices, stream)
        stream.flush()
    if worse:
        console.error(f"{pluralize(len(worse), 'thing')} became worse or went missing, first: {worse[0]}")
    return Exit.FAULT if worse else Exit.OK
