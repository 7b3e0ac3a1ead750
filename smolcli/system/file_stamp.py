"""The stamp of a file: its size and times, which show without reading it that it is unchanged."""

from __future__ import annotations

import os


def stamp(status: os.stat_result) -> str:
    """Return size, modification time and change time (ns): if they are the same, so is the content.

    No program can set the change time of an inode back.
    """
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def stamp_of(path: str) -> str:
    """Return the present stamp of a file, or "" if there is no such file."""
    try:
        return stamp(os.stat(path))
    except (OSError, ValueError):
        return ""
