"""cli/dataclass_options.py: a dataclass becomes the options of a command."""

from __future__ import annotations

from dataclasses import dataclass

import typer
import typer.testing

from smolcli.cli.dataclass_options import dataclass_command
from smolcli.cli.help import HelpCommand
from smolcli.terminal.option_fields import opt


@dataclass(frozen=True)
class Words:
    """What is said."""

    panel = "Words"

    first: str = opt("", "A word.", argument=True)
    rest: tuple[str, ...] = opt((), "More words.", argument=True)


@dataclass(frozen=True)
class Manner:
    """How it is said."""

    times: int = opt(1, "How often.", "-n", "--times", short=True, min=1)
    loud: bool = opt(False, "In capitals.", "--loud")
    tags: tuple[str, ...] = opt((), "Tags.", "-t", "--tag")


def run(*words: str) -> tuple[list[tuple[Manner, Words]], typer.testing.Result]:
    seen: list[tuple[Manner, Words]] = []
    app = typer.Typer()
    app.command(cls=HelpCommand)(dataclass_command(lambda *values: seen.append(values), Manner, Words))
    return seen, typer.testing.CliRunner().invoke(app, list(words))


def test_fields_arrive_in_their_dataclasses() -> None:
    [(manner, words)], result = run("a", "b", "c", "-n", "3", "--loud", "-t", "x", "-t", "y")
    assert result.exit_code == 0
    assert words == Words("a", ("b", "c"))
    assert manner == Manner(3, True, ("x", "y"))


def test_defaults_are_the_dataclasses_own() -> None:
    [(manner, words)], _ = run("a")
    assert (manner, words) == (Manner(), Words("a"))


def test_ranges_are_checked_and_help_has_the_panels() -> None:
    assert run("a", "-n", "0")[1].exit_code == 2
    shown = run("--help")[1].output
    assert "How often. [default: 1]" in shown
    assert "Manner:" in shown and "Words:" in shown  # a class without a panel lends its name
    assert "--loud" not in shown and "--loud" in run("--help-all")[1].output
