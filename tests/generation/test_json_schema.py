"""generation/json_schema.py: the values of --schema, and errors in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from smolcli.errors import UsageError
from smolcli.generation.json_schema import MAX_CHARACTERS, MAX_ITEMS, Schema, canonicalize, field_keys, is_closed, parse


def property_types(word: str) -> dict[str, Any]:
    """Return the properties and their types; a list is [type]."""
    types = {}
    for name, schema in parse(word)["properties"].items():
        types[name] = [schema["items"]["type"]] if schema["type"] == "array" else schema["type"]
    return types


@pytest.mark.parametrize(
    ("word", "properties", "required"),
    [
        ("vendor", {"vendor": "string"}, ["vendor"]),
        ("vendor, date, total float", {"vendor": "string", "date": "string", "total": "number"}, None),
        ("name, age int, bio: a short bio", {"name": "string", "age": "integer", "bio": "string"}, None),
        ("name\n age int : in years, full\n\n ok bool\n", {"name": "string", "age": "integer", "ok": "boolean"}, None),
        ("items str[], prices float[]: each", {"items": ["string"], "prices": ["number"]}, None),
        ("b?, a int, c float[]?", {"b": "string", "a": "integer", "c": ["number"]}, ["a"]),
        ("größe float, x-y_z, 2nd", {"größe": "number", "x-y_z": "string", "2nd": "string"}, None),
        (" a ,, b , ", {"a": "string", "b": "string"}, None),
        ("a str, b int", {"a": "string", "b": "integer"}, None),
    ],
)  # fmt: skip
def test_the_short_form(word: str, properties: dict[str, Any], required: list[str] | None) -> None:
    assert property_types(word) == properties
    assert list(property_types(word)) == list(properties)  # in order
    assert parse(word)["required"] == (list(properties) if required is None else required)
    jsonschema.Draft202012Validator.check_schema(parse(word))


def test_descriptions_on_lines_of_their_own_may_have_commas_and_colons() -> None:
    properties = parse("name: as printed, in capitals: all of it\ntotal float: with VAT")["properties"]
    assert properties["name"]["description"] == "as printed, in capitals: all of it"
    assert properties["total"]["description"] == "with VAT"


def test_the_short_form_limits_lengths_and_forbids_other_properties() -> None:
    valid = jsonschema.Draft202012Validator(parse("a, b int[], c? bool")).is_valid
    assert valid({"a": "x" * MAX_CHARACTERS, "b": [1] * MAX_ITEMS})
    assert valid({"a": "", "b": [], "c": True})
    assert not valid({"a": "x" * (MAX_CHARACTERS + 1), "b": []})
    assert not valid({"a": "x", "b": [1] * (MAX_ITEMS + 1)})
    assert not valid({"a": "x", "b": [10**30]})
    assert not valid({"a": "x", "b": [], "d": 1})
    assert not valid({"a": "x"})


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "--schema is empty; give 'vendor, total float'"),
        (" , ,", "--schema is empty"),
        ("a decimal", "decimal in 'a decimal' is no type; choose str, int, float, bool"),
        ("a str[", r"str\[ in 'a str\[' is no type"),
        ("a int b", "'a int b' is more than a name and a type; put commas"),
        ("total: float", "has its type after a colon; write 'total float'"),
        ("total: int[]", r"write 'total int\[\]'"),
        (": words", "': words' has no name"),
        ("?", "has no name"),
        ("a$", "'a\\$' has no name"),
        ("a, b int, a float", "names a twice"),
        ("none.json", r"none.json cannot be read \(No such file"),
        ("{", "the schema is not JSON .*; check it with"),
        ('{"type": "array"}', "is the JSON Schema of another type, array; an answer is one object"),
        ('{"type": ["array", "null"]}', "of another type"),
        ('{"vendor": "str"}', "is not the JSON Schema of an object; it has at least 'type'"),
        ('{"type": "object", "properties": {"a": {"const": NaN}}}', "not JSON .NaN"),
        ('{"a":' * 100_000, "nested too deeply|not JSON"),
    ],
)
def test_an_invalid_schema_is_an_error(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(word)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[1]", "s.json is not the JSON Schema of an object"),
        (b"name, age int", r"s.json is not JSON .*line 1 column 1"),
        (b'{"type": \xff}', "s.json is not text in UTF-8"),
        (b"", "s.json is not JSON"),
    ],
)
def test_the_error_for_an_invalid_file_names_it(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "s.json"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=message):
        parse(str(file))


SCHEMA = {"properties": {"z": {"type": "string"}, "a": {"$ref": "#/$defs/é"}}, "$defs": {"é": {"type": "null"}}}


def test_a_file_its_text_and_the_canonical_text_give_the_same_schema(tmp_path: Path) -> None:
    files = [tmp_path / "one.json", tmp_path / "two", tmp_path / "three.json"]
    files[0].write_text(json.dumps(SCHEMA))
    files[1].write_text(json.dumps(SCHEMA, indent=4, ensure_ascii=False), encoding="utf-8")
    files[2].write_text(json.dumps(SCHEMA | {"type": "object"}), encoding="utf-8-sig")
    texts = {canonicalize(str(file)) for file in files} | {canonicalize(json.dumps(SCHEMA, indent=1))}
    assert len(texts) == 1
    [text] = texts
    assert canonicalize(text) == text
    assert parse(text) == SCHEMA | {"type": "object", "additionalProperties": False}
    assert list(parse(text)["properties"]) == ["z", "a"]


def test_different_schemas_have_different_canonical_texts() -> None:
    words = ("a", "b", "a int", "a, b", "b, a", "a: the first", "a?", "a str[]")
    assert len({canonicalize(word) for word in words}) == len(words)
    assert canonicalize("a,b int") == canonicalize(" a str\nb   int ")


def test_an_existing_file_has_precedence_over_the_short_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert property_types("vendor") == {"vendor": "string"}
    (tmp_path / "vendor").write_text('{"type": "object", "properties": {"x": {"type": "null"}}}')
    assert property_types("vendor") == {"x": "null"}
    (tmp_path / "folder").mkdir()
    assert property_types("folder") == {"folder": "string"}


def test_a_short_form_may_be_longer_than_a_file_name() -> None:
    assert len(property_types(", ".join(f"name{n}" for n in range(2000)))) == 2000


ADDRESS = {"properties": {"city": {}, "next": {"$ref": "#/$defs/a~1b"}}}


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (parse("vendor, total float, items str[], note?"), ["vendor", "total", "items", "note"]),
        ({"properties": {"to": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": ADDRESS}}, ["to.city", "to.next"]),
        ({"properties": {"to": {"anyOf": [{"properties": {"x": {}}}, {"type": "null"}]}}}, ["to.x"]),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}, "a": {}}}]}, ["a", "b"]),
        ({"properties": {"rows": {"type": "array", "items": {"properties": {"x": {}}}}}}, ["rows"]),
        ({"properties": {"free": {"type": "object"}, "none": {"$ref": "#/nowhere"}}}, ["free", "none"]),
        ({"properties": {"a": {"$ref": "#"}}}, ["a.a"]),
    ],
)
def test_the_fields_of_a_schema_are_those_of_its_objects(schema: Schema, names: list[str]) -> None:
    assert [".".join(keys) for keys in field_keys(schema)] == names


def test_a_schema_is_closed_where_no_object_has_other_properties() -> None:
    assert is_closed(parse("a, b int?"))
    assert is_closed(parse('{"properties": {"a": {"properties": {"b": {}}}}}'))
    assert not is_closed(parse('{"properties": {"a": {"additionalProperties": {}}}}'))
    assert not is_closed(parse('{"properties": {}, "patternProperties": {"x": {}}}'))
