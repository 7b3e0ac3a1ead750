"""--where: a condition in SQL on records, evaluated by SQLite in memory.

    where = Where("tokens.new > 100 and error.kind is null")
    where.select(batch)                      # a list of the batch's objects for which it is true

The tables are record, tokens, seconds, memory, error and data, joined by rowid, so that plain SQL names every field. An
authorizer allows one SELECT, these tables and FUNCTIONS, nothing else; a subquery would see a batch and not the file.
Only the columns that the condition names are filled.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from smolcli.errors import UsageError
from smolcli.terminal.words import closest
from smolcli.writers.columns import COLUMNS, Keys, compact_json, value_at

BATCH = 1000  # records evaluated by one statement
MAX_SECONDS = 10.0  # for one batch, which takes some milliseconds
STEPS = 10_000  # of SQLite's virtual machine between two looks at the clock
MAX_COLUMNS = 100  # of data and of keys that other programs added, in one condition
MAX_INTEGER = 2**63 - 1  # of SQLite
FUNCTIONS = frozenset((
    "->", "->>", "abs", "coalesce", "glob", "ifnull", "iif", "instr", "json_array_length", "json_extract", "length",
    "like", "lower", "ltrim", "nullif", "round", "rtrim", "substr", "trim", "typeof", "upper",
))  # fmt: skip
GROUPS = tuple(dict.fromkeys(name.split(".")[0] for name in COLUMNS if "." in name))  # tokens, seconds, error, memory
TABLES: dict[str, tuple[str, ...]] = {
    "record": (*(name for name in COLUMNS if "." not in name), "error"),
    **{group: tuple(name.split(".")[1] for name in COLUMNS if name.startswith(f"{group}.")) for group in GROUPS},
    "data": (" ",),  # a table has at least one column
}
UNKNOWN = re.compile(r"no such column: (.+?)(?: - should this be .*)?")
FORBIDDEN_FUNCTION = re.compile(r"not authorized to use function: (.+)")
KEYWORD = re.compile(r'near "(\w+)": syntax error')
FORBIDDEN = re.compile(r"not authorized|access to .* is prohibited")
TEXTS = re.compile(r"'(?:[^']|'')*'|\.\s*\"[^\"]*\"")  # 'text' and the name in data."name"
EXAMPLE = "as 'tokens.new > 100 and error.kind is null'"


class Where:
    """A condition. Raises UsageError if it is not one that can be evaluated.

    `wanted` has the names in it that are no fields of every record, with their keys: a file should hold them.
    """

    def __init__(self, condition: str) -> None:
        self.wanted: dict[str, Keys] = {}
        self._condition = condition
        self._used: set[tuple[str, str]] = set()  # table and column
        self._selects = 0
        self._is_checked = False  # whether what is executed is the user's
        self._deadline = 0.0
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.set_authorizer(self._authorize)
        self._database.set_progress_handler(self._is_too_late, STEPS)
        for table, columns in TABLES.items():
            self._database.execute(f"CREATE TABLE {table} ({', '.join(map(_quoted, columns))})")
        joins = " ".join(f"LEFT JOIN {table} ON {table}.rowid = record.rowid" for table in TABLES if table != "record")
        self._select = f"SELECT record.rowid, (\n{condition}\n) IS TRUE FROM record {joins}"
        self._compile()

    def select(self, batch: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records for which the condition is true. Raises UsageError if it cannot be evaluated."""
        for table in TABLES:
            columns = sorted(column for used, column in self._used if used == table)
            if columns or table == "record":
                names = ", ".join(("rowid", *map(_quoted, columns)))
                values = ", ".join("?" * (1 + len(columns)))
                rows = (
                    (number, *(_sql_value(_value(fields, table, column)) for column in columns))
                    for number, fields in enumerate(batch)
                )
                self._database.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)
        chosen = {number for number, is_true in self._execute() if is_true}
        for table in TABLES:
            self._database.execute(f"DELETE FROM {table}")
        return [fields for number, fields in enumerate(batch) if number in chosen]

    def _compile(self) -> None:
        """Compile the condition, adding a column for each name in it that is none yet."""
        if '"' in TEXTS.sub("", self._condition):  # SQLite would take it for a text where it is no name
            advice = """write text in single ones: 'a cat', and a name with its table: record."full name\""""
            raise self._wrong('text in "double quotes" is a name in SQL', advice)
        while True:
            try:
                self._execute()
                return
            except _UnknownColumn as error:
                self._add(error.name)

    def _add(self, name: str) -> None:
        """Add a column of `data`, or of keys that others added. Raises UsageError for any other name."""
        before, dot, column = name.partition(".")
        table, column = (before.lower(), column) if dot else ("record", name)
        if name in self.wanted or len(self.wanted) == MAX_COLUMNS:  # SQL has no names of three parts
            raise self._wrong(f"{name} is no name in SQL", f'write {table}."{column}"')
        if column.lower() == "rowid":  # the condition closes the brackets around it
            raise self._wrong("it is more than one condition", f"write one, {EXAMPLE}")
        if table not in ("record", "data") or name.lower() in TABLES:
            parts = (other for other in COLUMNS if other.startswith(f"{name.lower()}."))
            guess = closest(name, COLUMNS) or next(parts, None)
            advice = f"did you mean {guess}?" if guess else f"the fields are {', '.join(COLUMNS)}, data.KEY"
            raise self._wrong(f"{name} is no field of a record", advice)
        self.wanted[name] = (column,) if table == "record" else ("data", column)
        self._is_checked = False
        self._database.execute(f"ALTER TABLE {table} ADD COLUMN {_quoted(column)}")

    def _execute(self) -> list[tuple[int, int]]:
        """Evaluate the condition on the rows of the tables: their numbers, and 1 where it is true, else 0."""
        self._is_checked, self._selects, self._deadline = True, 0, time.monotonic() + MAX_SECONDS
        try:
            return self._database.execute(self._select).fetchall()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise self._explained(str(error)) from None
        finally:
            self._is_checked = False

    def _authorize(self, action: int, first: str | None, second: str | None, *_: object) -> int:
        """Allow what a condition needs; sqlite3.h describes the actions and their arguments."""
        if not self._is_checked:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_SELECT:
            self._selects += 1
            is_allowed = self._selects == 1
        elif action == sqlite3.SQLITE_READ:
            is_allowed = first in TABLES
            if is_allowed and second and second.lower() != "rowid":
                self._used.add((str(first), second))
        else:
            is_allowed = action == sqlite3.SQLITE_FUNCTION and second in FUNCTIONS
        return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY

    def _is_too_late(self) -> bool:
        return self._is_checked and time.monotonic() > self._deadline

    def _explained(self, message: str) -> Exception:
        """Return the error for a message of SQLite, in words that say what to do."""
        if unknown := UNKNOWN.fullmatch(message):
            return _UnknownColumn(unknown[1])
        if function := FORBIDDEN_FUNCTION.fullmatch(message):
            allowed = ", ".join(sorted(filter(str.isidentifier, FUNCTIONS)))
            return self._wrong(f"the function {function[1]} is not allowed", f"there are {allowed}")
        keyword = KEYWORD.fullmatch(message)
        if keyword and re.search(rf"\.\s*{keyword[1]}\b", self._condition):
            return self._wrong(f"{keyword[1]} is a word of SQL", f'as the name of a field write data."{keyword[1]}"')
        if FORBIDDEN.fullmatch(message):
            message = "only fields of records can be named, and a subquery is not allowed"
        elif message == "interrupted":
            message = "it takes too long"
        return self._wrong(message, f"write a condition of SQL, {EXAMPLE}")

    @staticmethod
    def _wrong(message: str, advice: str) -> UsageError:
        return UsageError(f"--where: {message}", advice)


class _UnknownColumn(Exception):
    """A name in the condition that no table has."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def data_value(data: Any, column: str) -> Any:
    """Return the value of `data` under a key, or under keys with dots between them."""
    value = value_at(data, (column,))
    return value_at(data, tuple(column.split("."))) if value is None else value


def _value(fields: dict[str, Any], table: str, column: str) -> Any:
    if table == "data":
        return data_value(fields.get("data"), column)
    return (fields if table == "record" else fields.get(table) or {}).get(column)


def _sql_value(value: Any) -> str | int | float | None:
    """Return a JSON value as SQLite stores it: true is 1, an object or a list its JSON."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, (list, tuple, dict)):
        return compact_json(value)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return float(str(value))  # infinite where float(value) raises OverflowError
    if isinstance(value, int):
        return value
    return None if value is None else float(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
