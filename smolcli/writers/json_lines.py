"""The formats json and jsonl; docs/records.md describes the fields."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TextIO

from smolcli.types import Record
from smolcli.writers.base import Writer
from smolcli.writers.columns import Column, fields_of, outermost, path_fields, value_at


def as_json(record: Record, indent: int | None = None, columns: Sequence[Column] | None = None) -> str:
    """Return the record as a JSON object: whole, or only the fields of `columns`, nested as they are in the record."""
    fields = fields_of(record)
    return as_line(fields if columns is None else _chosen(fields, columns), indent)


def as_line(fields: dict[str, Any], indent: int | None = None) -> str:
    """Return `fields` as JSON; what cannot be encoded as UTF-8 is escaped as Python escapes it."""
    line = json.dumps(fields, ensure_ascii=False, indent=indent)
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def _chosen(fields: dict[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Return an object with the fields of `columns`; null where a record has none."""
    known = {**fields, **path_fields(fields["path"])}
    chosen: dict[str, Any] = {}
    for _, keys in columns:
        place = chosen
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value_at(known, keys)
    return chosen


class JsonLines(Writer):
    """One record a line; only the fields of `columns` if they are given."""

    def __init__(
        self,
        stream: TextIO,
        has_many: bool = False,
        is_multiline: bool = False,
        *,
        columns: Sequence[Column] | None = None,
    ) -> None:
        super().__init__(stream, has_many, is_multiline)
        self._columns = None if columns is None else outermost(columns)

    def write(self, record: Record) -> None:
        self.stream.write(as_json(record, columns=self._columns) + "\n")
        self.stream.flush()


class Json(JsonLines):
    """One object for one input, an array of objects for several."""

    def write(self, record: Record) -> None:
        before = (",\n" if self.has_written else "[\n") if self.has_many else ""
        # In one call: an interrupt must not leave a comma without a record after it.
        self.stream.write(before + as_json(record, indent=2, columns=self._columns))
        self.stream.flush()
        self.has_written = True

    def close(self) -> None:
        if self.has_many:
            self.stream.write("\n]\n" if self.has_written else "[]\n")
        elif self.has_written:
            self.stream.write("\n")
        self.stream.flush()
