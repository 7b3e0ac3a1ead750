"""The value of --fields: which fields of a record are written, as `path,text,data.total`."""

from __future__ import annotations

from collections.abc import Collection

from smolcli.errors import UsageError
from smolcli.terminal.words import closest
from smolcli.writers.columns import COLUMNS, PATH_FIELDS, Column, Keys
from smolcli.writers.template import Field, parse

GROUPS = tuple(dict.fromkeys(name.split(".")[0] for name in COLUMNS))  # whole fields, as `tokens` with all its parts


def parse_fields(
    text: str, data_keys: Collection[Keys] | None = None, other_keys: Collection[str] = ()
) -> tuple[Column, ...]:
    """Return the columns that the value of --fields names, each once.

    `data_keys` says where in `data` a value may stand, None if that is not known; `other_keys` are those that
    other programs have added to the records. Raises UsageError for an unknown field, with one guess.

    >>> parse_fields("path, tokens.new, data.total")[2]
    Column(name='data.total', keys=('data', 'total'))
    """
    names = dict.fromkeys(filter(None, map(str.strip, text.split(","))))
    if not names:
        raise UsageError("--fields is empty", "name fields, as --fields path,text")
    return tuple(Column(name, _keys(name, data_keys, other_keys)) for name in names)


def _keys(name: str, data_keys: Collection[Keys] | None, other_keys: Collection[str]) -> Keys:
    known_data = {".".join(("data", *known)): ("data", *known) for known in data_keys or ()}
    keys = known_data.get(name, tuple(name.split(".")))
    if name in known_data or name in (*COLUMNS, *GROUPS, *PATH_FIELDS, *other_keys):
        return keys
    if keys[0] == "data" and all(keys) and (data_keys is None or _is_among(keys[1:], data_keys)):
        return keys
    if f"data.{name}" in known_data:
        guess: str | None = f"data.{name}"
    else:
        guess = closest(name, (*COLUMNS, *GROUPS, *PATH_FIELDS, *other_keys, *known_data))
    listed = ", ".join((*COLUMNS, *(known_data or ["data.KEY"]), *PATH_FIELDS))
    raise UsageError(
        f"{name} is no field of a record", f"did you mean {guess}?" if guess else f"the fields are {listed}"
    )


def _is_among(keys: Keys, known: Collection[Keys]) -> bool:
    """Whether `keys` lead to a known value, to a group of known values, or into one, as into an array, by its index."""
    return keys[0].isdecimal() or any(keys[: len(other)] == other or other[: len(keys)] == keys for other in known)


def check_template(template: str, columns: Collection[Column]) -> None:
    """Raise UsageError for a template with a field that is not one of `columns` nor a part of one."""
    allowed = [column.keys for column in columns]
    for part in parse(template):
        if isinstance(part, Field) and not _is_part(tuple(part.name.split(".")), allowed):
            raise UsageError(
                f"{{{part.name}}} in the template is not in --fields", "add it there, or leave out --fields"
            )


def _is_part(keys: Keys, allowed: Collection[Keys]) -> bool:
    return any(keys[: len(other)] == other for other in allowed)
