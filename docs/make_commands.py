"""Writes docs/commands.md from the program: `python docs/make_commands.py`; with --check it only compares."""

import os
import sys
from pathlib import Path

os.environ.update(COLUMNS="100", TERMINAL_WIDTH="100", NO_COLOR="1", TERM="dumb")

import typer.testing

from smolcli import registry
from smolcli.cli.main import make_app

PAGE = Path(__file__).parent / "commands.md"
GROUPS = {
    name: [each.name for each in made.registered_commands]
    for name, made in ((name, registry.load(registry.COMMANDS, name)) for name in registry.COMMANDS)
    if isinstance(made, typer.Typer)
}
COMMANDS = ("", *registry.TASKS, *registry.COMMANDS, *(f"{name} {each}" for name in GROUPS for each in GROUPS[name]))


def text() -> str:
    """The whole page."""
    runner, app = typer.testing.CliRunner(), make_app()
    blocks = ["# Commands\n\nMade from the program by `make docs`; `smolcli COMMAND --help` shows the same.\n"]
    for command in COMMANDS:
        result = runner.invoke(app, [*command.split(), "--help"], prog_name="smolcli")
        said = "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())
        blocks.append(f"## smolcli {command}".rstrip() + f"\n\n```text\n{said}\n```\n")
    return "\n".join(blocks)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0
            if PAGE.read_text(encoding="utf-8") == text()
            else "docs/commands.md is not what the program says; make docs"
        )
    PAGE.write_text(text(), encoding="utf-8")
