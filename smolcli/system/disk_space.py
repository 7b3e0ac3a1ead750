"""How many bytes are free on the disk that a folder is on, and the error raised before a write that would not fit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from smolcli.errors import OutputError, SmolError


def existing_ancestor(folder: Path) -> Path:
    """Return `folder`, or the nearest folder above it that exists, as an absolute path."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))  # False where one may not look


def free_bytes(folder: Path) -> int:
    """Return the bytes that a user may still write to the disk of `folder`, which need not exist yet."""
    return shutil.disk_usage(existing_ancestor(folder)).free


def check_free_space(
    folder: Path, needed_bytes: int, advice: str, *, subject: object = "", error: type[SmolError] = OutputError
) -> None:
    """Raise `error` if fewer than `needed_bytes` are free on the disk of `folder`, which need not exist yet.

    The message begins with `subject`, by default the folder, and ends with `advice`.
    """
    free = free_bytes(folder)
    if needed_bytes > free:
        message = f"{subject or folder}: needs {needed_bytes / 1e6:.1f} MB"
        raise error(f"{message}, {existing_ancestor(folder)} has {free / 1e6:.1f} MB free", advice)
