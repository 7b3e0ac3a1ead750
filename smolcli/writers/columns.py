"""A record as a row of a table, as an object with chosen fields, and as the segments of a video.

"tokens.new" -> Keys ("tokens", "new") -> value of a record -> Cell of a table
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, NamedTuple, get_args, get_type_hints

from smolcli.types import Record, StoredRecord

# Characters that XML 1.0 does not allow, and so no metadata of a picture.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Cell = str | int | float
Keys = tuple[str, ...]  # where a value stands in a record, from the outside in: ("data", "items", "0")

PATH_FIELDS = ("name", "stem", "suffix", "folder")  # parts of a record's path, which are not stored in it


class Column(NamedTuple):
    """A field that is written: its name in a header, and where its value stands in a record."""

    name: str
    keys: Keys


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
for _name in (
    "notices", "memory.parent", "memory.engine", "memory.gpu", "blank", "embedded", "paths", "confidence", "page",
    "is_last_page",
):  # fmt: skip
    COLUMNS[_name] = COLUMNS.pop(_name)
FIXED = tuple(Column(_name, tuple(_name.split("."))) for _name in COLUMNS)  # what every record has


def table_columns(data_columns: Iterable[tuple[str, Keys]]) -> tuple[Column, ...]:
    """Return the columns of a table: those of `data_columns` (names, and keys in `data`), and then the FIXED ones.

    A name that another column has already gets `data.` before it.
    """
    taken = {column.name for column in FIXED}
    columns = []
    for name, keys in data_columns:
        while name in taken:
            name = f"data.{name}"
        taken.add(name)
        columns.append(Column(name, ("data", *keys)))
    return (*columns, *FIXED)


def with_parts(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Return the columns, with those of its parts in place of a field as `tokens`."""
    parts: dict[Keys, list[Column]] = {}
    for column in FIXED:
        parts.setdefault(column.keys[:1], []).append(column)
    return tuple(part for column in columns for part in parts.get(column.keys, [column]))


def outermost(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns without those that are a part of another one."""
    chosen = {column.keys for column in columns}
    return tuple(
        column for column in columns if not any(column.keys[:length] in chosen for length in range(len(column.keys)))
    )


def fields_of(record: Record) -> dict[str, Any]:
    """Return the record as a JSON object: seconds are rounded to the microsecond, the confidence to four digits.

    A record that was read from a file is the object that stood there, with keys that smolcli does not know.
    """
    if isinstance(record, StoredRecord):
        return record.stored
    fields: dict[str, Any] = {**vars(record), "tokens": vars(record.tokens)}  # asdict takes ten times as long
    fields["seconds"] = {name: round(value, 6) for name, value in vars(record.seconds).items()}
    fields["memory"] = vars(record.memory)
    if record.confidence is not None:
        fields["confidence"] = round(record.confidence, 4)
    del fields["error"]
    fields["error"] = record.error and vars(record.error)  # last: records/resume.py knows an answer by it
    return fields


def title_of(record: Record) -> str:
    """Return what a record is about, as a heading: its path, and the page if it is about one."""
    return record.path if record.page is None else f"{record.path}, page {record.page}"


def value_at(fields: Any, keys: Keys) -> Any:
    """Return the value under `keys` of a JSON object, or None if there is none.

    In a list a key is a question, for its answer, or the index of an element in digits.
    """
    value = fields
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else _element(value, key)
    return value


def _element(values: Any, key: str) -> Any:
    """Return the answer to the question `key` of a list, else the element at that index, else None."""
    if not isinstance(values, list):
        return None
    for value in values:
        if isinstance(value, dict) and value.get("question") == key:
            return value.get("answer")
    return values[int(key)] if key.isdecimal() and int(key) < len(values) else None


def cell_at(fields: Mapping[str, Any], keys: Keys) -> Cell:
    """Return the value under `keys` as a cell: "" for none, objects and lists as JSON, notices joined by semicolons."""
    value = fields.get(keys[0]) if len(keys) == 1 else value_at(fields, keys)
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value.isascii() else _without_surrogates(value) if keys[0] == "data" else writable(value)
    if type(value) in (int, float):  # and not bool, which is an int too
        return value  # type: ignore[no-any-return]
    return "; ".join(value) if keys == ("notices",) else compact_json(value)


def path_fields(path: str) -> dict[str, Cell]:
    """Return the PATH_FIELDS of a path, or of a URL without its query; the folder of a bare name is "."."""
    if path.lower().startswith(("http://", "https://")):
        path = re.split("[?#]", path, maxsplit=1)[0]
    folder, name = os.path.split(path)
    return dict(zip(PATH_FIELDS, (name, *os.path.splitext(name), folder or "."), strict=True))


def writable(text: str) -> str:
    """Return `text` if a stream can write it, with lone surrogates only for bytes of a path, else without any."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return _without_surrogates(text)
    return text


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def compact_json(data: Any) -> str:
    """Return `data` as JSON on one line without spaces; what cannot be encoded as UTF-8 is escaped."""
    line = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def clean_text(value: Any) -> str:
    """Return a string, or another value as JSON, without NUL and lone surrogates, which no stream or player accepts."""
    text = value if isinstance(value, str) else compact_json(value)
    return _without_surrogates(text).replace("\0", "")


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
