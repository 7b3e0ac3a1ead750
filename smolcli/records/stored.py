"""Reads the records that runs wrote as JSON Lines, whatever other programs did to the files meanwhile.

    with RecordFiles(["results.jsonl", "-"]) as files:
        for fields in files.read():             # one JSON object a record
            record = stored_record(fields)

One line is in memory at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from dataclasses import fields as fields_of_class
from typing import IO, Any, TypeVar, cast

from smolcli.errors import ErrorKind, InputError
from smolcli.types import Fault, Memory, Record, Seconds, StoredRecord, Tokens
from smolcli.writers.columns import writable

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NO_TEXT = b"\0 \t\r\n"  # a power cut may leave zeros, an editor empty lines
PARTS = {"tokens": Tokens, "seconds": Seconds, "memory": Memory}
PLAIN_FIELDS = tuple(
    field.name for field in fields_of_class(Record) if field.name not in (*PARTS, "notices", "error", "text", "paths")
)
DEFAULTS: dict[str, Any] = {field.name: "" for field in fields_of_class(Record) if field.default is MISSING} | {
    "data": None
}
_Part = TypeVar("_Part")


@dataclass
class OtherLines:
    """What a file holds beside records: how many lines, the number of the first one, and bytes of a torn last line."""

    count: int = 0
    first: int = 0
    torn_bytes: int = 0


class RecordFiles:
    """The records of several files; `-` is standard input, which can be read only once unless it is kept.

    `others` says, by the name of a file, what it holds beside records, as far as it has been read. Raises InputError
    for a file that cannot be read.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._kept: dict[str, IO[bytes]] = {}
        self._stack = contextlib.ExitStack()
        self.others: dict[str, OtherLines] = {}
        for name in names:
            if name != "-" and _can_be_read_again(name):
                self._open(name).close()

    def __enter__(self) -> RecordFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep(self) -> None:
        """Copy pipes into temporary files, once, so that all can be read again. Raises OSError."""
        for name in self._names:
            if name not in self._kept and (name == "-" or not _can_be_read_again(name)):
                copy = self._stack.enter_context(tempfile.TemporaryFile(prefix="smolcli-"))
                with self._open(name) as pipe:
                    shutil.copyfileobj(pipe, copy, 2**20)
                self._kept[name] = copy

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the JSON object of each record, in the order of the files and their lines."""
        for name in self._names:
            self.others[name] = OtherLines()
            if name in self._kept:
                self._kept[name].seek(0)
                yield from _read_lines(self._kept[name], self.others[name])
            else:
                with self._open(name) as file:
                    yield from _read_lines(file, self.others[name])

    @staticmethod
    def _open(name: str) -> IO[bytes]:
        try:
            return open(sys.stdin.fileno() if name == "-" else name, "rb", buffering=2**20, closefd=name != "-")
        except FileNotFoundError:
            raise InputError(f"{name}: no such file", "check the path", kind=ErrorKind.MISSING) from None
        except IsADirectoryError:
            raise InputError(f"{name}: is a directory", "name the file of a run with -o FILE.jsonl") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{name}: cannot be read ({error})", "check its rights") from error


def _can_be_read_again(name: str) -> bool:
    """Whether a path is no pipe or device; also True for one that is not there, which shows when it is opened."""
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _read_lines(file: IO[bytes], others: OtherLines) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        if not text.strip(NO_TEXT):
            continue
        fields = _parse(text)
        if fields is not None:
            yield fields
        elif not line.endswith(b"\n") and text.startswith(b"{"):
            others.torn_bytes = len(line)
        else:
            others.count += 1
            others.first = others.first or number


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line, or None if it is no record."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) and is_record(fields) else None


def is_record(fields: dict[str, Any]) -> bool:
    """Whether a JSON object is a record, perhaps of an earlier version, with fewer fields, or with keys of others."""
    error = fields.get("error")
    if not isinstance(fields.get("path"), str) or not isinstance(fields.get("text", ""), str):
        return False
    if error is None:
        is_answer = "text" in fields and _has_data_of_its_task(fields)
    else:
        is_answer = isinstance(error, dict) and all(isinstance(error.get(key), str) for key in ("kind", "message"))
    notices = fields.get("notices") or []
    if not is_answer or not _is_list_of_texts(notices) or not _is_list_of_texts(fields.get("paths") or []):
        return False
    return all(isinstance(fields.get(name) or {}, dict) for name in PARTS)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def _has_data_of_its_task(fields: dict[str, Any]) -> bool:
    """Whether the answer about a video has segments, which sidecars and Markdown are made of; True for other tasks."""
    if fields.get("task") != "video-summarize":
        return True
    data: Any = fields.get("data")
    segments = data.get("segments") if isinstance(data, dict) else None
    return (
        isinstance(segments, list)
        and "summary" in data
        and all(isinstance(part, dict) and {"start", "end", "text"} <= part.keys() for part in segments)
    )


def stored_record(fields: dict[str, Any]) -> StoredRecord:
    """Make a record of a JSON object for which `is_record` holds, and which is written again as it is."""
    return StoredRecord(**vars(as_record(fields)), stored=fields)


def as_record(fields: dict[str, Any]) -> Record:
    """Make a record of a JSON object for which `is_record` holds.

    What it lacks has its default, and keys that a record does not have are left out.
    """
    values = {**DEFAULTS, **{name: fields[name] for name in PLAIN_FIELDS if name in fields}}
    values |= {name: _part(part, fields.get(name)) for name, part in PARTS.items()}
    values["text"] = writable(fields.get("text", ""))
    values["notices"] = tuple(fields.get("notices") or ())
    values["paths"] = tuple(fields["paths"]) if fields.get("paths") else None
    values["error"] = _fault(fields.get("error"))
    return Record(**values)


def _part(part: type[_Part], values: dict[str, Any] | None) -> _Part:
    known = part.__dataclass_fields__  # type: ignore[attr-defined]
    return part(**{name: value for name, value in (values or {}).items() if name in known})


def _fault(error: dict[str, str] | None) -> Fault | None:
    """Make the error of a record; a kind that a later version has added stays as it is."""
    if error is None:
        return None
    try:
        kind = ErrorKind(error["kind"])
    except ValueError:
        kind = cast(ErrorKind, error["kind"])
    return Fault(kind, error["message"])


def describe(name: str, others: OtherLines) -> str:
    """Say in one line how many lines of a file are no records."""
    if others.count == 1:
        return f"{name}: line {others.first} is no record"
    return f"{name}: {others.count:,} lines are no records, the first is line {others.first:,}"
