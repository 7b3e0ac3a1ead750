"""A file's stamp: its size and times, by which it is known to be unchanged without being read."""

from __future__ import annotations

import os


def stamp(status: os.stat_result) -> str:
    """A file's size and times: while they stay, so does its content, and it need not be read to know that.

    The time of the inode's last change is among them, which no program can set back.
    """
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def stamp_of(path: str) -> str:
    """The stamp of a file as it is; empty where there is none, as of what could not be opened."""
    try:
        return stamp(os.stat(path))
    except (OSError, ValueError):
        return ""
