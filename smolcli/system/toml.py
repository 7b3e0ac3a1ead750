"""Parses TOML with the parser of the standard library, or on Python 3.10 with tomli, of which that is a copy."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a document. Raises ValueError for one that is not TOML."""
    values: dict[str, Any] = tomllib.loads(text)
    return values
