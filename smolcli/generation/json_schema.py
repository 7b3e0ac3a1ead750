"""--schema: what the one JSON object of an answer has to be.

vendor, date, total float, items str[], note?          the short form: names, and types where they are not str
name: as it is printed                                 with descriptions; also a line each
invoice.json                                           a file that holds a JSON Schema
{"type": "object", "properties": ...}                  its text
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from smolcli.errors import UsageError

Schema = dict[str, Any]

MOST_CHARACTERS = 1000  # of a string of the short form, so that a small model cannot write one for ever
MOST_ITEMS = 100  # of a list, likewise
LARGEST = 2**53 - 1  # of an integer: beyond it JSON's readers do not agree

TYPES: dict[str, Schema] = {
    "str": {"type": "string", "maxLength": MOST_CHARACTERS},
    "int": {"type": "integer", "minimum": -LARGEST, "maximum": LARGEST},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
}
OBJECT_KEYWORDS = ("type", "properties", "$ref", "anyOf", "oneOf", "allOf")  # one at least stands in an object's schema

_NAME = re.compile(r"[\w.-]+")
_FORMS = "give 'vendor, total float', a JSON Schema file, or its text"


def parse(word: str) -> Schema:
    """The JSON Schema that a word of the command line stands for; its type is object.

    Properties of the short form are in their order, all required but those with a `?`, and there are no others.
    Raises UsageError, naming the fault.

    >>> parse("vendor: as printed, total? float")["properties"]["vendor"]
    {'type': 'string', 'maxLength': 1000, 'description': 'as printed'}
    >>> parse('{"properties": {"a": {}}}')
    {'properties': {'a': {}}, 'type': 'object', 'additionalProperties': False}
    """
    text = word.strip()
    if text.startswith("{"):
        return _of_object(_json(text, "the schema"), "the schema")
    if os.path.isfile(word) or text.endswith(".json"):
        return _of_object(_json(_read(word), word), word)
    return _short(text)


def canonical(word: str) -> str:
    """`parse(word)` as JSON text that depends on what the schema says, not on where it stands; parse takes it too."""
    return json.dumps(parse(word), separators=(",", ":"))


def _short(text: str) -> Schema:
    fields = [field.strip() for field in text.split("\n" if "\n" in text else ",")]
    properties: dict[str, Schema] = {}
    required = []
    for field in filter(None, fields):
        name, schema, optional = _property(field)
        if name in properties:
            raise UsageError(f"--schema names {name} twice", "give each property once")
        properties[name] = schema
        required += [] if optional else [name]
    if not properties:
        raise UsageError("--schema is empty", _FORMS)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _property(field: str) -> tuple[str, Schema, bool]:
    """Of `name [type] [: description]` the name, the schema, and whether a `?` after name or type makes it optional."""
    declared, colon, description = (part.strip() for part in field.partition(":"))
    words = [word.removesuffix("?") for word in declared.split()]
    if not words or not _NAME.fullmatch(words[0]):
        raise UsageError(f"--schema: {field!r} has no name of letters, digits, '_', '-' and '.'", _FORMS)
    if len(words) > 2:
        raise UsageError(f"--schema: {declared!r} is more than a name and a type", "put commas between properties")
    if colon and len(words) == 1 and description.removesuffix("[]") in TYPES:
        raise UsageError(f"--schema: {field!r} has its type after a colon", f"write '{words[0]} {description}'")
    schema = _type(words[1] if len(words) == 2 else "str", field)
    return words[0], schema | ({"description": description} if description else {}), "?" in declared


def _type(word: str, field: str) -> Schema:
    name = word.removesuffix("[]")
    if name not in TYPES:
        raise UsageError(f"--schema: {word} in {field!r} is no type", f"choose {', '.join(TYPES)}, or a list as str[]")
    if name == word:
        return dict(TYPES[name])
    return {"type": "array", "items": dict(TYPES[name]), "maxItems": MOST_ITEMS}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8", "give a JSON Schema file") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})", _FORMS) from error


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise UsageError(f"{name} is nested too deeply", "make it simpler") from error
    except ValueError as error:
        raise UsageError(f"{name} is not JSON ({error})", "check it with: python -m json.tool") from error


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _of_object(schema: Any, name: str) -> Schema:
    if not isinstance(schema, dict) or not any(keyword in schema for keyword in OBJECT_KEYWORDS):
        raise UsageError(f"{name} is not the JSON Schema of an object", "it has at least 'type' or 'properties'")
    kind = schema.get("type", "object")
    if "object" not in (kind if isinstance(kind, list) else [kind]):
        raise UsageError(f"{name} is the JSON Schema of another type, {kind}", "an answer is one object")
    closed: Schema = _closed(schema | {"type": "object"})
    return closed


def _closed(schema: Any) -> Any:
    """A schema whose objects have the properties it names and no others, unless it says what others there may be.

    JSON Schema allows any more; a small model would then name one property after the other.
    """
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for key in ("properties", "$defs", "definitions"):
        if isinstance(closed.get(key), dict):
            closed[key] = {name: _closed(one) for name, one in closed[key].items()}
    for key in ("anyOf", "oneOf"):
        if isinstance(closed.get(key), list):
            closed[key] = [_closed(one) for one in closed[key]]
    if isinstance(closed.get("items"), dict):
        closed["items"] = _closed(closed["items"])
    if "properties" in closed and not {"additionalProperties", "patternProperties", "allOf"} & closed.keys():
        closed["additionalProperties"] = False
    return closed
