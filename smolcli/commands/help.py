"""`smolcli help`: the full page of a command, or a topic."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from smolcli import registry
from smolcli.cli import help as pages
from smolcli.cli.topics import TOPICS
from smolcli.errors import UsageError
from smolcli.terminal.option_fields import complete_from
from smolcli.terminal.words import closest

NAMES = (*registry.TASKS, *registry.COMMANDS, *TOPICS)


def show_help(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND|TOPIC]",
            help=f"A command, or a topic: {', '.join(TOPICS)}.",
            autocompletion=complete_from(NAMES),
            show_default=False,
            rich_help_panel="Arguments",
        ),
    ] = None,
    help_all: Annotated[bool, pages.FULL_HELP] = False,
) -> None:
    """Show every option of a command, or a topic.

    On a terminal it is shown in a pager: $PAGER, or less.
    """
    program: Any = ctx.find_root().command
    if not words:
        print(program.get_help(ctx.find_root()))
    elif words[0] not in NAMES:
        guess = closest("-".join(words).lower(), NAMES) or closest(words[0].lower(), NAMES)
        advice = f"did you mean {guess}?" if guess else "see smolcli --help"
        raise UsageError(f"No such command or topic {words[0]}", advice)
    elif len(words) > 1 and (words[0] in TOPICS or words[0] in registry.TASKS):
        raise UsageError(f"{words[0]} has no parts, and {words[1]} was asked for", f"smolcli help {words[0]}")
    elif words[0] in TOPICS:
        page = pages.Page()
        TOPICS[words[0]](page)
        pages.show(page.text())
    else:
        program.main([*words, "--help-all"], prog_name="smolcli", standalone_mode=False)


show_help.examples = (  # type: ignore[attr-defined]
    "smolcli help caption",
    "smolcli help bench speed",
    "smolcli help exit-codes",
)
