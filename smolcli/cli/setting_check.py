"""Checks settings: that they exist, and that their values are what their options take.

Every function raises UsageError, which names the file and the line, or the variable, and what to do. Other commands
than the one that runs are not imported, but to make a guess for the message.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from smolcli import registry
from smolcli.cli.setting_keys import (
    PROMPTS,
    Option,
    all_options,
    part_names,
    section_options,
    shared_options,
    unknown_setting,
)
from smolcli.cli.settings import COMMAND_LINE, ENVIRONMENT, NO, NO_CONFIG, SAVED, YES, Setting, Words
from smolcli.cli.typer_patch import describe_number, parse_number
from smolcli.errors import UsageError
from smolcli.system.config_file import ConfigFile
from smolcli.system.config_path import PREFIX
from smolcli.terminal.words import closest


def check_file(file: ConfigFile, section: str = "") -> None:
    """Every key of the file is a setting, a section or a saved prompt; in sections those of the command of `section`.

    Without a command those of all sections.
    """
    command = section.partition(".")[0]
    for key, value in file.values.items():
        place = file.full_place(key)
        if key == PROMPTS:
            _check_prompts(file, value)
        elif key in shared_options() and not isinstance(value, dict):
            continue
        elif key in registry.TASKS or key in registry.COMMANDS:
            _check_is_section(file, key, value)
            if command in ("", key):
                _check_section(file, key, value)
        elif isinstance(value, dict):
            guess = closest(key, [PROMPTS, *registry.TASKS, *registry.COMMANDS])
            advice = f"did you mean [{guess}]?" if guess else "a section has the name of a command"
            raise UsageError(f"{place}: the section [{key}] is not known", advice)
        else:
            raise unknown_setting(key, place)


def _check_is_section(file: ConfigFile, section: str, value: Any) -> None:
    if not isinstance(value, dict):
        place = file.full_place(*section.split("."))
        raise UsageError(f"{place}: {section} is a section, not a setting", f"write [{section}], and its options below")


def _check_section(file: ConfigFile, section: str, value: dict[str, Any]) -> None:
    options = section_options(section)
    parts = [name for name in part_names(section) if section_options(name)] if not options else []
    for key, inner in value.items():
        name = f"{section}.{key}"
        if name in parts:
            _check_is_section(file, name, inner)
            _check_section(file, name, inner)
        elif parts:
            guess = closest(name, parts)
            advice = f"did you mean [{guess}]?" if guess else f"its sections are {', '.join(parts)}"
            raise UsageError(f"{file.full_place(*name.split('.'))}: [{section}] has no options of its own", advice)
        elif key not in options:
            raise unknown_setting(name, file.full_place(*name.split(".")))


def _check_prompts(file: ConfigFile, prompts: Any) -> None:
    if not isinstance(prompts, dict):
        message = f"{file.full_place(PROMPTS)}: {PROMPTS} is a section, not a setting"
        raise UsageError(message, f'write [{PROMPTS}], and below it: name = "text"')
    for name, text in prompts.items():
        place = file.full_place(PROMPTS, name)
        check_prompt_name(name, f"{place}: ")
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{place}: the prompt {name} is no text", f'write {name} = "What is this?"')


def check_prompt_name(name: str, start: str = "") -> None:
    """A name can be written after @."""
    if not SAVED.fullmatch(f"@{name}"):
        raise UsageError(f"{start}{name} cannot be the name of a prompt", "use letters, digits, - and _")


def check_variables(environ: Mapping[str, str], section: str = "") -> None:
    """A variable that is nearly one of smolcli's is a typing error; others that begin as they do are not ours.

    A cluster sets SMOLCLI_SERVICE_HOST where a service has the name of this program. Those of other commands than that
    of `section` are passed over, if there is one.
    """
    command = section.partition(".")[0]
    own = [option for name in part_names(command) or [command] for option in section_options(name).values()]
    known = {NO_CONFIG, *(option.variable for option in (*shared_options().values(), *own))}
    others = {*registry.TASKS, *registry.COMMANDS} - {command} if command else ()
    passed_over = tuple(f"{PREFIX}{name.upper().replace('-', '_')}_" for name in others)
    names = [name for name in environ if name.startswith(PREFIX) and not name.startswith(passed_over)]
    unknown = [name for name in names if name not in known]
    if not unknown:
        return
    variables = {option.variable: option for option in all_options()}
    for name in unknown:
        if name in variables:
            continue
        suffix = name.removeprefix(PREFIX)
        owner = next((other for other, option in variables.items() if other.endswith(f"_{suffix}")), None)
        guess = closest(suffix, [other.removeprefix(PREFIX).lower() for other in (*variables, NO_CONFIG)])
        guess = owner or (guess and f"{PREFIX}{guess.upper()}")
        if guess:
            raise UsageError(f"{name}: no such setting", f"did you mean {guess}?")


def words_in_file(option: Option, value: Any, place: str) -> Words:
    """The words that stand for a value of the file on the command line."""
    if option.type is bool:
        if isinstance(value, bool):
            return value
        raise _wrong(option, value, place, "true or false", "true")
    if option.is_list:
        values = value if isinstance(value, list) else [value]
        return [_word(option, part, place) for part in values]
    return _word(option, value, place)


def _word(option: Option, value: Any, place: str) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    metadata = option.field.metadata
    example = _example(option)
    if option.is_number:
        if is_number:
            return repr(value)
        raise _wrong(option, value, place, "a number", example)
    if isinstance(value, str) or (is_number and "parser" in metadata and "choices" not in metadata):
        return str(value)
    raise _wrong(option, value, place, "text in quotes", example)


def _example(option: Option) -> str:
    """A value that the option could have, as it is written in the file."""
    default = option.field.default
    if option.is_number:
        example = str(default) if isinstance(default, (int, float)) else "1"
    elif choices := option.field.metadata.get("choices"):
        example = f'"{choices[0]}"'
    else:
        example = '"256m"' if option.key == "model" else '"..."'
    return f"[{example}]" if option.is_list else example


def _wrong(option: Option, value: Any, place: str, kind: str, example: str) -> UsageError:
    kind = f"{kind}, or a list of that" if option.is_list else kind
    words = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a section"}
    message = f"{place}: {option.key} must be {kind}, not {words.get(type(value), 'a date or time')}"
    return UsageError(message, f"write {option.key} = {example}")


def words_in_variable(option: Option, text: str, variable: str) -> Words:
    """The words that stand for the text of a variable on the command line; values of a list have commas between."""
    if option.type is bool:
        if text.lower() in (*YES, *NO):
            return text.lower() in YES
        raise UsageError(f"{variable}: {text} is neither true nor false", f"set it to {YES[0]} or {NO[0]}, or unset it")
    if option.is_list:
        return [word.strip() for row in csv.reader(io.StringIO(text), skipinitialspace=True) for word in row if word]
    return text


def value_of(setting: Setting) -> Any:
    """The value that the option makes of the words of a setting, which it must take."""
    words = setting.words
    if isinstance(words, bool):
        return words
    try:
        return (
            parse(setting.option, words) if isinstance(words, str) else tuple(parse(setting.option, w) for w in words)
        )
    except UsageError as error:
        if setting.layer == COMMAND_LINE:
            raise
        remedy = f"unset {setting.place}" if setting.layer == ENVIRONMENT else f"smolcli config unset {setting.name}"
        raise UsageError(f"{setting.place}: {error.what}", error.advice or f"correct it, or {remedy}") from error


def parse(option: Option, word: str) -> Any:
    """Parse one value of an option as on the command line."""
    parser = option.field.metadata.get("parser")
    if parser is not None:
        try:
            return parser(word)
        except UsageError as error:
            if error.what.startswith("--"):
                raise
            raise UsageError(f"{option.key}: {error.what}", error.advice) from error
    if not option.is_number:
        return Path(word).expanduser() if option.type is Path else word  # no shell does it here
    limits = SimpleNamespace(min=option.field.metadata.get("min"), max=option.field.metadata.get("max"))
    number = parse_number(option.type, word, limits)
    if number is None:
        raise UsageError(f"{option.key}: {word} is not {describe_number(option.type, limits)}")
    return number
