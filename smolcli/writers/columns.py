"""A record as columns of a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from typing import Any, get_args, get_type_hints

from smolcli.types import Record

Cell = str | int | float


Stretch = tuple[float, float, str]  # of a video: its first second, its last, what happens


def _columns() -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(Record).items():
        nested = next((each for each in (hint, *get_args(hint)) if is_dataclass(each)), None)
        if nested is None:
            yield name, hint
        else:
            yield from ((f"{name}.{inner}", kind) for inner, kind in get_type_hints(nested).items())


COLUMNS: dict[str, Any] = dict(_columns())  # the name of every column, nested fields with a dot, to its type


def compact(data: Any) -> str:
    """`data` as JSON on one line without spaces; what is not UTF-8 in it is escaped."""
    line = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def words(value: Any) -> str:
    """A text, or an object as JSON; without what no stream or player takes: half of a surrogate pair, a NUL."""
    text = value if isinstance(value, str) else compact(value)
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def stretches(record: Record) -> list[Stretch]:
    """The segments of a video's answer, in order; none of another record or a failed one."""
    if record.task != "video-summarize" or record.error is not None:
        return []
    return [(each["start"], each["end"], words(each["text"])) for each in record.data["segments"]]


def cells(record: Record) -> dict[str, Cell]:
    """A value for each of COLUMNS, "" where the record has none; times in seconds, rounded to the microsecond."""
    values: dict[str, Any] = asdict(record)
    found: dict[str, Cell] = {}
    for column in COLUMNS:
        outer, _, inner = column.partition(".")
        value = values[outer]
        if inner and value is not None:
            value = value[inner]
        if column == "data" and value is not None:
            value = compact(value)
        if column == "notices":
            value = "; ".join(value)
        found[column] = "" if value is None else round(value, 6) if isinstance(value, float) else value
    return found
