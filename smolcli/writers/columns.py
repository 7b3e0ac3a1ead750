"""A record as a row of a table, and as the segments of a video."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from typing import Any, NamedTuple, get_args, get_type_hints

from smolcli.types import Record

# Characters that XML 1.0 does not allow, and so no metadata of a picture.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Cell = str | int | float


class Segment(NamedTuple):
    """A part of a video: its first and last second, and what happens in it."""

    start: float
    end: float
    text: str


def _columns() -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(Record).items():
        nested = next((candidate for candidate in (hint, *get_args(hint)) if is_dataclass(candidate)), None)
        if nested is None:
            yield name, hint
        else:
            yield from ((f"{name}.{inner}", kind) for inner, kind in get_type_hints(nested).items())


COLUMNS: dict[str, Any] = dict(_columns())  # the name of every column, nested fields with a dot, to its type
# Columns that were added later come last, so that they do not move the others.
for _name in ("notices", "memory.parent", "memory.engine", "memory.gpu", "blank", "embedded"):
    COLUMNS[_name] = COLUMNS.pop(_name)


def compact_json(data: Any) -> str:
    """Return `data` as JSON on one line without spaces; what cannot be encoded as UTF-8 is escaped."""
    line = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def clean_text(value: Any) -> str:
    """Return a string, or another value as JSON, without NUL and lone surrogates, which no stream or player accepts."""
    text = value if isinstance(value, str) else compact_json(value)
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def video_segments(record: Record) -> list[Segment]:
    """Return the segments of a video's answer, in order; an empty list for any other record and a failed one."""
    if record.task != "video-summarize" or record.error is not None:
        return []
    return [Segment(row["start"], row["end"], clean_text(row["text"])) for row in record.data["segments"]]


def photo_texts(record: Record) -> tuple[str | None, list[str]]:
    """Return the description and the keywords that a record gives a picture, without characters XML cannot hold.

    A list of tags is no description. Of a picture without text, or with a failed record, there is neither.
    """
    if record.error is not None:
        return None, []
    if isinstance(record.data, list) and record.data and all(isinstance(tag, str) for tag in record.data):
        return None, [tag for tag in (NOT_XML.sub("", tag) for tag in record.data) if tag.strip()]
    text = NOT_XML.sub("", record.text)
    return text if text.strip() else None, []


def row_of(record: Record) -> dict[str, Cell]:
    """Return a value for each of COLUMNS, "" if the record has none; seconds are rounded to the microsecond."""
    values: dict[str, Any] = asdict(record)
    row: dict[str, Cell] = {}
    for column in COLUMNS:
        outer, _, inner = column.partition(".")
        value = values[outer]
        if inner and value is not None:
            value = value[inner]
        if column == "data" and value is not None:
            value = compact_json(value)
        if column == "notices":
            value = "; ".join(value)
        if isinstance(value, bool):
            value = compact_json(value)
        row[column] = "" if value is None else round(value, 6) if isinstance(value, float) else value
    return row
