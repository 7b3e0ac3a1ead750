"""The value of --schema: which JSON object the answer must be.

It is one of:

vendor, date, total float, items str[], note?          the short form: names, and types other than str
name: as it is printed                                 the short form with descriptions, also one property a line
invoice.json                                           a file that holds a JSON Schema
{"type": "object", "properties": ...}                  the text of a JSON Schema
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

from smolcli.errors import UsageError

Schema = dict[str, Any]

MAX_CHARACTERS = 1000  # of a string of the short form, so that a small model cannot write one without end
MAX_ITEMS = 100  # of a list, for the same reason
MAX_INTEGER = 2**53 - 1  # JSON parsers do not agree on larger ones

TYPES: dict[str, Schema] = {
    "str": {"type": "string", "maxLength": MAX_CHARACTERS},
    "int": {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
}
OBJECT_KEYWORDS = ("type", "properties", "$ref", "anyOf", "oneOf", "allOf")  # an object's schema has at least one

_NAME = re.compile(r"[\w.-]+")
_FORMS = "give 'vendor, total float', a JSON Schema file, or its text"


def parse(word: str) -> Schema:
    """Return the JSON Schema that the value of --schema stands for; its type is object.

    The properties of the short form keep their order, are required unless they have a `?`, and no others are allowed.
    Raises UsageError, which says what is wrong.

    >>> parse("vendor: as printed, total? float")["properties"]["vendor"]
    {'type': 'string', 'maxLength': 1000, 'description': 'as printed'}
    >>> parse('{"properties": {"a": {}}}')
    {'properties': {'a': {}}, 'type': 'object', 'additionalProperties': False}
    """
    text = word.strip()
    if text.startswith("{"):
        return _object_schema(_parse_json(text, "the schema"), "the schema")
    if os.path.isfile(word) or text.endswith(".json"):
        return _object_schema(_parse_json(_read_text(word), word), word)
    return _parse_short_form(text)


def canonicalize(word: str) -> str:
    """Return `parse(word)` as compact JSON text, equal for equal schemas wherever they come from; parse accepts it."""
    return json.dumps(parse(word), separators=(",", ":"))


def _parse_short_form(text: str) -> Schema:
    fields = [field.strip() for field in text.split("\n" if "\n" in text else ",")]
    properties: dict[str, Schema] = {}
    required = []
    for field in filter(None, fields):
        name, schema, is_optional = _parse_property(field)
        if name in properties:
            raise UsageError(f"--schema names {name} twice", "give each property once")
        properties[name] = schema
        required += [] if is_optional else [name]
    if not properties:
        raise UsageError("--schema is empty", _FORMS)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _parse_property(field: str) -> tuple[str, Schema, bool]:
    """Parse `name [type] [: description]` into name, schema, and whether a `?` after name or type makes it optional."""
    declared, colon, description = (part.strip() for part in field.partition(":"))
    words = [word.removesuffix("?") for word in declared.split()]
    if not words or not _NAME.fullmatch(words[0]):
        raise UsageError(f"--schema: {field!r} has no name of letters, digits, '_', '-' and '.'", _FORMS)
    if len(words) > 2:
        raise UsageError(f"--schema: {declared!r} is more than a name and a type", "put commas between properties")
    if colon and len(words) == 1 and description.removesuffix("[]") in TYPES:
        raise UsageError(f"--schema: {field!r} has its type after a colon", f"write '{words[0]} {description}'")
    schema = _type_schema(words[1] if len(words) == 2 else "str", field)
    return words[0], schema | ({"description": description} if description else {}), "?" in declared


def _type_schema(word: str, field: str) -> Schema:
    name = word.removesuffix("[]")
    if name not in TYPES:
        raise UsageError(f"--schema: {word} in {field!r} is no type", f"choose {', '.join(TYPES)}, or a list as str[]")
    if name == word:
        return dict(TYPES[name])
    return {"type": "array", "items": dict(TYPES[name]), "maxItems": MAX_ITEMS}


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8", "give a JSON Schema file") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})", _FORMS) from error


def _parse_json(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except RecursionError as error:
        raise UsageError(f"{name} is nested too deeply", "make it simpler") from error
    except ValueError as error:
        raise UsageError(f"{name} is not JSON ({error})", "check it with: python -m json.tool") from error


def _reject_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _object_schema(schema: Any, name: str) -> Schema:
    """Check that `schema` is that of an object, and close it; `name` is for messages."""
    if not isinstance(schema, dict) or not any(keyword in schema for keyword in OBJECT_KEYWORDS):
        raise UsageError(f"{name} is not the JSON Schema of an object", "it has at least 'type' or 'properties'")
    type_name = schema.get("type", "object")
    if "object" not in (type_name if isinstance(type_name, list) else [type_name]):
        raise UsageError(f"{name} is the JSON Schema of another type, {type_name}", "an answer is one object")
    closed: Schema = _close(schema | {"type": "object"})
    return closed


def _close(schema: Any) -> Any:
    """Return `schema` with additional properties forbidden in every object that does not say which it allows.

    JSON Schema allows any others by default, and a small model would then write one property after the other.
    """
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for key in ("properties", "$defs", "definitions"):
        if isinstance(closed.get(key), dict):
            closed[key] = {name: _close(value) for name, value in closed[key].items()}
    for key in ("anyOf", "oneOf"):
        if isinstance(closed.get(key), list):
            closed[key] = [_close(value) for value in closed[key]]
    if isinstance(closed.get("items"), dict):
        closed["items"] = _close(closed["items"])
    if "properties" in closed and not {"additionalProperties", "patternProperties", "allOf"} & closed.keys():
        closed["additionalProperties"] = False
    return closed


def field_keys(schema: Schema) -> list[tuple[str, ...]]:
    """Return where the fields of an object of `schema` stand, in their order; of nested objects, their fields.

    An array is one field, and so is an object whose properties the schema does not name.

    >>> field_keys({"properties": {"to": {"properties": {"city": {}, "street": {}}}, "total": {"type": "number"}}})
    [('to', 'city'), ('to', 'street'), ('total',)]
    """
    return list(_field_keys(schema, schema, frozenset()))


def is_closed(schema: Any) -> bool:
    """Whether every object of `schema` has only properties that it names."""
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    allows_others = schema.get("additionalProperties", "properties" in schema) is not False
    return not allows_others and "patternProperties" not in schema and all(map(is_closed, schema.values()))


def _field_keys(schema: Any, root: Schema, seen: frozenset[str]) -> Iterator[tuple[str, ...]]:
    properties: dict[str, tuple[Any, frozenset[str]]] = {}
    for part, seen_refs in _parts(schema, root, seen):
        for name, value in part.get("properties", {}).items():
            properties.setdefault(name, (value, seen_refs))
    for name, (value, seen_refs) in properties.items():
        for keys in list(_field_keys(value, root, seen_refs)) or [()]:
            yield (name, *keys)


def _parts(schema: Any, root: Schema, seen: frozenset[str]) -> Iterator[tuple[Schema, frozenset[str]]]:
    """Yield `schema` and those that it combines or refers to, with the references met; of a cycle only one round."""
    if not isinstance(schema, dict):
        return
    yield schema, seen
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#") and reference not in seen:
        yield from _parts(_look_up(root, reference), root, seen | {reference})
    for keyword in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(keyword, []):
            yield from _parts(part, root, seen)


def _look_up(root: Schema, reference: str) -> Any:
    """Return the part of `root` that a JSON pointer (RFC 6901) as `#/$defs/Address` leads to, or None."""
    part: Any = root
    for key in reference.removeprefix("#").split("/")[1:]:
        part = part.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(part, dict) else None
    return part
