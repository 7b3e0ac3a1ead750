"""The command line of `smolcli records`; commands/records/run.py runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from smolcli import registry
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.errors import Exit
from smolcli.options import Output, VideoOutput
from smolcli.records.layout import Layout
from smolcli.terminal.option_fields import opt, same_as
from smolcli.terminal.stdout import claim_stdout


@dataclass(frozen=True)
class Selection:
    """Which records are taken."""

    panel = "Inputs"

    files: tuple[str, ...] = opt(
        (), "Files that runs wrote with -o FILE.jsonl; - is standard input.", argument=True, metavar="FILE..."
    )
    failed: bool = opt(
        False, "Take only failed records; without -f, a line with path and message for each.", "--failed", short=True
    )
    where: str | None = opt(
        None,
        "Take only records for which this condition of SQL is true: 'tokens.new > 100 and error.kind is null'.",
        short=True,
        metavar="SQL",
    )


@dataclass(frozen=True)
class RecordOutput:
    """Where records go; sidecars may be those of videos too."""

    panel = "Output"

    format: str | None = same_as(Output, "format", short=True)
    template: str | None = same_as(Output, "template", short=True)
    output: Path | None = same_as(Output, "output", short=True)
    sidecar: tuple[str, ...] = same_as(VideoOutput, "sidecar", short=True)
    out_dir: Path | None = same_as(Output, "out_dir", help="Write sidecars below DIR, with the folders of the inputs.")
    if_exists: str = same_as(
        Output, "if_exists", help="Where a sidecar exists: skip it, overwrite it, or make it an error."
    )
    quiet: bool = same_as(Output, "quiet", short=True)
    verbose: bool = same_as(Output, "verbose", help="Show tracebacks.")


def _run(*options: object) -> None:
    try:
        code = registry.load(registry.ON_DEMAND, "records")(claim_stdout(), *options)
    except BrokenPipeError:
        code = Exit.OK  # whoever read the records has enough
    raise typer.Exit(code)


records = dataclass_command(_run, Selection, RecordOutput, Layout)
records.__doc__ = """Write the records of runs in any format, filtered.

A results file stays JSON Lines, which --resume continues; this command makes a table, another list or sidecars of it.
In --where each field has its name (`smolcli help fields`), as tokens.new, and what is in data is data.KEY. Lines that
are no records are left out and counted.
"""
records.examples = (  # type: ignore[attr-defined]
    "smolcli records results.jsonl -o results.csv --bom",
    "smolcli records results.jsonl --failed",
    "smolcli records results.jsonl --where 'data.total > 100' -f csv",
)
