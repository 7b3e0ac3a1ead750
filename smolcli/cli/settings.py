"""The settings of a run: defaults of options that the environment and config.toml give.

    command line > SMOLCLI_* > config.toml > default;  of two in one layer that of the command alone, as caption.model

`apply` gives Typer the words of the settings in place of defaults, so that they are parsed as words of the command
line are. Where there is neither a file nor a variable, this module is not loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from smolcli.errors import SmolError, UsageError
from smolcli.system.config_file import ConfigFile, read_config
from smolcli.system.config_path import config_path

if TYPE_CHECKING:
    from smolcli.cli.setting_keys import Option

NO_CONFIG = "SMOLCLI_NO_CONFIG"  # the variable of --no-config
HIDDEN = "(hidden)"  # shown in place of a secret
COMMAND_LINE, ENVIRONMENT, FILE = range(3)  # layers, the stronger first
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
SAVED = re.compile(r"@(\w[\w-]*)")  # the name of a saved prompt, as a word of the command line

Words = bool | str | list[str]  # a flag, or what would stand on the command line


@dataclass(frozen=True)
class Setting:
    """The value of an option that comes from a layer, under the key `name`.

    `source` names where it comes from, and `place` says it in full, for errors.
    """

    option: Option
    words: Words
    layer: int
    name: str
    source: str
    place: str


@dataclass
class Settings:
    """The settings that this process uses: those in force, and the file, None until it is looked for."""

    in_force: list[Setting] = field(default_factory=list)
    file: ConfigFile | None = None


_current = Settings()


def apply(ctx: Any, args: list[str]) -> None:
    """Make the settings of the command of `ctx` its defaults, where `args`, its words, do not say more.

    Raises UsageError for a wrong setting, unless the command is there to show what is wrong.
    """
    global _current
    _current = Settings()
    callback = ctx.command.callback
    if not hasattr(callback, "classes"):
        return
    given = _given(ctx, args)
    if given is None or given & {"help", "help_all"}:
        return
    try:
        _current = load(_section(ctx), given, "no_config" in given)
    except UsageError:
        if not getattr(callback, "shows_settings", False):
            raise
    ctx.default_map = {setting.option.field.name: setting.words for setting in _current.in_force}


def load(section: str, given: Iterable[str] = (), without_file: bool = False) -> Settings:
    """The settings in force for the command of `section`, but for the fields that are `given`; "" is no command.

    Raises UsageError for a setting that does not exist, and for a wrong value of one that the command has. The settings
    of another command alone are looked at where there is no command: their names are known once it is imported.
    """
    from smolcli.cli.setting_check import check_file, check_variables, value_of

    file = ConfigFile(config_path())
    if not (without_file or is_yes(os.environ.get(NO_CONFIG, ""))):
        file = read_config(file.path)
        check_file(file, section)
    check_variables(os.environ, section)
    found: dict[str, Setting] = {}
    for setting in found_settings(section, file, os.environ):
        value_of(setting)  # must be one
        found[setting.option.field.name] = setting
    layers = {name: setting.layer for name, setting in found.items()} | dict.fromkeys(given, COMMAND_LINE)
    in_force = [
        setting
        for name, setting in found.items()
        if layers[name] == setting.layer and not _is_displaced(setting, layers)
    ]
    return Settings(in_force, file)


def defaults(options: type[Any], settings: Settings) -> Any:
    """An instance of a dataclass of options, with the settings in place of defaults."""
    from smolcli.cli.setting_check import value_of

    own = {option.name for option in fields(options)}
    in_force = [setting for setting in settings.in_force if setting.option.field.name in own]
    return options(**{setting.option.field.name: value_of(setting) for setting in in_force})


def is_yes(word: str) -> bool:
    """Whether a word switches a flag on."""
    return word.lower() in YES


def found_settings(
    section: str, file: ConfigFile, environ: Mapping[str, str], with_shared: bool = True
) -> Iterator[Setting]:
    """Yield the settings that the command of `section` has in both layers, the weakest first.

    `with_shared` are those at the top among them. Raises UsageError for a value of a wrong type.
    """
    from smolcli.cli.setting_check import words_in_file, words_in_variable
    from smolcli.cli.setting_keys import section_options, shared_options

    own = section_options(section) if section else {}
    taken = [
        option
        for key, option in shared_options().items()
        if with_shared and (not section or (key in own and own[key].is_shared))
    ]
    # of the command's own declaration: it may take several values where others take one
    shared = [(option, own.get(option.key, option)) for option in taken]
    keys = [*shared, *((option, option) for option in own.values())]
    for place, declared in keys:
        value = _in_file(file, place.path)
        if value is not None:
            words = words_in_file(declared, value, file.full_place(*place.path))
            source, full = file.place(*place.path), file.full_place(*place.path)
            yield Setting(declared, words, FILE, place.name, source, full)
    for place, declared in keys:
        if text := environ.get(place.variable):
            words = words_in_variable(declared, text, place.variable)
            yield Setting(declared, words, ENVIRONMENT, place.name, place.variable, place.variable)


def _in_file(file: ConfigFile, path: tuple[str, ...]) -> Any:
    """The value at a path of the file, None where there is none."""
    value: Any = file.values
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _is_displaced(setting: Setting, layers: Mapping[str, int]) -> bool:
    """Whether an option that excludes this one comes from a stronger layer."""
    return any(layers.get(other, FILE) < setting.layer for other in setting.option.field.metadata.get("excludes", ()))


def _given(ctx: Any, args: list[str]) -> set[str] | None:
    """The fields that the command line gives; None where it cannot be parsed, which Typer will report."""
    try:
        options, _, _ = ctx.command.make_parser(ctx).parse_args(args=list(args))
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return None
    return {name for name, value in options.items() if value is not None}


def _section(ctx: Any) -> str:
    """The section of a command: its words, without the program's name."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.info_name)
        ctx = ctx.parent
    return ".".join(names)


# ---- what is told of them ------------------------------------------------------------------------------


def describe() -> str:
    """The settings in force, in one line; empty where there is none."""
    return ", ".join(f"{setting.option.key} {shown(setting)} ({setting.source})" for setting in _current.in_force)


def shown(setting: Setting) -> str:
    """The value of a setting for people."""
    if setting.option.is_secret:
        return HIDDEN
    if isinstance(setting.words, bool):
        return "true" if setting.words else "false"
    return setting.words if isinstance(setting.words, str) else ", ".join(setting.words)


def name_sources(error: SmolError, settings: Settings | None = None) -> None:
    """Add to an error where the values that it names come from, if not from the command line."""
    for setting in (_current if settings is None else settings).in_force:
        key, value = setting.option.key, setting.words
        if isinstance(value, str) and value and error.what.startswith(f"{value}:"):
            error.what = f"{value} (from {setting.source}){error.what.removeprefix(value)}"
        elif re.search(rf"(?<![\w-])--{re.escape(key)}(?![\w-])", error.what):
            error.what = f"{error.what} (--{key} is from {setting.source})"


# ---- saved prompts -------------------------------------------------------------------------------------


def expand_prompt(word: str) -> str:
    """Return the saved prompt that `@name` stands for; any other word is itself, and `@@name` is the text @name.

    Raises UsageError for a name that is not saved, with one guess.
    """
    if word.startswith("@@"):
        return word[1:]
    match = SAVED.fullmatch(word)
    if match is None:
        return word
    prompts = saved_prompts()
    if match[1] not in prompts:
        from smolcli.terminal.words import closest

        guess = closest(match[1], prompts)
        saved = f"saved are {', '.join(prompts)}" if prompts else 'smolcli config set prompts.NAME "TEXT" saves one'
        advice = f"did you mean @{guess}?" if guess else f"{saved}; write @{word} for the text itself"
        raise UsageError(f"{word}: no such prompt is saved", advice)
    return prompts[match[1]]


def saved_prompts() -> dict[str, str]:
    """The prompts of the file, by their names. Raises UsageError for a file that cannot be read."""
    if _current.file is None:
        _current.file = read_config(config_path())
    prompts = _current.file.values.get("prompts", {})
    return {name: text for name, text in prompts.items() if isinstance(text, str)} if isinstance(prompts, dict) else {}
