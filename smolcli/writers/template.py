"""Records formatted by a template of the user: --template '{path}: {text}'.

    template -> parse -> [literal text or Field] -> a line a record, or the text of its sidecar

A field is looked up by name among plain values and never evaluated, so a template cannot reach an object's attributes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO, get_args

from smolcli.errors import UsageError
from smolcli.types import Record
from smolcli.writers.base import Writer
from smolcli.writers.columns import COLUMNS, PATH_FIELDS, Cell, cell_at, compact_json, fields_of, path_fields, value_at

ESCAPES = {"n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
JSON = "json"  # the format specification for which a value is written as JSON
TOKEN = re.compile(r"(?P<doubled>\{\{|\}\})|\{(?P<field>[^{}]*)\}|\\(?P<escape>.?)|(?P<brace>[{}])", re.DOTALL)


@dataclass(frozen=True)
class Field:
    """One {name:spec} of a template; `spec` is Python's format specification, JSON, or ""."""

    name: str
    spec: str

    def render(self, fields: Mapping[str, Any]) -> str:
        """Return the field's text for a record with these `fields`, those of its path among them.

        A value that `spec` cannot format is written as it is.
        """
        keys = tuple(self.name.split("."))
        if self.spec == JSON:
            return compact_json(value_at(fields, keys))
        cell = cell_at(fields, keys)
        try:
            return format(cell, self.spec)
        except (ValueError, OverflowError):
            return str(cell)


def parse(template: str) -> list[str | Field]:
    r"""Split a template into literal texts and fields, in order.

    Raises UsageError for an unknown field, a format that does not fit it, an unmatched brace, an unknown backslash
    escape, an empty template.

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
        elif token["doubled"] is not None:
            literal += token["doubled"][0]
        elif token["brace"] is not None:
            message = f"{token[0]} at character {token.start() + 1} of the template is unmatched"
            raise UsageError(message, "write {{ and }} for braces themselves")
        elif token["escape"] in ESCAPES:
            literal += ESCAPES[token["escape"]]
        else:
            raise UsageError(f"{token[0]} in the template is unknown", r"there are \n, \t, \0 and, for a backslash, \\")
    literal += template[end:]
    return [*parts, literal] if literal else parts


class RecordTemplate:
    """A template for records. Raises UsageError as `parse` does."""

    def __init__(self, template: str) -> None:
        self._parts = parse(template)
        last = self._parts[-1]
        self._end = "" if isinstance(last, str) and last.endswith(("\n", "\0")) else "\n"
        self.has_error_field = any(isinstance(part, Field) and part.name.startswith("error.") for part in self._parts)

    def format(self, record: Record) -> str:
        """Return the text of a record; a newline is added, unless the template ends in one or in a NUL."""
        fields = {**fields_of(record), **path_fields(record.path)}
        texts = (part if isinstance(part, str) else part.render(fields) for part in self._parts)
        return "".join(texts) + self._end


class Template(Writer):
    """Formats each record by `template`; failed ones if it has a field of the error, or if `writes_failed`.

    Raises UsageError as `parse` does.
    """

    def __init__(
        self, stream: TextIO, has_many: bool = False, is_multiline: bool = False, *, template: str,
        writes_failed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(stream, has_many, is_multiline)
        self._template = RecordTemplate(template)
        self._writes_failed = writes_failed or self._template.has_error_field

    def write(self, record: Record) -> None:
        if record.error is None or self._writes_failed:
            self.stream.write(self._template.format(record))
            self.stream.flush()


def _field(field: str) -> Field:
    name, _, spec = field.partition(":")
    if name.startswith("data.") and name != "data.":
        samples: tuple[Cell, ...] = ("", 0, 0.0)  # the type may differ from answer to answer
    elif name in COLUMNS:
        kinds = get_args(COLUMNS[name]) or (COLUMNS[name],)  # of `float | None` both
        samples = tuple(kind() for kind in kinds if kind in (int, float)) or ("",)
    elif name in PATH_FIELDS:
        samples = ("",)
    else:
        known = ", ".join((*COLUMNS, "data.KEY", *PATH_FIELDS))
        raise UsageError(f"{{{name}}} in the template is not a field", f"the fields are {known}")
    if spec != JSON and not any(_fits(sample, spec) for sample in samples):
        raise UsageError(
            f"{{{field}}} in the template: {spec} is no format for it", "write one like {seconds.decode:.2f}"
        )
    return Field(name, spec)


def _fits(value: Cell, spec: str) -> bool:
    try:
        format(value, spec)
    except (ValueError, OverflowError, MemoryError):
        return False
    return True
