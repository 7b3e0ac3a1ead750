"""Files that are kept between runs, in $XDG_CACHE_HOME/smolcli; without them everything takes longer, and no more.

keep(folder("openvino") / "a.blob", [digest, blob], most=4)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from smolcli.system.atomic_file import atomic_write


def folder(name: str = "") -> Path:
    """Where those of one kind are, or all."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "smolcli" / name


def keep(place: Path, parts: Iterable[bytes | memoryview], most: int) -> None:
    """Writes it whole or not at all, and removes what was not used for longest beyond `most` files.

    Raises OSError, also where the user has no home: it is not made for this.
    """
    if not os.environ.get("XDG_CACHE_HOME"):
        os.stat(os.path.expanduser("~"))
    place.parent.mkdir(0o700, parents=True, exist_ok=True)
    with atomic_write(place, mode=0o600, unique=True) as file:
        file.writelines(parts)
    files = sorted(place.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in files[most:]:
        old.unlink()
