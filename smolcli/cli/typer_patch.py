"""Has Typer take the values of parameters without pydantic, which costs more to load than Typer itself.

It would load it for the default of every parameter there is. Here words, paths, defaults, numbers in their range and
what has a parser of its own are taken as Typer takes them; whatever else is there is left to Typer. Of a number that is
none it is said what it has to be. A Typer that takes values another way is left as it is: a test tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import typer
from typer import core


class _Plain(NamedTuple):
    """Stands for what Typer makes of a parameter's description, to take its values with."""

    description: Any
    make: Callable[[Any], Any]  # Typer's own

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        hint = self.description.annotation
        kind = (get_args(hint) or (hint,))[0]
        parse = self.description.parameter_info.parser or {str: str, Path: Path}.get(kind)
        if parse is not None:
            return list(map(parse, value)) if isinstance(value, (list, tuple)) else parse(value)
        if value == param.default:
            return value
        if kind not in (int, float):
            return self.make(self.description).coerce(value, param=param, ctx=ctx)
        limits = self.description.parameter_info
        if (number := _number(kind, value, limits)) is not None:
            return number
        try:
            return self.make(self.description).coerce(value, param=param, ctx=ctx)
        except typer.BadParameter as error:
            raise typer.BadParameter(f"{value} is not {_wanted(kind, limits)}", ctx, param) from error


def _number(kind: Callable[[Any], float], word: Any, limits: Any) -> float | None:
    """The number that a word is, if it is one within its limits."""
    try:
        number = kind(word)
    except (TypeError, ValueError):
        return None
    least, most = (-math.inf if limits.min is None else limits.min), (math.inf if limits.max is None else limits.max)
    return number if least <= number <= most else None


def _wanted(kind: type, limits: Any) -> str:
    """What a number has to be, for people."""
    what = "a whole number" if kind is int else "a number"
    if limits.min is not None and limits.max is not None:
        return f"{what} from {limits.min:.15g} to {limits.max:.15g}"
    return what if limits.min is None else f"{what} of {limits.min:.15g} or more"


def skip_pydantic() -> None:
    """From now on; once is enough."""
    make = getattr(core, "build_runtime_param", None)
    if make is not None:
        core.__dict__["build_runtime_param"] = lambda description: _Plain(description, make)
