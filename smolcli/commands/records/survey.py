"""Reads records once before they are written: which fields their data has, and whether those that are named exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from smolcli.errors import UsageError
from smolcli.records.where import data_value
from smolcli.terminal.words import closest
from smolcli.writers.columns import COLUMNS, Keys, value_at
from smolcli.writers.fields import GROUPS

MAX_COLUMNS = 1000  # of data in a table
NAMED = 1000  # records whose names of fields are kept, for a guess


def data_columns(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, Keys]]:
    """Return the columns of a table for the data of all `records`: their names, and their keys in data.

    They are those that a run with -f csv has: a field of --schema, of nested objects their fields, or a question of
    --also. At most MAX_COLUMNS are returned.
    """
    columns: dict[Keys, str] = {}
    for fields in records:
        if len(columns) < MAX_COLUMNS:
            columns.update((keys, name) for name, keys in _columns_of(fields) if keys not in columns)
    groups = {
        keys[:length] for keys in columns for length in range(len(keys))
    }  # null in some records, objects in others
    return [(name, keys) for keys, name in islice(columns.items(), MAX_COLUMNS) if keys not in groups]


def _columns_of(fields: Mapping[str, Any]) -> Iterator[tuple[str, Keys]]:
    data = fields.get("data")
    start: Keys = ()
    if fields.get("task") == "video-summarize":
        data, start = value_at(data, ("summary",)), ("summary",)
    if isinstance(data, dict):
        yield from ((".".join(keys), (*start, *keys)) for keys in _leaves(data) if keys)
    elif isinstance(data, list):
        for row in data:
            if isinstance(row, dict) and isinstance(row.get("question"), str):
                yield from ((".".join(keys), keys) for keys in _leaves(row.get("answer"), (row["question"],)))


def _leaves(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, key))
    else:
        yield keys


def check_names(records: Iterable[Mapping[str, Any]], wanted: Mapping[str, Keys]) -> None:
    """Read `records` until each of the `wanted` names, with the keys it stands for, is in one of them.

    Raises UsageError with one guess for a name that is in none, unless there are no records.
    """
    missing = dict(wanted)
    seen: dict[str, None] = dict.fromkeys(COLUMNS)
    count = 0
    for count, fields in enumerate(records, 1):
        missing = {name: keys for name, keys in missing.items() if not _has(fields, keys)}
        if not missing:
            return
        if count <= NAMED:
            seen.update(dict.fromkeys(fields))
            seen.update(dict.fromkeys(f"data.{'.'.join(keys)}" for keys in _leaves(fields.get("data")) if keys))
    if count:
        name = next(iter(missing))
        guess = f"data.{name}" if f"data.{name}" in seen else closest(name, seen)
        others = ", ".join(name for name in seen if name not in (*COLUMNS, *GROUPS))
        listed = f"the fields beside those of every record are {others}" if others else "see `smolcli help fields`"
        advice = f"did you mean {guess}?" if guess else listed
        raise UsageError(f"no record has {name}", advice)


def _has(fields: Mapping[str, Any], keys: Keys) -> bool:
    """Whether a record has these keys, also where their value is null."""
    if len(keys) == 1:
        return keys[0] in fields
    data, names = fields.get("data"), ".".join(keys[1:])
    *outer, last = names.split(".")
    parent = value_at(data, tuple(outer))
    return (
        (isinstance(data, dict) and names in data)
        or (isinstance(parent, dict) and last in parent)
        or data_value(data, names) is not None
    )
