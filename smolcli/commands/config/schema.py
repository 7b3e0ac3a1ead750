"""The JSON Schema of config.toml, made of the declarations of options, for editors that check and complete it."""

from __future__ import annotations

from typing import Any

from smolcli.cli.setting_keys import PROMPTS, Option, section_names, section_options, section_path, shared_options

JSON_TYPES = {bool: "boolean", int: "integer", float: "number"}


def schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12): the keys at the top, a table for each command, and the saved prompts."""
    top = _table(shared_options())
    for section in section_names():
        parent = top
        for key in section_path(section)[:-1]:
            parent = parent["properties"].setdefault(key, _table({}))
        parent["properties"][section_path(section)[-1]] = _table(section_options(section))
    top["properties"][PROMPTS] = {
        "type": "object",
        "description": "Saved prompts: @NAME stands for the text.",
        "propertyNames": {"pattern": r"^\w[\w-]*$"},
        "additionalProperties": {"type": "string", "pattern": r"\S"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.toml of smolcli",
        **top,
    }


def _table(options: dict[str, Option]) -> dict[str, Any]:
    properties = {key: _property(option) for key, option in options.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(option: Option) -> dict[str, Any]:
    metadata = option.field.metadata
    value: dict[str, Any] = {"type": JSON_TYPES.get(option.type, "string")}
    if "parser" in metadata and "choices" not in metadata:
        value["type"] = ["string", "number"]  # a time, a number of tiles
    if limit := {"minimum": metadata.get("min"), "maximum": metadata.get("max")}:
        value.update({name: number for name, number in limit.items() if number is not None})
    if choices := metadata.get("choices"):
        value["enum"] = list(choices)
    if option.is_list:
        value = {"anyOf": [value, {"type": "array", "items": value}]}
    value["description"] = str(metadata["help"]).replace("\n", " ")
    default = option.field.default
    if default not in (None, ()):
        value["default"] = (
            list(default) if isinstance(default, tuple) else default if option.type in JSON_TYPES else str(default)
        )
    return value
