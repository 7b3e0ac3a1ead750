"""smolcli/writers/template.py: the text that --template makes of a record, and templates that are refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from smolcli.errors import UsageError
from smolcli.types import Record
from smolcli.writers.columns import COLUMNS
from smolcli.writers.template import Field, Template, parse
from tests.helpers import BAD, RECORD

DATA = replace(
    RECORD, path="scans/2024/a.tar.png", data={"vendor": "Müller", "total": 7, "paid": True, "to": {"c": 1.5}}
)


def shown(template: str, *records: Record) -> str:
    stream = io.StringIO()
    with Template(stream, has_many=True, template=template) as writer:
        for record in records:
            writer.write(record)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{path}: {text}", "scans/2024/a.tar.png: a cat\n"),
        ("{folder}|{name}|{stem}|{suffix}", "scans/2024|a.tar.png|a.tar|.png\n"),
        ("{tokens.new} {seconds.decode} {seconds.decode:.2f} {tokens.prompt:04d}", "2 0.333333 0.33 0005\n"),
        ("{name:>14}|{text:.3}|", "     a.tar.png|a c|\n"),
        ("{error.kind}{error.message}.", ".\n"),
        ("{data}", '{"vendor":"Müller","total":7,"paid":true,"to":{"c":1.5}}\n'),
        ("{data.vendor} {data.total:.2f} {data.paid} {data.to} {data.to.c}", 'Müller 7.00 true {"c":1.5} 1.5\n'),
        ("{data.vendor:.2f} {data.none:.2f} {data.total.x}.", "Müller  .\n"),
        ("{{{path}}} {{path}}", "{scans/2024/a.tar.png} {path}\n"),
        (r"{stem}\n{text}\t\\n\0", "a.tar\na cat\t\\n\0"),
        ("no fields at all", "no fields at all\n"),
        (r"{text}\n", "a cat\n"),
        ("{text}\n", "a cat\n"),
        ("{text}{{", "a cat{\n"),
    ],
)
def test_a_record_is_shown_as_the_template_says(template: str, text: str) -> None:
    assert shown(template, DATA) == text


def test_a_line_of_json_is_made_of_quoted_fields() -> None:
    """The values are those of the record's own JSON, whatever is in them."""
    nasty = replace(DATA, text='say "a\\b"\nand Ü\t🙂', notices=("cut",), path='s/a"b.png')
    template = (
        '{{"text": {text:json}, "name": {name:json}, "new": {tokens.new:json}, "data": {data:json}, '
        '"total": {data.total:json}, "none": {data.none:json}, "kind": {error.kind:json}, "notices": {notices:json}, '
        '"blank": {blank:json}, "seconds": {seconds.decode:json}}}'
    )
    assert json.loads(shown(template, nasty)) == {
        "text": 'say "a\\b"\nand Ü\t🙂', "name": 'a"b.png', "new": 2, "data": DATA.data, "total": 7, "none": None,
        "kind": None, "notices": ["cut"], "blank": False, "seconds": 0.333333,
    }  # fmt: skip
    assert shown("{error.kind:json} {path}", BAD) == '"missing" b.png\n'
    assert shown("{text:json}", RECORD) == '"a cat"\n'
    assert json.loads(shown("{path:json}", replace(RECORD, path="\udcff.png"))) == "\udcff.png"


def test_a_confidence_is_formatted_as_a_number_and_nothing_where_there_is_none() -> None:
    assert shown("{confidence:.2f}", replace(RECORD, confidence=0.70714)) == "0.71\n"
    assert shown("{path} {confidence:.2f}", RECORD) == "a.png \n"


def test_every_field_of_a_record_has_a_name() -> None:
    assert shown("|".join(f"{{{name}}}" for name in COLUMNS), RECORD).count("|") == len(COLUMNS) - 1


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a.png", "a.png a .png ."),
        ("./a.b/.hidden", ".hidden .hidden  ./a.b"),
        ("/a", "a a  /"),
        ("-", "- -  ."),
        ("https://h.org/p/a.jpg?x=/b.png#f", "a.jpg a .jpg https://h.org/p"),
    ],
)
def test_the_parts_of_a_path(path: str, parts: str) -> None:
    assert shown("{name} {stem} {suffix} {folder}", replace(RECORD, path=path)) == f"{parts}\n"


def test_failed_records_are_left_out_unless_the_template_has_a_field_of_the_error() -> None:
    assert shown("{path}", RECORD, BAD) == "a.png\n"
    assert shown("{path} {error.kind}", RECORD, BAD) == "a.png \nb.png missing\n"
    assert shown("{path} {{error.kind}}", RECORD, BAD) == "a.png {error.kind}\n"


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{txt}", "{txt}"),
        ("{}", "{}"),
        ("{0}", "{0}"),
        ("{tokens}", "{tokens}"),
        ("{tokens.newer}", "{tokens.newer}"),
        ("{data.}", "{data.}"),
        ("{text.__class__}", "{text.__class__}"),
        ("{path[0]}", "{path[0]}"),
        ("{path!r}", "{path!r}"),
        ("{ path }", "{ path }"),
        ("{seconds.decode:{path}}", "{ at character 1"),
        ("{path", "{ at character 1"),
        ("a}", "} at character 2"),
        ("{path}}", "} at character 7"),
        (r"a\q", r"\q"),
        ("a\\", "\\ in"),
        ("{path:d}", "{path:d}"),
        ("{seconds.decode:x}", "{seconds.decode:x}"),
        ("{data.a:nonsense}", "{data.a:nonsense}"),
        ("", "empty"),
    ],
)
def test_a_wrong_template_is_an_error_that_names_the_wrong_part(template: str, named: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(template)
    assert named in str(error.value)


def test_the_error_for_an_unknown_field_lists_all_fields() -> None:
    with pytest.raises(
        UsageError,
        match=r"tokens\.new, .*error\.message, notices, memory\.parent, .*, data\.KEY, name, stem, suffix, folder",
    ):
        parse("{nothing}")


def test_no_attribute_of_an_object_can_be_reached() -> None:
    assert shown("{data.__class__}{data.vendor.__class__}{data.get}", DATA) == "\n"
    assert parse("{data.__class__:>3}") == [Field("data.__class__", ">3")]


def test_half_a_surrogate_pair_in_an_answer_can_be_written() -> None:
    assert shown("{data.a} {data}", replace(RECORD, data={"a": "\ud83d"})).encode() == b'? {"a":"\\ud83d"}\n'
