"""The formats json and jsonl: docs/records.md says the fields."""

from __future__ import annotations

import json
from typing import Any

from smolcli.types import Record
from smolcli.writers.base import Writer


def as_json(record: Record, indent: int | None = None) -> str:
    """The record as JSON; times rounded to the microsecond."""
    fields: dict[str, Any] = {**vars(record), "tokens": vars(record.tokens)}  # asdict takes ten times as long
    fields["seconds"] = {name: round(value, 6) for name, value in vars(record.seconds).items()}
    fields["memory"] = vars(record.memory)
    fields["error"] = record.error and vars(record.error)
    return as_line(fields, indent)


def as_line(fields: dict[str, Any], indent: int | None = None) -> str:
    """JSON; what is not UTF-8 in it is escaped as Python does."""
    line = json.dumps(fields, ensure_ascii=False, indent=indent)
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


class JsonLines(Writer):
    """One record a line, written whole and flushed."""

    def write(self, record: Record) -> None:
        self.stream.write(as_json(record) + "\n")
        self.stream.flush()


class Json(Writer):
    """One record for one input, an array for several."""

    def write(self, record: Record) -> None:
        before = (",\n" if self.begun else "[\n") if self.many else ""
        self.stream.write(before + as_json(record, indent=2))  # at once: an interrupt leaves no comma alone
        self.stream.flush()
        self.begun = True

    def close(self) -> None:
        if self.many:
            self.stream.write("\n]\n" if self.begun else "[]\n")
        elif self.begun:
            self.stream.write("\n")
        self.stream.flush()
