"""Writes docs/commands.md from the program: `python docs/make_commands.py`; with --check it only compares."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.update(COLUMNS="100", NO_COLOR="1")

import typer.testing

from smolcli import registry
from smolcli.cli.main import make_app
from smolcli.cli.topics import TOPICS

PAGE = Path(__file__).parent / "commands.md"
INTRODUCTION = """# Commands

Made from the program by `make docs`. `smolcli COMMAND --help` shows the usual options, `smolcli help COMMAND` all of
them, as here. Each option has an environment variable and a key in `config.toml` too: [settings](settings.md).

The same stands in man pages, as `man smolcli-caption`, which are installed with the program, as are completions for
bash, zsh and fish. pipx links them to where man and shells look. In a virtual environment that is active man finds its
pages, and bash-completion from 2.12 on its completion; `smolcli --install-completion` is for all else.
"""


def pages() -> Iterator[tuple[str, ...]]:
    """Yield the words after `smolcli` whose output is a section of the page."""
    yield ("--help",)
    for name in (*registry.TASKS, *registry.COMMANDS):
        entry = registry.COMMANDS.get(name)
        app = registry.load(registry.COMMANDS, name) if entry else None
        if isinstance(app, typer.Typer):
            yield (name, "--help")
            yield from (("help", name, str(command.name)) for command in app.registered_commands)
        else:
            yield ("help", name)
    yield from (("help", topic) for topic in TOPICS)


def text() -> str:
    """Return the whole page."""
    runner, app = typer.testing.CliRunner(), make_app()
    blocks = [INTRODUCTION]
    for words in pages():
        output = runner.invoke(app, words, prog_name="smolcli", catch_exceptions=False).stdout.strip()
        title = " ".join(word for word in ("smolcli", *words) if word not in ("help", "--help"))
        if words[-1] in TOPICS:
            title = " ".join(("smolcli", *words))
        elif words == ("help", "help"):
            title = "smolcli help"
        blocks.append(f"## {title}\n\n```text\n{output}\n```\n")
    return "\n".join(blocks)


if __name__ == "__main__":
    if "--check" in sys.argv:
        is_current = PAGE.read_text(encoding="utf-8") == text()
        sys.exit(0 if is_current else "docs/commands.md is not what the program says; run make docs")
    PAGE.write_text(text(), encoding="utf-8")
