"""Makes the dataclass fields that are command-line options, and parsers and completion for their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING, field, fields
from typing import Any

from smolcli.errors import UsageError


def opt(default: Any, help: str, *flags: str, id_key: str | None = None, short: bool = False, **more: Any) -> Any:
    """Make a dataclass field that is a command-line option; `more` is passed to typer.Option.

    `help` is its text: one line for --help, and perhaps others that only --help-all shows. `flags` are its names where
    the field's own will not do. A `short` option is shown by --help, every option by --help-all. `panel` names another
    panel than the class does. `show_default` is the default in words, where the value does not tell.

    A `shared` option's setting at the top of config.toml is also for a command that is no task; those of a class with
    `is_shared` are for all tasks. `excludes` names fields that it contradicts: given on the command line it takes the
    place of their settings. The value of a `saved` option may be @name, a saved prompt; that of a `secret` one is not
    shown.

    An option that changes answers has an `id_key`, its name in a record's id. Neither the key nor the default may
    change later, or --resume would no longer find its records.
    """
    return field(default=default, metadata={"help": help, "flags": flags, "id_key": id_key, "short": short, **more})


def same_as(options: type, name: str, default: Any = MISSING, **changes: Any) -> Any:
    """Make a dataclass field that is the option `name` of the dataclass `options`, with its help, flags and parser.

    `default` and `changes` (of the metadata, as `help`) say what differs. Whether it is `short` is up to the command,
    and a default that is a value of its own has no longer the words of the original.
    """
    [original] = [option for option in fields(options) if option.name == name]
    metadata = {**original.metadata, "short": False}
    if default is not MISSING and default not in (None, ()):
        metadata.pop("show_default", None)
    metadata |= changes
    return field(default=original.default if default is MISSING else default, metadata=metadata)


def choice_parser(option: str, names: Collection[str], unlisted: Collection[str] = ()) -> Callable[[str], str]:
    """Return a parser for Typer that takes one of `names` in any case, or one of `unlisted`, which no message lists.

    `option` is its name in the error, as `--dtype` or `vision engine`.
    """
    flag = option if option.startswith("--") else f"--{option.replace(' ', '-')}"

    def parse(word: str) -> str:
        if word.lower() not in (*names, *unlisted):
            raise UsageError(f"{flag} {word} is not known", f"choose one of {', '.join(names)}")
        return word.lower()

    return parse


def choice(option: str, names: Collection[str], unlisted: Collection[str] = (), metavar: str = "") -> dict[str, Any]:
    """Return the metadata of an option that takes one of `names`, or of `unlisted`, which help and completion omit.

    `option` is its name in errors; the metavar is its last word where none is given.
    """
    parser, metavar = choice_parser(option, names, unlisted), metavar or option.split()[-1].lstrip("-").upper()
    return {
        "parser": parser,
        "metavar": metavar,
        "autocompletion": complete_from(names),
        "choices": tuple(names),
    }


def complete_from(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that tells a shell which of `names` begin with what is typed."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]
