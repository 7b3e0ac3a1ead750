"""Where records go: the real standard output, or a file."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TextIO

from smolcli.errors import UsageError
from smolcli.terminal.stdout import AnswerStream

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")  # the descriptor 1 itself leads to standard error by now


def format_of(path: Path, known: Container[str]) -> str:
    """The format that a file's suffix means, of those that are known; else text."""
    suffix = path.suffix.lower().removeprefix(".")
    return {"ndjson": "jsonl", "markdown": "md"}.get(suffix, suffix if suffix in known else "text")


@contextlib.contextmanager
def destination(path: Path | None, stdout: TextIO, resume: bool = False) -> Iterator[TextIO]:
    """The stream to write to; `-` is standard output; what a file held before is kept until the first record comes.

    With `resume` it is kept for good. No second run may write to the file at the same time. Raises UsageError for a
    file that cannot be written.
    """
    if path is None or str(path) in STDOUT:
        yield stdout
        return
    try:
        file = io.FileIO(path, "a")
        stream = AnswerStream(file, str(path)) if resume else _Replacing(file, str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})", "choose another file with -o") from error
    with stream:
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            lock_exclusively(stream.fileno(), path)
        yield stream


def lock_exclusively(fileno: int, path: Path) -> None:
    """Takes the open file for this process, until it is closed; UsageError where another process has taken it."""
    if fcntl is None:
        return
    try:
        fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        advice = "wait for its end, or choose another file with -o"
        raise UsageError(f"{path}: another run writes to it", advice) from None
    except OSError:
        pass  # a file system without locks


class _Replacing(AnswerStream):
    """A file that loses its old content at the first write, not before."""

    _old = True

    def write(self, text: str) -> int:
        if self._old and text:
            self._old = False
            with self._told():
                if stat.S_ISREG(os.fstat(self.fileno()).st_mode):  # a pipe or a device has nothing to lose
                    self.truncate(0)
        return super().write(text)
