"""smolcli/writers/table_rows.py: tables of pages as rows, read back by Python's csv."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from smolcli.types import Record
from smolcli.writers.table_rows import CsvTables, TsvTables
from tests.helpers import BAD, RECORD

ROWS = [["Fruit", "a,b", ""], ['"q"', "=1+1", "two\nlines"]]
TABLES = {"tables": [{"page": 1, "box": [0, 0, 1, 1], "rows": ROWS}, {"page": 3, "box": [0, 0, 1, 1], "rows": [[""]]}]}


def written(writer: Any, *records: Record, has_many: bool = False, **options: Any) -> str:
    stream = io.StringIO()
    with writer(stream, has_many=has_many, **options) as opened:
        for record in records:
            opened.write(record)
    return stream.getvalue()


def test_one_input_has_its_rows_alone() -> None:
    text = written(CsvTables, replace(RECORD, data=TABLES))
    assert list(csv.reader(io.StringIO(text, newline=""))) == [*ROWS, [], [""]]


def test_rows_of_several_inputs_say_whose_they_are() -> None:
    records = [replace(RECORD, path=path, data=TABLES) for path in ("a,1.pdf", "b.pdf")]
    text = written(CsvTables, *records, BAD, replace(RECORD, data=None), has_many=True)
    first = [*(["a,1.pdf", "1", "1", *row] for row in ROWS), ["a,1.pdf", "3", "2", ""]]
    second = [["b.pdf", *row[1:]] for row in first]
    assert list(csv.reader(io.StringIO(text, newline=""))) == [*first, *second]


def test_tsv_has_one_line_a_row() -> None:
    text = written(TsvTables, replace(RECORD, data=TABLES))
    assert text.splitlines() == ["Fruit\ta,b\t", '"q"\t=1+1\ttwo\\nlines', "", ""]


def test_for_spreadsheets() -> None:
    text = written(CsvTables, replace(RECORD, data=TABLES), bom=True, safe_csv=True)
    assert text.startswith("\ufeffFruit,") and text.count("\ufeff") == 1
    assert ",'=1+1," in text


@pytest.mark.parametrize("data", [None, [], {}, {"tables": []}, {"pages": []}])
def test_nothing_is_written_where_there_are_no_tables(data: Any) -> None:
    assert written(CsvTables, replace(RECORD, data=data)) == ""
