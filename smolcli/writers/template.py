"""Records in the user's own words: --template '{path}: {text}'.

    template -> parse -> [literal text or Field] -> a line a record

A field is looked up by name in plain values, never evaluated: no attribute of an object can be reached.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from smolcli.errors import UsageError
from smolcli.types import Record
from smolcli.writers.base import Writer
from smolcli.writers.columns import COLUMNS, Cell, cells, compact

ESCAPES = {"n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
OF_PATH = ("name", "stem", "suffix", "folder")
TOKEN = re.compile(r"(?P<twice>\{\{|\}\})|\{(?P<field>[^{}]*)\}|\\(?P<escape>.?)|(?P<brace>[{}])", re.DOTALL)


@dataclass(frozen=True)
class Field:
    """One {name:spec} of a template; `spec` is Python's format specification, or ""."""

    name: str
    spec: str

    def of(self, values: Mapping[str, Cell], data: Any) -> str:
        """What stands there for a record of these values and this `data`; a value that `spec` does not fit, plain."""
        name, _, key = self.name.partition(".")
        value = _inside(data, key) if name == "data" and key else values[self.name]
        try:
            return format(value, self.spec)
        except (ValueError, OverflowError):
            return str(value)


def parse(template: str) -> list[str | Field]:
    r"""The literal texts and the fields of a template, in order.

    Raises UsageError, naming what is wrong: an unknown field, a format that does not fit it, a brace without its
    other half, an unknown backslash escape, an empty template.

    >>> parse(r"{{{name}}}\t{seconds.decode:.1f}")
    ['{', Field(name='name', spec=''), '}\t', Field(name='seconds.decode', spec='.1f')]
    """
    if not template:
        raise UsageError("the template is empty", "write one like '{path}: {text}'")
    parts: list[str | Field] = []
    literal, end = "", 0
    for token in TOKEN.finditer(template):
        literal += template[end : token.start()]
        end = token.end()
        if token["field"] is not None:
            parts += [literal, _field(token["field"])] if literal else [_field(token["field"])]
            literal = ""
        elif token["twice"] is not None:
            literal += token["twice"][0]
        elif token["brace"] is not None:
            what = f"{token[0]} at character {token.start() + 1} of the template has no other half"
            raise UsageError(what, "write {{ and }} for braces themselves")
        elif token["escape"] in ESCAPES:
            literal += ESCAPES[token["escape"]]
        else:
            raise UsageError(f"{token[0]} in the template is unknown", r"there are \n, \t, \0 and, for a backslash, \\")
    literal += template[end:]
    return [*parts, literal] if literal else parts


class Template(Writer):
    """Each record as `template` says; failed ones only if it names a field of the error.

    A newline is added, unless the template ends in one or in a NUL. Raises UsageError as `parse` does.
    """

    def __init__(self, stream: TextIO, many: bool = False, blocks: bool = False, *, template: str) -> None:
        super().__init__(stream, many, blocks)
        self._parts = parse(template)
        last = self._parts[-1]
        self._end = "" if isinstance(last, str) and last.endswith(("\n", "\0")) else "\n"
        self._tells_errors = any(isinstance(part, Field) and part.name.startswith("error.") for part in self._parts)

    def write(self, record: Record) -> None:
        if record.error is not None and not self._tells_errors:
            return
        values = cells(record) | of_path(record.path)
        texts = (part if isinstance(part, str) else part.of(values, record.data) for part in self._parts)
        self.stream.write("".join(texts) + self._end)
        self.stream.flush()


def of_path(path: str) -> dict[str, Cell]:
    """The parts of a path, or of an address without its query; the folder of a bare name is "."."""
    if path.lower().startswith(("http://", "https://")):
        path = re.split("[?#]", path, maxsplit=1)[0]
    folder, name = os.path.split(path)
    return dict(zip(OF_PATH, (name, *os.path.splitext(name), folder or "."), strict=True))


def _field(inside: str) -> Field:
    name, _, spec = inside.partition(":")
    if name.startswith("data.") and name != "data.":
        samples: tuple[Cell, ...] = ("", 0, 0.0)  # which of them it will be, each answer says for itself
    elif name in COLUMNS:
        samples = (COLUMNS[name]() if COLUMNS[name] in (int, float) else "",)
    elif name in OF_PATH:
        samples = ("",)
    else:
        known = ", ".join((*COLUMNS, "data.KEY", *OF_PATH))
        raise UsageError(f"{{{name}}} in the template is not a field", f"the fields are {known}")
    if not any(_fits(sample, spec) for sample in samples):
        raise UsageError(
            f"{{{inside}}} in the template: {spec} is no format for it", "write one like {seconds.decode:.2f}"
        )
    return Field(name, spec)


def _fits(value: Cell, spec: str) -> bool:
    try:
        format(value, spec)
    except (ValueError, OverflowError, MemoryError):
        return False
    return True


def _inside(data: Any, key: str) -> Cell:
    """What an answer's data holds under `key`, of objects in objects `outer.inner`; "" where it has none.

    Of a list a number is a place, counted from 0: `segments.0.text`.
    """
    for part in key.split("."):
        if isinstance(data, list):
            data = data[int(part)] if part.isdecimal() and int(part) < len(data) else None
        else:
            data = data.get(part) if isinstance(data, dict) else None
    if data is None:
        return ""
    if isinstance(data, str):
        return data.encode("utf-8", "replace").decode("utf-8")  # an answer can hold half of a surrogate pair
    return data if type(data) in (int, float) else compact(data)
