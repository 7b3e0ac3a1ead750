"""The settings there are, made of the dataclass fields that declare options: no option is named a second time.

    shared_options()["model"]                # `model` at the top of config.toml, SMOLCLI_MODEL
    section_options("caption")["style"]      # `style` under [caption], SMOLCLI_CAPTION_STYLE
    section_options("bench.speed")["model"]  # a key of a section is for that command alone

A key is the long name of the option without its dashes. The options that all tasks have are shared: their keys may
stand at the top. Another command takes those of them that its fields are marked `shared` for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import Field, fields
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from smolcli import registry
from smolcli.cli.dataclass_options import task_classes
from smolcli.errors import UsageError
from smolcli.system.config_path import PREFIX
from smolcli.terminal.words import closest, enumerate_words

PROMPTS = "prompts"  # the section of saved prompts


class Option(NamedTuple):
    """An option as a setting: its key, the field that declares it, and the type of that."""

    section: str  # empty for a key at the top
    key: str
    field: Field[Any]
    hint: Any
    is_shared: bool

    @property
    def name(self) -> str:
        """The setting in `config set`, as `caption.style`."""
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def path(self) -> tuple[str, ...]:
        """The keys that lead to it in the file."""
        return (*section_path(self.section), self.key)

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper().replace("-", "_").replace(".", "_")

    @property
    def is_list(self) -> bool:
        """Whether it can be given several times."""
        return get_origin(self.hint) is tuple

    @property
    def type(self) -> type:
        """The type of its value, or of each value of a list: bool, int, float, str or Path."""
        kinds = [kind for kind in get_args(self.hint) if kind not in (type(None), Ellipsis)]
        kind: type = kinds[0] if kinds else self.hint
        return kind

    @property
    def is_number(self) -> bool:
        """Whether its value, or each of a list, is a number; what is parsed in its own way, as times are, is a word."""
        return self.type in (int, float) and "parser" not in self.field.metadata

    @property
    def is_secret(self) -> bool:
        """Whether its value is not shown."""
        return bool(self.field.metadata.get("secret"))


def section_path(section: str) -> tuple[str, ...]:
    """The keys that lead to a section of the file: `bench.speed` is a table in another."""
    return tuple(section.split(".")) if section else ()


@cache
def shared_options() -> dict[str, Option]:
    """The options that may stand at the top of the file, by their keys."""
    from smolcli.tasks.base import Task

    options = _options("", task_classes(Task)[1:])
    return {key: option for key, option in options.items() if option.is_shared}


@cache
def section_options(section: str) -> dict[str, Option]:
    """The options of the command that a section is named after, by their keys; empty if there is no such section."""
    head, _, rest = section.partition(".")
    if head in registry.TASKS and not rest:
        return _options(section, task_classes(registry.load(registry.TASKS, head)))
    if head not in registry.COMMANDS:
        return {}
    command = registry.load(registry.COMMANDS, head)
    if hasattr(command, "registered_commands"):
        command = next((part.callback for part in command.registered_commands if part.name == rest), None)
    elif rest:
        return {}
    return _options(section, getattr(command, "classes", ()))


@cache
def section_names() -> tuple[str, ...]:
    """The names of all sections but [prompts]: commands, and parts of commands, that have options."""
    return tuple(filter(section_options, _command_names()))


def _command_names() -> Iterator[str]:
    yield from registry.TASKS
    for name in registry.COMMANDS:
        yield from part_names(name) or [name]


def part_names(name: str) -> list[str]:
    """The names of the parts of a command, as `bench.speed`; none where it has no parts."""
    command = registry.load(registry.COMMANDS, name) if name in registry.COMMANDS else None
    return [f"{name}.{part.name}" for part in getattr(command, "registered_commands", ())]


def all_options() -> Iterator[Option]:
    """Every setting: those at the top, then those of each section."""
    yield from shared_options().values()
    for section in section_names():
        yield from section_options(section).values()


def find_option(name: str) -> Option:
    """Return the option of a setting, as `caption.style`. Raises UsageError with one guess where there is none."""
    section, _, key = name.rpartition(".")
    options = section_options(section) if section else shared_options()
    if key not in options:
        raise unknown_setting(name)
    return options[key]


def unknown_setting(name: str, place: str = "") -> UsageError:
    """The error about a setting that does not exist: one guess, or the sections where its key may stand."""
    start = f"{place}: " if place else ""
    section, _, key = name.rpartition(".")
    takers = [other for other in section_names() if key in section_options(other)]
    if not section and takers:
        advice = f"write it under [{takers[0]}]" if place else f"name it {' or '.join(f'{t}.{key}' for t in takers)}"
        return UsageError(f"{start}{key} is an option of {enumerate_words(takers)} alone", advice)
    message = f"{start}the setting {name} is not known"
    options = section_options(section) if section else shared_options()
    known = [option.name for option in options.values()] or [option.name for option in all_options()]
    guess = closest(name, known if section else [*known, *section_names()])
    if guess is None:
        by_key = {option.key: option.name for option in (*all_options(), *options.values())}
        guess = by_key.get(closest(key, by_key) or "")
    return UsageError(message, f"did you mean {guess}?" if guess else "smolcli config show --all lists the settings")


def _options(section: str, classes: Iterable[type]) -> dict[str, Option]:
    options = {}
    for cls in classes:
        hints = get_type_hints(cls)
        for field in fields(cls):
            if not field.metadata.get("argument") and not field.metadata.get("hidden"):
                is_shared = bool(field.metadata.get("shared", getattr(cls, "is_shared", False)))
                options[key_of(field)] = Option(section, key_of(field), field, hints[field.name], is_shared)
    return options


def key_of(field: Field[Any]) -> str:
    """The key of an option: its long name without dashes; of a pair of flags the first, as of --recursive.

    >>> from smolcli.options import Generate, Input
    >>> [key_of(field) for field in fields(Generate)][:2], [key_of(field) for field in fields(Input)][3]
    (['max-tokens', 'min-tokens'], 'recursive')
    """
    flags = [flag.partition("/")[0] for flag in field.metadata.get("flags", ())] or [field.name.replace("_", "-")]
    return str(max(flags, key=len)).lstrip("-")
