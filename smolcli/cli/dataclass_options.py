"""Makes a Typer command of dataclasses: each field is an option, each class a panel of the help.

dataclass_command(run, Ask, Input, Output)  ->  a function for app.command()(...) that calls
run(Ask(...), Input(...), Output(...)) with the fields filled from the command line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from smolcli.cli.help import FULL_HELP, NO_CONFIG
from smolcli.errors import UsageError
from smolcli.options import Batch, Generate, Input, Model
from smolcli.records.layout import Layout

# Of a field's metadata; the others are Typer's.
OUR_KEYS = ("flags", "id_key", "argument", "panel", "short", "shared", "excludes", "saved", "secret", "choices")


def dataclass_command(run: Callable[..., Any], *classes: type) -> Callable[..., Any]:
    """Return a function with one parameter for each field of the dataclasses `classes`, arguments first.

    Its attribute `long_options` names the fields that only --help-all shows: all that are not `short`, or none where
    no field is. `classes` are the dataclasses, of which cli/setting_keys.py makes the settings.
    """
    parameters = [
        _parameter(cls, field, hints[field.name])
        for cls, hints in ((cls, get_type_hints(cls)) for cls in classes)
        for field in fields(cls)
    ]
    parameters.sort(key=lambda p: 0 if isinstance(p.annotation.__metadata__[0], typer.models.ArgumentInfo) else 1)
    parameters.append(_keyword("help_all", Annotated[bool, FULL_HELP], False))
    parameters.append(_keyword("no_config", Annotated[bool, NO_CONFIG], False))

    def command(**values: Any) -> Any:
        return run(*(_fill(cls, values) for cls in classes))

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.long_options = _long_options(classes)  # type: ignore[attr-defined]
    command.classes = classes  # type: ignore[attr-defined]
    return command


def task_classes(task: Any) -> tuple[type, ...]:
    """The dataclasses of the options of a task's command, the task's own first."""
    return (task, Input, Model, Generate, task.output_options, Layout, Batch)


def _long_options(classes: tuple[type, ...]) -> frozenset[str]:
    options = [field for cls in classes for field in fields(cls) if not field.metadata.get("argument")]
    if not any(field.metadata.get("short") for field in options):
        return frozenset()
    return frozenset(field.name for field in options if not field.metadata.get("short"))


def _parameter(cls: type, field: Field[Any], hint: Any) -> inspect.Parameter:
    settings = {key: value for key, value in field.metadata.items() if key not in OUR_KEYS}
    settings["rich_help_panel"] = field.metadata.get("panel") or getattr(cls, "panel", cls.__name__)
    if get_origin(hint) is tuple:
        hint = list[get_args(hint)[0]]  # type: ignore[misc]
    if field.metadata.get("saved"):
        settings["autocompletion"] = _complete_prompt
    info: Any
    if field.metadata.get("argument"):
        info = typer.Argument(**settings)
    else:
        info = typer.Option(*field.metadata.get("flags", ()), **settings)
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    if field.default is MISSING:
        default = inspect.Parameter.empty
    return _keyword(field.name, Annotated[hint, info], default)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _fill(cls: type, values: dict[str, Any]) -> Any:
    """An instance of `cls`, its fields taken from `values`; Typer's lists become tuples, @names saved prompts."""
    own = {field.name: values[field.name] for field in fields(cls)}
    saved = {field.name for field in fields(cls) if field.metadata.get("saved")}
    own.update({name: _expand(own[name]) for name in saved})
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in own.items()})


def _expand(value: Any) -> Any:
    """The value of an option whose words may be the names of saved prompts."""
    if isinstance(value, (list, tuple)):
        return [_expand(word) for word in value]
    if value is None or not value.startswith("@"):
        return value
    from smolcli.cli.settings import expand_prompt

    return expand_prompt(value)


def _complete_prompt(incomplete: str) -> list[str]:
    """Tell a shell the saved prompts, as @name, that begin with what is typed."""
    if not incomplete.startswith("@"):
        return []
    from smolcli.cli.settings import saved_prompts

    try:
        return [f"@{name}" for name in saved_prompts() if name.startswith(incomplete[1:])]
    except UsageError:
        return []
