"""The command line of `smolcli doctor`; checks.py finds the facts and problems, screen.py shows them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from smolcli import registry
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.cli.help import has_color
from smolcli.errors import Exit, UsageError
from smolcli.terminal.option_fields import choice, opt
from smolcli.terminal.stdout import write_stdout

if TYPE_CHECKING:
    from smolcli.commands.doctor.checks import Report

FORMATS = ("text", "json")


@dataclass(frozen=True)
class Doctor:
    """How the report is written."""

    panel = "Output"

    verbose: bool = opt(False, "Show all facts, not only a line of each area.", "-v", "--verbose")
    as_json: bool = opt(False, "Write all facts and problems as one JSON object.", "--json")
    as_report: bool = opt(False, "Write all facts and problems as Markdown for an issue, without secrets.", "--report")
    format: str = opt(
        "text", "The same as --json: -f json.", "-f", "--format", hidden=True, **choice("format", FORMATS)
    )

    def __post_init__(self) -> None:
        if self.as_report and self.is_json:
            raise UsageError("--report is Markdown, and --json is JSON", "leave out one of them")

    @property
    def is_json(self) -> bool:
        """Whether the report is for programs."""
        return self.as_json or self.format == FORMATS[1]


def run_doctor(options: Doctor) -> None:
    """Check the machine and write the report to standard output; exit code 3 where nothing can be answered."""
    report: Report = registry.load(registry.ON_DEMAND, "doctor")()
    write_stdout(_written(report, options))
    raise typer.Exit(Exit.UNAVAILABLE if any(problem.blocks for problem in report.problems) else Exit.OK)


def _written(report: Report, options: Doctor) -> str:
    if options.is_json:
        values = {**report.facts, "problems": [asdict(problem) for problem in report.problems]}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    from smolcli.commands.doctor.screen import Screen, markdown

    if options.as_report:
        return markdown(report)
    has_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    screen = Screen(report, has_unicode, has_color(sys.stdout))
    text = "\n".join(screen.long() if options.verbose else screen.short()) + "\n"
    return text if has_unicode else text.encode("ascii", "backslashreplace").decode()


doctor = dataclass_command(run_doctor, Doctor)
doctor.__doc__ = """Check what this machine lacks, and how to fix it.

It looks at program, CPU, memory, GPU, backends, encoder of pictures, videos, models, disk and settings. Every installed
backend answers for a small picture, in a process of its own. Exit code 3 where no backend can answer.
"""
doctor.shows_settings = True  # type: ignore[attr-defined]
doctor.examples = ("smolcli doctor", "smolcli doctor -v", "smolcli doctor --report")  # type: ignore[attr-defined]
