"""The rows of `smolcli config show`: each setting, its value and where that comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import typer

from smolcli import registry
from smolcli.cli import settings
from smolcli.cli.main import make_command
from smolcli.cli.setting_check import check_file, check_variables, parse, value_of
from smolcli.cli.setting_keys import PROMPTS, Option, section_names, section_options, shared_options
from smolcli.cli.settings import COMMAND_LINE, HIDDEN, Setting, Words, found_settings, shown
from smolcli.errors import UsageError
from smolcli.system.config_file import ConfigFile, read_config
from smolcli.system.config_path import config_path
from smolcli.terminal.words import closest

DEFAULT = "default"


class Row(NamedTuple):
    """A setting: its name, its value for people and for programs, its source, and its option; a prompt has none."""

    key: str
    value: str
    typed: Any
    source: str
    option: Option | None = None

    @property
    def is_set(self) -> bool:
        """Whether it has a value that is not the option's own default."""
        return self.source != DEFAULT

    def as_json(self) -> dict[str, Any]:
        """The row for programs."""
        values = {"key": self.key, "value": self.typed, "source": self.source}
        if self.option is None:
            return values
        default = self.option.field.default
        about = str(self.option.field.metadata["help"]).replace("\n", " ")
        kind = f"list of {self.option.type.__name__}" if self.option.is_list else self.option.type.__name__
        return {
            **values,
            "default": list(default) if isinstance(default, tuple) else default and _plain(default),
            "type": kind.lower().replace("path", "str"),
            "variable": self.option.variable,
            "about": about,
        }


def file_rows() -> Iterator[Row]:
    """Yield every setting under its own key, and the saved prompts. Raises UsageError for wrong ones."""
    file = read_config(config_path()) if not settings.is_yes(os.environ.get(settings.NO_CONFIG, "")) else None
    file = file or ConfigFile(config_path())
    check_file(file)
    check_variables(os.environ)
    for section in ("", *section_names()):
        options = section_options(section) if section else shared_options()
        found = {
            setting.option.key: setting
            for setting in found_settings(section, file, os.environ, with_shared=not section)
        }
        for key, option in options.items():
            if key in found:
                value_of(found[key])
            yield _row(option, found.get(key))
    for name, text in file.values.get(PROMPTS, {}).items():
        yield Row(f"{PROMPTS}.{name}", text, text, file.place(PROMPTS, name))


def command_rows(words: Sequence[str]) -> Iterator[Row]:
    """Yield the settings of a command and what they would be with the options after it.

    Raises UsageError for wrong settings, and for words that are no command line.
    """
    section, command, rest = _command(words)
    program = typer.Context(command, info_name="smolcli")
    context = typer.Context(command, info_name=section.replace(".", " "), parent=program)
    values, _, _ = command.make_parser(context).parse_args(args=list(rest))
    given = {name: value for name, value in values.items() if value is not None}
    in_force = {
        setting.option.field.name: setting for setting in settings.load(section, given, "no_config" in given).in_force
    }
    for option in section_options(section).values():
        name = option.field.name
        setting = in_force.get(name)
        if name in given:
            flag = f"--{option.key}"
            setting = Setting(option, given[name], COMMAND_LINE, option.name, flag, flag)
            value_of(setting)
        yield _row(option, setting)._replace(key=option.key)


def _command(words: Sequence[str]) -> tuple[str, Any, Sequence[str]]:
    """The section of a command, the command itself, and the words after it. Raises UsageError."""
    name, rest = words[0], words[1:]
    names = [other for other in (*registry.TASKS, *registry.COMMANDS) if other != "help"]
    if name not in names:
        guess = closest(name, names)
        raise UsageError(f"No such command {name}", f"did you mean {guess}?" if guess else "see smolcli --help")
    command = make_command(name)
    if not hasattr(command, "commands"):
        return name, command, rest
    if not rest or rest[0] not in command.commands:
        parts = ", ".join(f"{name} {part}" for part in command.commands)
        raise UsageError(f"{' '.join(words[:2])} is no command", f"choose one of {parts}")
    return f"{name}.{rest[0]}", command.commands[rest[0]], rest[1:]


def _row(option: Option, setting: Setting | None) -> Row:
    if setting is None:
        return Row(option.name, _default(option), _plain(option.field.default), DEFAULT, option)
    typed = HIDDEN if option.is_secret else _typed(option, setting.words)
    return Row(option.name, shown(setting), typed, setting.source, option)


def _default(option: Option) -> str:
    """The default in words."""
    words = option.field.metadata.get("show_default")
    if isinstance(words, str):
        return words
    default = _plain(option.field.default)
    if isinstance(default, bool):
        return "true" if default else "false"
    return ", ".join(map(str, default)) if isinstance(default, list) else "" if default is None else str(default)


def _typed(option: Option, words: Words) -> Any:
    """The value as JSON has it: numbers where the option is one, else the words."""
    if isinstance(words, bool) or not option.is_number:
        return words
    return parse(option, words) if isinstance(words, str) else [parse(option, word) for word in words]


def _plain(default: Any) -> Any:
    if isinstance(default, tuple):
        return list(default)
    return default if default is None or isinstance(default, (bool, int, float, str)) else str(default)
