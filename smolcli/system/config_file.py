"""Reads the user's config.toml: what is in it, and on which line.

file = read_config(config_path())
file.values            # {"model": "256m", "caption": {"style": "tags"}}
file.place("caption", "style")   # "config.toml:4"
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolcli.errors import UsageError

_TABLE = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_QUOTES = re.compile('"""|' + "'''")
_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")  # at the end of tomllib's messages


@dataclass(frozen=True)
class ConfigFile:
    """The values of a config file by their keys, tables as dictionaries, and the line of each key, from 1."""

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def place(self, *keys: str) -> str:
        """The name of the file and the line of a key, as `config.toml:3`."""
        return f"{self.path.name}{self._line(keys)}"

    def full_place(self, *keys: str) -> str:
        """The same with the whole path."""
        return f"{self.path}{self._line(keys)}"

    def _line(self, keys: tuple[str, ...]) -> str:
        while keys and keys not in self.lines:
            keys = keys[:-1]  # in an inline table
        return f":{self.lines[keys]}" if keys else ""


def read_config(path: Path) -> ConfigFile:
    """Read the config file; empty if there is none, or none that this user may look for.

    Raises UsageError for a file that cannot be read, or is not TOML.
    """
    if not os.path.exists(path):
        return ConfigFile(path)
    return parse_config(path, read_text(path))


def read_text(path: Path) -> str:
    """Return the text of the config file. Raises UsageError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        advice = "change its permissions" if isinstance(error, PermissionError) else "it must be a text file"
        raise UsageError(f"{path}: cannot be read ({error.strerror})", f"{advice}, or add --no-config") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8", "save it as UTF-8, or add --no-config") from error


def parse_config(path: Path, text: str) -> ConfigFile:
    """Parse the text of the config file. Raises UsageError with the line where it is not TOML."""
    from smolcli.system.toml import parse_toml  # loaded only here, since most users have no config file

    try:
        values = parse_toml(text)
    except (ValueError, RecursionError) as error:
        message = str(error)
        position = _POSITION.search(message)
        line = f":{position[1]}" if position and position[1] else ""
        reason = _POSITION.sub("", message)
        advice = 'correct it (text is quoted: model = "256m"), or add --no-config'
        raise UsageError(f"{path}{line}: cannot be read as TOML ({reason})", advice) from error
    return ConfigFile(path, values, key_lines(text))


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    r"""The line of each key and table of a TOML file, which is valid; the first where a word looks like one twice.

    >>> key_lines('model = "a"\n[bench.speed]\n# x = 1\nrepeat = 3\n')
    {('model',): 1, ('bench', 'speed'): 2, ('bench', 'speed', 'repeat'): 4}
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    in_text = False  # of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if not in_text:
            if match := _TABLE.match(line):
                table = _parts(match[1])
                lines.setdefault(table, number)
            elif match := _KEY.match(line):
                lines.setdefault((*table, *_parts(match[1])), number)
        in_text ^= len(_QUOTES.findall(line)) % 2 == 1
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    """The parts of a dotted key, without their quotes."""
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
