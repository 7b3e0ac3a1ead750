"""smolcli/writers/: the formats text, json and jsonl."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from smolcli.errors import ErrorKind
from smolcli.types import Fault
from smolcli.writers.fields import parse_fields
from smolcli.writers.json_lines import Json, JsonLines
from smolcli.writers.text import Text
from tests.helpers import BAD, LINES, RECORD, written


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text_is_bare_for_one_input_lines_for_several_and_blocks_for_multiline_answers() -> None:
    assert written(Text, LINES) == "one\n\ntwo\n"
    assert written(Text, RECORD, BAD, LINES, has_many=True) == "a.png: a cat\na.png: one two\n"
    blocks = written(Text, RECORD, LINES, has_many=True, is_multiline=True)
    assert blocks == "==> a.png <==\na cat\n\n==> a.png <==\none\n\ntwo\n"


@pytest.mark.parametrize("pieces", [[" a", " cat"], [" a ", "", "cat "], ["a cat"], []])
def test_a_terminal_shows_pieces_as_they_come_and_nothing_twice(pieces: list[str]) -> None:
    stream = Terminal()
    writer = Text(stream)
    for piece in pieces:
        writer.write_piece(piece)
    writer.write(RECORD)
    assert stream.getvalue().strip() == "a cat"
    assert stream.getvalue().endswith("\n")


def test_a_pipe_and_a_run_of_several_inputs_show_no_pieces() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    for writer in (Text(pipe), Text(terminal, has_many=True)):
        writer.write_piece("a")
    assert (pipe.getvalue(), terminal.getvalue()) == ("", "")


def test_jsonl_has_one_line_a_record_and_json_an_array_for_several() -> None:
    lines = written(JsonLines, LINES, BAD, has_many=True).splitlines()
    assert json.loads(lines[0])["text"] == "one\n\ntwo"
    assert json.loads(lines[0])["seconds"]["decode"] == 0.333333
    assert json.loads(lines[1])["error"] == {"kind": "missing", "message": "no such file; check the path"}
    assert json.loads(written(Json, RECORD, BAD, has_many=True))[1]["path"] == "b.png"
    assert json.loads(written(Json, RECORD))["tokens"] == {"prompt": 5, "image": 3, "new": 2}
    assert json.loads(written(Json, has_many=True)) == []
    assert written(Json) == ""


def test_the_confidence_has_four_digits_and_is_null_where_there_is_none() -> None:
    lines = written(JsonLines, replace(RECORD, confidence=0.711314), RECORD, has_many=True).splitlines()
    assert [json.loads(line)["confidence"] for line in lines] == [0.7113, None]
    assert lines[0].endswith(
        ', "confidence": 0.7113, "page": null, "is_last_page": false, "error": null}'
    )  # the error is last, as --resume expects
    assert replace(RECORD, confidence=0.9).failed(Fault(ErrorKind.UNWRITABLE, "full")).confidence is None


def test_a_path_that_is_not_utf8_becomes_one_line_of_utf8() -> None:
    line = written(JsonLines, replace(RECORD, path="\udcff.png", text="é\u2028"))
    assert line.encode("utf-8").count(b"\n") == 1
    assert json.loads(line)["path"] == "\udcff.png"


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ("path,text", {"path": "in/a.png", "text": "a cat"}),
        ("tokens.new,seconds,tokens.image", {
            "tokens": {"new": 2, "image": 3},
            "seconds": {"load": 0.0, "media": 0.0, "encode": 0.0, "prefill": 0.0, "decode": 0.333333},
        }),
        ("data.to.city,name,data.none,error", {
            "data": {"to": {"city": "Ulm"}, "none": None}, "name": "a.png", "error": None,
        }),
        ("data.total,data", {"data": {"total": 7, "to": {"city": "Ulm"}}}),
        ("data,data.total,data.to", {"data": {"total": 7, "to": {"city": "Ulm"}}}),
    ],
)  # fmt: skip
def test_json_has_only_the_chosen_fields_nested_as_in_the_record(fields: str, chosen: dict[str, object]) -> None:
    record = replace(RECORD, path="in/a.png", data={"total": 7, "to": {"city": "Ulm"}})
    for writer, has_many in ((JsonLines, True), (Json, False)):
        stream = io.StringIO()
        with writer(stream, has_many, columns=parse_fields(fields)) as opened:
            opened.write(record)
        assert json.loads(stream.getvalue()) == chosen
    assert record.data == {"total": 7, "to": {"city": "Ulm"}}
