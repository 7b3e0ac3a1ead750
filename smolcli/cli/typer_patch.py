"""Makes Typer parse values without pydantic, which takes longer to load than Typer itself.

Typer would load it for the default of every parameter. Here strings, paths, defaults, numbers within their range and
values with a parser of their own are parsed as Typer parses them; everything else is left to Typer. The error for a
word that is no such number says what it must be. A Typer that parses in another way stays as it is: a test notices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import typer
from typer import core

from smolcli.cli.help import number_range
from smolcli.errors import UsageError


class _PlainParam(NamedTuple):
    """Replaces the object that Typer builds from the description of a parameter, to parse its values with."""

    description: Any
    build: Callable[[Any], Any]  # Typer's own

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Parse `value`; raises typer.BadParameter."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        hint = self.description.annotation
        kind = (get_args(hint) or (hint,))[0]
        parse = self.description.parameter_info.parser or {str: str, Path: Path}.get(kind)
        if parse is not None:
            return _parse(parse, value, param)
        if value == param.default:
            return value
        if kind not in (int, float):
            return self.build(self.description).coerce(value, param=param, ctx=ctx)
        limits = self.description.parameter_info
        if (number := parse_number(kind, value, limits)) is not None:
            return number
        try:
            return self.build(self.description).coerce(value, param=param, ctx=ctx)
        except typer.BadParameter as error:
            raise typer.BadParameter(f"{value} is not {describe_number(kind, limits)}", ctx, param) from error


def _parse(parse: Callable[[Any], Any], value: Any, param: Any) -> Any:
    """Parse `value`, or each of several. Raises UsageError, which names the option."""
    try:
        return list(map(parse, value)) if isinstance(value, (list, tuple)) else parse(value)
    except UsageError as error:
        if error.what.startswith("--"):
            raise
        raise UsageError(f"{max(param.opts, key=len)}: {error.what}", error.advice) from error


def parse_number(kind: Callable[[Any], float], word: Any, limits: Any) -> float | None:
    """Return the number that `word` is, or None if it is none within the limits."""
    try:
        number = kind(word)
    except (TypeError, ValueError):
        return None
    least, most = (-math.inf if limits.min is None else limits.min), (math.inf if limits.max is None else limits.max)
    return number if least <= number <= most else None


def describe_number(kind: type, limits: Any) -> str:
    """Return what a number must be, as `a whole number from 1 to 512`."""
    noun = "a whole number" if kind is int else "a number"
    if limits.min is None:
        return noun
    words = number_range(limits.min, limits.max)
    return f"{noun} {words}" if words.startswith("more") else f"{noun} {'of' if limits.max is None else 'from'} {words}"


def skip_pydantic() -> None:
    """Make Typer parse this way from now on."""
    build = getattr(core, "build_runtime_param", None)
    if build is not None:
        core.__dict__["build_runtime_param"] = lambda description: _PlainParam(description, build)
