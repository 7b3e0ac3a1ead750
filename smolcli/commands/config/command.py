"""The command line of `smolcli config`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from smolcli import registry
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.cli.help import HelpCommand, HelpGroup
from smolcli.cli.setting_check import check_prompt_name, words_in_variable
from smolcli.cli.setting_check import parse as parse_word
from smolcli.cli.setting_keys import PROMPTS, Option, all_options, find_option, section_names
from smolcli.cli.settings import saved_prompts
from smolcli.commands.config.listing import Row, command_rows, file_rows
from smolcli.errors import UsageError
from smolcli.system.config_path import config_path
from smolcli.terminal.console import Console, printable
from smolcli.terminal.option_fields import opt
from smolcli.terminal.stdout import write_stdout

app = typer.Typer(cls=HelpGroup, help="Show and set the defaults of options.")


def complete_key(incomplete: str) -> list[str]:
    """Tell a shell the settings whose names begin with what is typed."""
    try:
        prompts = [f"{PROMPTS}.{name}" for name in saved_prompts()]
    except UsageError:
        prompts = []
    return [name for name in [*(option.name for option in all_options()), *prompts] if name.startswith(incomplete)]


def complete_value(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tell a shell what the option of the setting may be."""
    try:
        option = find_option(ctx.params.get("key") or "")
    except UsageError:
        return []
    if option.type is bool:
        return [word for word in ("true", "false") if word.startswith(incomplete)]
    complete = option.field.metadata.get("autocompletion")
    return complete(incomplete) if complete else []


@dataclass(frozen=True)
class Show:
    """What is shown."""

    panel = "Output"

    words: tuple[str, ...] = opt(
        (), "Show what this command would use, with these options.", argument=True, panel="Arguments",
        metavar="[COMMAND [OPTIONS]]",
    )  # fmt: skip
    show_all: bool = opt(False, "Show settings at their defaults too.", "--all")
    as_json: bool = opt(False, "Write one JSON array, with defaults, types and texts of help.", "--json")


@dataclass(frozen=True)
class Assignment:
    """What is set."""

    panel = "Arguments"

    key: str | None = opt(
        None, "A setting, as model, caption.style or prompts.NAME.", argument=True, metavar="KEY",
        autocompletion=complete_key, show_default=False,
    )  # fmt: skip
    values: tuple[str, ...] = opt(
        (), "Its value; several where the option is repeatable.", argument=True, metavar="VALUE...",
        autocompletion=complete_value,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.key is None or not self.values:
            raise UsageError("a setting and its value are needed", "smolcli config set caption.style alt-text")


@dataclass(frozen=True)
class Removal:
    """What is removed."""

    panel = "Arguments"

    key: str | None = opt(
        None, "A setting, a saved prompt or a section.", argument=True, metavar="KEY", autocompletion=complete_key,
        show_default=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.key:
            raise UsageError("no setting was named", "smolcli config show lists those that are set")


def show(options: Show) -> None:
    """Write the settings and where their values come from."""
    rows = command_rows(options.words) if options.words else file_rows()
    chosen = [row for row in rows if options.show_all or row.is_set]
    if options.as_json:
        write_stdout(json.dumps([row.as_json() for row in chosen], indent=2, ensure_ascii=False) + "\n")
    elif not chosen:
        Console().notice("every setting has its default; smolcli config show --all lists them")
    else:
        write_stdout(_table(chosen))


def _table(rows: list[Row]) -> str:
    """Lines of three columns: padded on a terminal, with tabs between and a header elsewhere."""
    cells = [tuple(map(printable, (row.key, row.value, row.source))) for row in rows]
    if not sys.stdout.isatty():
        return "".join("\t".join(line) + "\n" for line in [("key", "value", "source"), *cells])
    widths = [max(len(line[column]) for line in cells) for column in (0, 1)]
    return "".join(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {source}\n" for key, value, source in cells)


def set_value(options: Assignment) -> None:
    """Write a setting to the file."""
    assert options.key is not None
    if options.key.startswith(f"{PROMPTS}."):
        name, text = options.key.removeprefix(f"{PROMPTS}."), " ".join(options.values)
        check_prompt_name(name)
        if not text.strip():
            raise UsageError("the prompt is empty", f"smolcli config unset {options.key} removes it")
        _edit()((PROMPTS, name), text)
        return
    option = find_option(options.key)
    _edit()(option.path, _value(option, options.values))
    if os.environ.get(option.variable):
        Console().notice(f"{option.variable} is set, and comes before the file")


def _value(option: Option, words: tuple[str, ...]) -> Any:
    """The value of a setting as the file holds it. Raises UsageError where the option does not take it."""
    if option.type is bool:
        return words_in_variable(option, " ".join(words), option.name)
    if len(words) > 1 and not option.is_list:
        raise UsageError(f"{option.name} takes one value, and {len(words)} are given", "put quotes around it")
    parsed = [parse_word(option, word) for word in words]
    values = parsed if option.is_number else list(words)
    return values if option.is_list else values[0]


def unset(options: Removal) -> None:
    """Remove a setting from the file; there need not be such an option."""
    assert options.key is not None
    if _edit()(tuple(options.key.split(".")), None):
        return
    if not options.key.startswith(f"{PROMPTS}.") and options.key not in (PROMPTS, *section_names()):
        find_option(options.key)  # a typing error
    Console().notice(f"{options.key} is not set in {config_path()}")


def _edit() -> Callable[[tuple[str, ...], Any], bool]:
    edit: Callable[[tuple[str, ...], Any], bool] = registry.load(registry.ON_DEMAND, "config set")
    return edit


def path() -> None:
    """Write the path of the file, whether it is there or not."""
    write_stdout(f"{config_path()}\n")


def schema() -> None:
    """Write the JSON Schema of the file."""
    from smolcli.commands.config.schema import schema as make_schema

    write_stdout(json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n")


SHOW_HELP = """Show the settings that are not at their defaults, and where each comes from.

A value comes from the command line, else from its environment variable, else from config.toml, else it is the default;
a setting of a command, as caption.model, comes before the same at the top. With a COMMAND and options: what it would
use. On a terminal a table, in a pipe a header and a line a setting, with tabs between.
"""
SET_HELP = """Set the default of an option in config.toml, whose comments stay.

KEY is the long name of the option, for all commands on pictures and videos, or with the command before it:
caption.style, bench.speed.repeat. A prompt that is saved as prompts.NAME is given as @NAME where a prompt or question
is taken.
"""
EXAMPLES = {
    "show": ("smolcli config show", "smolcli config show --all", "smolcli config show caption --style tags"),
    "set": (
        "smolcli config set model 256m",
        "smolcli config set caption.style alt-text",
        'smolcli config set prompts.damage "Is anything broken? Answer in one word."',
    ),
    "unset": ("smolcli config unset model", "smolcli config unset prompts.damage"),
    "path": ("smolcli config path",),
    "schema": ("smolcli config schema",),
}


def _add(name: str, help: str, command: Any, **context: Any) -> None:
    command.shows_settings = True  # also where they are wrong
    app.command(
        name,
        cls=HelpCommand,
        help=help,
        short_help=help.partition("\n")[0],
        epilog="\n".join(EXAMPLES[name]),
        context_settings=context or None,
    )(command)


# what follows the command is its own command line
_add("show", SHOW_HELP, dataclass_command(show, Show), ignore_unknown_options=True, allow_interspersed_args=False)
_add("set", SET_HELP, dataclass_command(set_value, Assignment))
_add("unset", "Remove a setting from config.toml, also one that does not exist.", dataclass_command(unset, Removal))
_add("path", "Show where config.toml is.", dataclass_command(path))
_add("schema", "Write the JSON Schema of config.toml, for editors.", dataclass_command(schema))
