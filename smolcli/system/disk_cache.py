"""Files that are kept between runs in $XDG_CACHE_HOME/smolcli and only save time: all of them can be deleted.

store(cache_folder("openvino") / "a.blob", [digest, blob], most=4)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from smolcli.system.atomic_file import atomic_write


def cache_folder(name: str = "") -> Path:
    """Return the folder of one kind of files, or of all."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "smolcli" / name


def store(path: Path, parts: Iterable[bytes | memoryview], most: int) -> None:
    """Write the `parts` to a file, whole or not at all, and remove the least recently used of more than `most` files.

    A file's modification time is the time of its last use. Raises OSError, also if the user's home does not exist.
    """
    if not os.environ.get("XDG_CACHE_HOME"):  # the home itself must not be created
        os.stat(os.path.expanduser("~"))
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    with atomic_write(path, mode=0o600, unique=True) as file:
        file.writelines(parts)
    files = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    for unused in files[most:]:
        unused.unlink()
