"""Changes one key of config.toml and leaves all else as it is, comments too."""

from __future__ import annotations

import errno
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import tomlkit

from smolcli.errors import OutputError, UsageError
from smolcli.system.atomic_file import atomic_write
from smolcli.system.config_file import parse_config, read_text
from smolcli.system.config_path import config_path


def edit(keys: tuple[str, ...], value: Any) -> bool:
    """Set the value at a path of keys, or remove it where the value is None; whether the file was changed.

    The file is replaced whole, or that which it is a link to. Raises UsageError for one that cannot be read or is not
    TOML, OutputError where it cannot be written.
    """
    path = config_path()
    text = read_text(path) if os.path.lexists(path) and os.path.exists(path) else ""
    parse_config(path, text)  # says the line of what is wrong
    document = tomlkit.parse(text)
    if value is None:
        if not _remove(document, keys):
            return False
    else:
        _set(document, keys, value, path)
    _write(path, tomlkit.dumps(document))
    return True


def _set(document: tomlkit.TOMLDocument, keys: tuple[str, ...], value: Any, path: Path) -> None:
    table: MutableMapping[str, Any] = document
    for depth, key in enumerate(keys[:-1], 1):
        if key not in table:
            table[key] = tomlkit.table(is_super_table=depth < len(keys) - 1)
        table = table[key]
        if not isinstance(table, MutableMapping):
            name = ".".join(keys[:depth])
            raise UsageError(f"{path}: {name} is a setting, not a section", f"smolcli config unset {name}")
    table[keys[-1]] = value


def _remove(document: tomlkit.TOMLDocument, keys: tuple[str, ...]) -> bool:
    table: Any = document
    for key in keys[:-1]:
        table = table.get(key) if isinstance(table, MutableMapping) else None
    if not isinstance(table, MutableMapping) or keys[-1] not in table:
        return False
    del table[keys[-1]]
    return True


def _write(path: Path, text: str) -> None:
    target = Path(os.path.realpath(path))  # it may hold a password, so that a new file is for its owner alone
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, sync=True, keep_mode=target.exists(), mode=0o600, unique=True) as file:
            file.write(text.encode())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise OutputError(
            f"{path}: cannot be written ({error.strerror})", "check its folder, or set XDG_CONFIG_HOME"
        ) from error
