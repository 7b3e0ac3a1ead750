"""Where records go: the real standard output, or a file."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from smolcli.console import Stream
from smolcli.errors import UsageError

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")  # the descriptor 1 itself leads to standard error by now


@contextlib.contextmanager
def destination(path: Path | None, stdout: TextIO) -> Iterator[TextIO]:
    """The stream to write to; `-` is standard output; what a file held before is kept until the first record comes.

    Raises UsageError for a file that cannot be written.
    """
    if path is None or str(path) in STDOUT:
        yield stdout
        return
    try:
        stream = _Replacing(io.FileIO(path, "a"), str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})", "choose another file with -o") from error
    with stream:
        yield stream


class _Replacing(Stream):
    """A file that loses its old content at the first write, not before."""

    _old = True

    def write(self, text: str) -> int:
        if self._old and text:
            self._old = False
            with self._told():
                if stat.S_ISREG(os.fstat(self.fileno()).st_mode):  # a pipe or a device has nothing to lose
                    self.truncate(0)
        return super().write(text)
