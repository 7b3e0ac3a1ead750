"""What a results file holds already: --resume goes on where the run that wrote it ended, whatever ended it.

    results = Results(Path("out.jsonl"), identity)
    results.mend()                                      # a torn last line
    results.read()
    results.state("a.png")                              # by its path and stamp, unread
    results.answer(id)                                  # the record of the same content under another path
    results.add(record, offset)

An index in a private database of SQLite, which goes to disk when it is large: memory does not grow with the file.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from smolcli.errors import OutputError, UsageError
from smolcli.identity import Identity
from smolcli.inputs.words import stamp
from smolcli.types import Fault, Record, Seconds, Tokens
from smolcli.writers.destination import alone

# The beginning of a line as writers/json_lines.py makes it; any other line is read as JSON.
_BEGINNING = re.compile(
    rb'\{"path": "((?:[^"\\]|\\.)*)", "id": "([0-9a-f]*)", "sha256": "([0-9a-f]*)", "stamp": "([^"\\]*)", '
)
_NO_ERROR = b'"error": null}\n'
_INDEXED_AT_ONCE = 10_000
State = Literal["new", "done", "failed"]  # of an input, by the records there are
_TAIL = 2**16


class Results:
    """The records of one job in a JSON Lines file, those of other jobs in it left alone."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path, self._identity = path, identity
        self._lock = threading.Lock()  # inputs are looked up in another thread than records are added
        self._index = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._index.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;"
            "CREATE TABLE done (path BLOB, id BLOB, stamp TEXT, at INTEGER)"
        )
        self.count = 0

    def mend(self, retry_failed: bool = False) -> int:
        """Ends the file with its last whole line; how many bytes of a torn one were cut off.

        `retry_failed` also takes the failed records of this job out of it. Raises UsageError for a file that holds
        something else than records or that another run writes to, OutputError where it cannot be mended.
        """
        if not self._path.exists():
            return 0
        try:
            with self._path.open("r+b") as file:
                alone(file.fileno(), self._path)
                torn = _mend(file)
                if retry_failed:
                    self._drop_failed()
                return torn
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be resumed ({error.strerror})", "check its rights") from error

    def read(self) -> None:
        """Learns what the file holds. Raises UsageError for a file that holds something else than records."""
        rows: list[tuple[bytes, bytes, str, int]] = []
        with self._path.open("rb", buffering=2**20) as file:
            for row in self._rows(file):
                rows.append(row)
                if len(rows) == _INDEXED_AT_ONCE:
                    self._insert(rows)
        self._insert(rows)
        self._index.executescript("CREATE INDEX paths ON done (path); CREATE INDEX ids ON done (id)")

    def state(self, path: str) -> State:
        """Of the file `path`, unread: whether it has a record and is, by its stamp, what it was then."""
        with self._lock:
            found = self._index.execute("SELECT stamp, at FROM done WHERE path = ?", (os.fsencode(path),)).fetchall()
        mark = _stamp_of(path) if found else ""
        return _state([at for stamp, at in found if stamp == mark])

    def state_of(self, path: str, id: str) -> State:
        """The same once it was read: whether there is a record of this path and id."""
        query = "SELECT at FROM done WHERE path = ? AND id = ?"
        with self._lock:
            return _state([at for (at,) in self._index.execute(query, (os.fsencode(path), bytes.fromhex(id)))])

    def answer(self, id: str) -> Record | None:
        """The record of an answer with this id, under whatever path."""
        with self._lock:
            found = self._index.execute("SELECT at FROM done WHERE id = ? AND at >= 0", (bytes.fromhex(id),)).fetchone()
        if found is None:
            return None
        with self._path.open("rb") as file:
            file.seek(found[0])
            return as_record(json.loads(file.readline()))

    def add(self, record: Record, at: int) -> None:
        """A record that was written at the byte `at` of the file."""
        at = -1 if record.error else at
        row = os.fsencode(record.path), bytes.fromhex(record.id), record.stamp, at
        with self._lock:
            self._index.execute("INSERT INTO done VALUES (?, ?, ?, ?)", row)

    def close(self) -> None:
        """Lets the index go."""
        self._index.close()

    def _insert(self, rows: list[tuple[bytes, bytes, str, int]]) -> None:
        self._index.execute("BEGIN")
        self._index.executemany("INSERT INTO done VALUES (?, ?, ?, ?)", rows)
        self._index.execute("COMMIT")
        self.count += len(rows)
        rows.clear()

    def _rows(self, file: IO[bytes]) -> Iterator[tuple[bytes, bytes, str, int]]:
        """The path, id, stamp and place of each record of this job; the place of a failed one is -1."""
        id_of, at = self._identity.id_of, 0
        for line in file:
            path, id, sha256, mark, failed = _parts(line, self._path)
            if id == id_of(sha256):
                yield path, bytes.fromhex(id), mark, -1 if failed else at
            at += len(line)

    def _drop_failed(self) -> None:
        """Writes the file anew without the failed records of this job; whole before it takes the old one's place."""
        fresh = self._path.with_name(f".{self._path.name}.smolcli")
        with self._path.open("rb") as old, fresh.open("wb") as new:
            for line in old:
                _, id, sha256, _, failed = _parts(line, self._path)
                if not (failed and id == self._identity.id_of(sha256)):
                    new.write(line)
        os.replace(fresh, self._path)


def _state(places: list[int]) -> State:
    if not places:
        return "new"
    return "done" if max(places) >= 0 else "failed"


def as_record(fields: dict[str, Any]) -> Record:
    """A record from its JSON."""
    fields = dict(fields)
    error = fields.pop("error")
    tokens, seconds = Tokens(**fields.pop("tokens")), Seconds(**fields.pop("seconds"))
    return Record(**fields, tokens=tokens, seconds=seconds, error=Fault(**error) if error else None)


def _parts(line: bytes, source: Path) -> tuple[bytes, str, str, str, bool]:
    """Path, id, SHA-256, stamp of a line's record, and whether it failed."""
    match = _BEGINNING.match(line)
    if match and b"\\" not in match[1]:
        return match[1], match[2].decode(), match[3].decode(), match[4].decode(), not line.endswith(_NO_ERROR)
    try:
        fields = json.loads(line)
        path, id = os.fsencode(fields["path"]), fields["id"]
        return path, id, fields.get("sha256", ""), fields.get("stamp", ""), fields["error"] is not None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{source}: holds something else than records", "choose another file with -o") from None


def _mend(file: IO[bytes]) -> int:
    """Ends a file with its last whole line; how many bytes of a torn one were cut off."""
    size = start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        start = max(0, start - _TAIL)
        file.seek(start)
        tail = file.read(size - start)
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last:
        return 0
    try:
        json.loads(last)
    except ValueError:
        file.truncate(size - len(last))
        return len(last)
    file.seek(0, os.SEEK_END)
    file.write(b"\n")  # whole but for its end
    return 0


def _stamp_of(path: str) -> str:
    """The stamp of a file as it is; empty where there is none, as of what could not be opened."""
    try:
        return stamp(os.stat(path))
    except (OSError, ValueError):
        return ""
