"""smolcli/writers/table.py: read back by Python's csv, by jq, and by a Markdown parser."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
from dataclasses import fields, replace
from typing import Any

import pytest

from smolcli.errors import ErrorKind
from smolcli.types import Fault, Record
from smolcli.writers.columns import COLUMNS, table_columns
from smolcli.writers.fields import parse_fields
from smolcli.writers.table import Csv, Markdown, Tsv, escape_markdown
from tests.helpers import BAD, LINES, MARKDOWN, RECORD, written

NASTY = replace(RECORD, path='a,"b"\t|.png', text='one,\r"two"\r\n\n\ttab \\n back\\slash ', data={"é": [1, "\ud83d"]})


def written_with(writer: Any, *records: Record, **options: Any) -> str:
    """What a writer with these options writes of the records."""
    stream = io.StringIO()
    with writer(stream, has_many=True, **options) as opened:
        for record in records:
            opened.write(record)
    return stream.getvalue()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_is_read_back_by_pythons_csv() -> None:
    plain, nasty, bad = rows(written(Csv, RECORD, NASTY, BAD))
    assert list(plain) == list(COLUMNS)
    assert (plain["path"], plain["text"], plain["data"]) == ("a.png", "a cat", "")
    assert (plain["tokens.prompt"], plain["tokens.image"], plain["tokens.new"]) == ("5", "3", "2")
    assert (plain["seconds.decode"], plain["seconds.load"]) == ("0.333333", "0.0")
    assert (plain["error.kind"], plain["error.message"]) == ("", "")
    assert (nasty["path"], nasty["text"]) == (NASTY.path, NASTY.text)
    assert nasty["data"] == '{"é":[1,"\\ud83d"]}'
    assert json.loads(nasty["data"]) == NASTY.data
    assert (bad["error.kind"], bad["error.message"]) == ("missing", "no such file; check the path")
    assert "\r" not in written(Csv, RECORD, LINES, BAD)


def test_columns_are_the_fields_in_order_nested_ones_with_a_dot() -> None:
    later = [
        "notices",
        "memory",
        "blank",
        "embedded",
        "paths",
        "confidence",
        "page",
        "is_last_page",
    ]  # added in later versions
    names = [field.name for field in fields(Record) if field.name not in later]
    assert list(dict.fromkeys(column.split(".")[0] for column in COLUMNS)) == [*names, *later]
    assert [column for column in COLUMNS if "." in column] == [
        "tokens.prompt", "tokens.image", "tokens.new",
        "seconds.load", "seconds.media", "seconds.encode", "seconds.prefill", "seconds.decode",
        "error.kind", "error.message", "memory.parent", "memory.engine", "memory.gpu",
    ]  # fmt: skip


def test_the_confidence_is_empty_where_there_is_none() -> None:
    text = written(Csv, replace(RECORD, confidence=0.71131), RECORD, BAD)
    assert [line.split(",")[-3] for line in text.splitlines()] == ["confidence", "0.7113", "", ""]
    chosen = written_with(Csv, replace(RECORD, confidence=1.0), columns=parse_fields("confidence,path"))
    assert chosen == "confidence,path\n1.0,a.png\n"


@pytest.mark.parametrize(("writer", "separator"), [(Csv, ","), (Tsv, "\t")])
def test_the_header_comes_once_also_without_records_unless_the_run_failed(writer: type, separator: str) -> None:
    header = separator.join(COLUMNS) + "\n"
    assert written(writer) == header
    assert written(writer, RECORD, BAD).startswith(header)
    assert written(writer, RECORD, BAD).count("path") == 3  # path and paths in the header, one in the message of BAD
    stream = io.StringIO()
    with pytest.raises(KeyError), writer(stream):
        raise KeyError
    assert stream.getvalue() == ""


@pytest.mark.parametrize("writer", [Csv, Tsv, Markdown])
def test_a_path_that_is_not_utf8_keeps_its_bytes_and_each_row_is_flushed(writer: type) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "surrogateescape", newline="\n")
    writer(stream, has_many=True).write(replace(RECORD, path="\udcff.png"))
    assert b"\xff.png" in raw.getvalue()
    assert raw.getvalue().endswith(b"\n")


def test_tsv_escapes_as_postgresql_and_jq_do() -> None:
    header, line = written(Tsv, NASTY).splitlines()
    row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert row["path"] == 'a,"b"\\t|.png'
    assert row["text"] == r'one,\r"two"\r\n\n\ttab \\n back\\slash '


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_tsv_is_the_same_as_from_jq() -> None:
    records = [replace(RECORD, text=text) for text in (NASTY.text, LINES.text, "\\", "\\\t\\t", "ü🙂")]
    texts = json.dumps([[record.path, record.text] for record in records])
    done = subprocess.run(["jq", "-r", ".[] | @tsv"], input=texts, capture_output=True, text=True, check=True)
    rows_read = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in written(Tsv, *records).split("\n")[1:-1]]
    assert [f"{row['path']}\t{row['text']}" for row in rows_read] == done.stdout.split("\n")[:-1]


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of the only Markdown table in `text`, row by row, as plain text."""
    tokens = MARKDOWN.parse(text)
    assert [token.type for token in tokens if token.level == 0] == ["table_open", "table_close"]
    cells = [
        "".join("\n" if child.type == "html_inline" else child.content for child in token.children or [])
        for token in tokens
        if token.type == "inline"
    ]
    return [cells[start : start + 2] for start in range(0, len(cells), 2)]


def test_markdown_is_a_github_table_of_all_records() -> None:
    text = written(Markdown, RECORD, replace(LINES, text="one\r\n\ntwo | `x|y`"), BAD, has_many=True)
    assert text.startswith("| path | text |\n| --- | --- |\n| a.png | a cat |\n")
    assert table_rows(text) == [
        ["path", "text"], ["a.png", "a cat"], ["a.png", "one\n\ntwo | x|y"],
        ["b.png", "error: no such file; check the path"],
    ]  # fmt: skip
    assert "| *error: no such file; check the path* |" in text
    assert written(Markdown) == "| path | text |\n| --- | --- |\n"


def test_markdown_of_multiline_answers_has_a_heading_each() -> None:
    text = written(Markdown, LINES, BAD, replace(RECORD, path="my_2_scans #"), has_many=True, is_multiline=True)
    assert text == (
        "## a.png\n\none\n\ntwo\n\n## b.png\n\n*error: no such file; check the path*\n\n## my_2_scans \\#\n\na cat\n"
    )
    assert written(Markdown, is_multiline=True) == ""


def test_any_path_is_shown_letter_for_letter_in_a_table_and_in_a_heading() -> None:
    dice = random.Random(5)
    parts = [*"\\`*_[]<>&|~#!-+.(){}:=\"' \n\r\tab1é", "&amp;", "<br>", "**b**", "](u)", "``", " #", "http://h.de"]
    for _ in range(2000):
        name = "".join(dice.choices(parts, k=dice.randrange(1, 7)))
        record, failed = replace(RECORD, path=name), replace(BAD, error=Fault(ErrorKind.MISSING, name.strip() or "-"))
        assert table_rows(written(Markdown, record))[1] == [name, "a cat"], repr(name)
        assert table_rows(written(Markdown, failed))[1][1] == f"error: {name.strip() or '-'}", repr(name)
        tokens = MARKDOWN.parse(written(Markdown, record, is_multiline=True))
        assert [token.tag for token in tokens if token.nesting == 1] == ["h2", "p"], repr(name)
        assert "".join(child.content for child in tokens[1].children or []) == name
        assert {child.type for child in tokens[1].children or []} == {"text"}


def test_usual_paths_are_not_escaped() -> None:
    for name in ("photos/IMG_2024_01.jpg", "a (1).png", "-", "x-y.z!.png", "C#.png", "1. a.png", "ä.png"):
        assert escape_markdown(name) == name


def test_columns_of_the_data_come_first_and_keep_their_names_apart() -> None:
    columns = table_columns([("total", ("total",)), ("to.city", ("to", "city")), ("text", ("text",))])
    data = {"total": 3.25, "to": {"city": "K\u00f6ln"}, "text": "\ud83d", "more": [1]}
    lists = replace(RECORD, data={"total": True, "to": None, "text": [{"a": 1}]})
    first, second, none = rows(written_with(Csv, replace(RECORD, data=data), lists, BAD, columns=columns))
    assert list(first)[:4] == ["total", "to.city", "data.text", "path"]
    assert list(first)[3:] == list(COLUMNS)
    assert (first["total"], first["to.city"], first["data.text"], first["text"]) == ("3.25", "K\u00f6ln", "?", "a cat")
    assert (second["total"], second["to.city"], second["data.text"]) == ("true", "", '[{"a":1}]')
    assert (none["total"], none["error.kind"]) == ("", "missing")


def test_an_answer_is_found_by_its_question() -> None:
    columns = table_columns([("How many?", ("How many?",)), ("Which.x", ("Which", "x"))])
    data = [{"question": "Which", "answer": {"x": 1}}, {"question": "How many?", "answer": "3"}]
    [row] = rows(written_with(Csv, replace(RECORD, data=data), columns=columns))
    assert (row["How many?"], row["Which.x"]) == ("3", "1")


def test_chosen_fields_are_the_only_columns_in_their_order() -> None:
    columns = parse_fields("text,name,tokens,data.items.1,path,text")
    [row] = rows(written_with(Csv, replace(RECORD, path="in/a.png", data={"items": ["x", 7]}), columns=columns))
    assert list(row.items()) == [
        ("text", "a cat"), ("name", "a.png"), ("tokens.prompt", "5"), ("tokens.image", "3"), ("tokens.new", "2"),
        ("data.items.1", "7"), ("path", "in/a.png"),
    ]  # fmt: skip


@pytest.mark.parametrize("writer", [Csv, Tsv])
def test_a_byte_order_mark_comes_once_before_the_header(writer: type) -> None:
    text = written_with(writer, RECORD, BAD, bom=True)
    assert text.encode().startswith(b"\xef\xbb\xbfpath")
    assert text.count("\ufeff") == 1
    assert text[1:] == written(writer, RECORD, BAD)


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_would_be_a_formula_gets_an_apostrophe(text: str) -> None:
    columns = table_columns([(f"{text}?", ("total",)), ("=size", ("size",))])
    record = replace(RECORD, path="-a.png", text=text, data={"total": -5, "size": text})
    [row] = rows(written_with(Csv, record, columns=columns, safe_csv=True))
    assert list(row)[:3] == [f"'{text}?", "'=size", "path"]
    assert (row["text"], row["path"], row["'=size"]) == (f"'{text}", "'-a.png", f"'{text}")
    assert row[f"'{text}?"] == "-5"  # a number is not text
    [plain] = rows(written_with(Csv, record, columns=columns))
    assert plain["text"] == text
    line = written_with(Tsv, record, columns=columns, safe_csv=True).split("\n")[1]
    assert line.split("\t")[1].startswith("'") and line.split("\t")[2] == "'-a.png"


def test_usual_text_has_no_apostrophe() -> None:
    for text in ("a = b", "", " =1", "'=1", "1-2", "a@b.de"):
        assert rows(written_with(Csv, replace(RECORD, text=text), safe_csv=True))[0]["text"] == text
