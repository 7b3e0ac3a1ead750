"""The formats json and jsonl; docs/records.md describes the fields."""

from __future__ import annotations

import json
from typing import Any

from smolcli.types import Record
from smolcli.writers.base import Writer


def as_json(record: Record, indent: int | None = None) -> str:
    """Return the record as a JSON object; seconds are rounded to the microsecond."""
    fields: dict[str, Any] = {**vars(record), "tokens": vars(record.tokens)}  # asdict takes ten times as long
    fields["seconds"] = {name: round(value, 6) for name, value in vars(record.seconds).items()}
    fields["memory"] = vars(record.memory)
    del fields["error"]
    fields["error"] = record.error and vars(record.error)  # last: records/resume.py knows an answer by it
    return as_line(fields, indent)


def as_line(fields: dict[str, Any], indent: int | None = None) -> str:
    """Return `fields` as JSON; what cannot be encoded as UTF-8 is escaped as Python escapes it."""
    line = json.dumps(fields, ensure_ascii=False, indent=indent)
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


class JsonLines(Writer):
    """One record a line."""

    def write(self, record: Record) -> None:
        self.stream.write(as_json(record) + "\n")
        self.stream.flush()


class Json(Writer):
    """One object for one input, an array of objects for several."""

    def write(self, record: Record) -> None:
        before = (",\n" if self.has_written else "[\n") if self.has_many else ""
        # In one call: an interrupt must not leave a comma without a record after it.
        self.stream.write(before + as_json(record, indent=2))
        self.stream.flush()
        self.has_written = True

    def close(self) -> None:
        if self.has_many:
            self.stream.write("\n]\n" if self.has_written else "[]\n")
        elif self.has_written:
            self.stream.write("\n")
        self.stream.flush()
