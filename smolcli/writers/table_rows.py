"""The formats csv and tsv of ocr --layout tables: the rows of the tables that were read, and nothing else.

    data: {"tables": [{"page": 1, "rows": [["Fruit", "kg"], ["Apples", "3"]]}]}  ->  Fruit,kg / Apples,3

Of one input the rows alone, with an empty line between two tables. Of several, each row begins with the path, the page
and the number of its table in the file, so that rows of different tables can be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from smolcli.types import Record
from smolcli.writers.columns import Cell, clean_text, writable
from smolcli.writers.table import Csv, Tsv


def table_rows(record: Record, has_many: bool) -> Iterator[list[Cell]]:
    """Yield the rows of the tables of a record; an empty one is between two tables of a single input."""
    tables = record.data.get("tables", []) if isinstance(record.data, dict) else []
    for number, table in enumerate(tables, 1):
        if number > 1 and not has_many:
            yield []
        first: list[Cell] = [writable(record.path), table["page"], number] if has_many else []
        for row in table["rows"]:
            yield first + [clean_text(cell) for cell in row]


class CsvTables(Csv):
    """Rows of tables, quoted as Csv does it; failed records have none."""

    def write(self, record: Record) -> None:
        for row in table_rows(record, self.has_many):
            self.stream.write(self._start() + self._line(self._safe(row)))
        self.has_written = True
        self.stream.flush()

    def close(self) -> None: ...

    def _start(self) -> str:
        """Return the byte order mark before the first row."""
        is_first, self.has_written = not self.has_written, True
        return self._mark if is_first else ""


class TsvTables(CsvTables, Tsv):
    """Rows of tables between tabs, escaped as Tsv does it."""
