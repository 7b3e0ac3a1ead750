"""Lets a Typer command take dataclasses: a field is an option, a class is a panel of the help.

flatten(run, Ask, Input, Output)  ->  a function for app.command()(...) that calls
run(Ask(...), Input(...), Output(...)) with the fields filled from the command line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer


def dataclass_command(run: Callable[..., Any], *classes: type) -> Callable[..., Any]:
    """A function with one parameter for each field of the dataclasses `classes`, in their order."""
    parameters = [
        _parameter(cls, one, hints[one.name])
        for cls, hints in ((cls, get_type_hints(cls)) for cls in classes)
        for one in fields(cls)
    ]
    parameters.sort(key=lambda p: 0 if isinstance(p.annotation.__metadata__[0], typer.models.ArgumentInfo) else 1)

    def command(**values: Any) -> Any:
        return run(*(_made(cls, values) for cls in classes))

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameter(cls: type, one: Field[Any], hint: Any) -> inspect.Parameter:
    more = dict(one.metadata)
    flags = more.pop("flags", ())
    more.pop("id_key", None)
    if get_origin(hint) is tuple:
        hint = list[get_args(hint)[0]]  # type: ignore[misc]
    default = None if one.default is MISSING else list(one.default) if isinstance(one.default, tuple) else one.default
    info: Any
    if more.pop("argument", False):
        info = typer.Argument(**more)
    else:
        panel = (inspect.getdoc(cls) or cls.__name__).splitlines()[0].rstrip(".")
        info = typer.Option(*flags, rich_help_panel=more.pop("panel", panel), **more)
    empty = inspect.Parameter.empty if one.default is MISSING else default
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[hint, info], default=empty)


def _made(cls: type, values: dict[str, Any]) -> Any:
    own = {one.name: values[one.name] for one in fields(cls)}
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in own.items()})
