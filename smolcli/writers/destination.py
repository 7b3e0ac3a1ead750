"""Where records go: the real standard output, or a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from smolcli.errors import UsageError


@contextlib.contextmanager
def destination(path: Path | None, stdout: TextIO) -> Iterator[TextIO]:
    """The stream to write to; a file is made when it is entered and closed at the end."""
    if path is None:
        yield stdout
        return
    try:
        stream = open(path, "w", encoding="utf-8", errors="surrogateescape", newline="\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})", "choose another file with -o") from error
    with stream:
        yield stream
