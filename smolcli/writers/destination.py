"""Where an output is written: the real standard output, or a file."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Protocol, TextIO

from smolcli import registry
from smolcli.errors import UsageError
from smolcli.terminal.stdout import AnswerStream

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Names of standard output. They are not opened: claim_stdout has made descriptor 1 lead to standard error.
STDOUT_NAMES = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def format_of(path: Path, known: Container[str]) -> str:
    """Return the format that the suffix of `path` stands for, if it is one of `known`; otherwise text."""
    suffix = path.suffix.lower().removeprefix(".")
    return {"ndjson": "jsonl", "markdown": "md"}.get(suffix, suffix if suffix in known else "text")


class FormatOptions(Protocol):
    """The options that choose the format of records, and of sidecars."""

    @property
    def format(self) -> str | None: ...
    @property
    def template(self) -> str | None: ...
    @property
    def output(self) -> Path | None: ...
    @property
    def sidecar(self) -> tuple[str, ...]: ...


def sidecar_template(options: FormatOptions) -> str | None:
    """Return the template of the text sidecars; without any, --template is the format of the records."""
    return options.template if any(map(registry.is_text_sidecar, options.sidecar)) else None


def chosen_format(options: FormatOptions, otherwise: str | None) -> str | None:
    """Return the format of the records: `template`, that of --format or of the suffix of -o, else `otherwise`."""
    if options.template is not None and sidecar_template(options) is None:
        return "template"
    if options.format is not None:
        return options.format
    if options.output is not None:
        return format_of(options.output, {**registry.WRITERS, **registry.FOREIGN_FORMATS})
    return otherwise


@contextlib.contextmanager
def destination(path: Path | None, stdout: TextIO, resume: bool = False) -> Iterator[TextIO]:
    """Open the stream to write to: `stdout` if `path` is None or a name of standard output, else the file.

    What the file held is deleted at the first write, or never with `resume`. The file is locked, so that no second run
    writes to it. Raises UsageError if it cannot be opened or another run writes to it.
    """
    if path is None or str(path) in STDOUT_NAMES:
        yield stdout
        return
    try:
        file = io.FileIO(path, "a")
        stream = AnswerStream(file, str(path)) if resume else _ReplacingStream(file, str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})", "choose another file with -o") from error
    with stream:
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            lock_exclusively(stream.fileno(), path)
        yield stream


def lock_exclusively(fileno: int, path: Path) -> None:
    """Lock an open file for this process until it is closed; raises UsageError if another process has locked it."""
    if fcntl is None:
        return
    try:
        fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        advice = "wait for its end, or choose another file with -o"
        raise UsageError(f"{path}: another run writes to it", advice) from None
    except OSError:
        pass  # a file system without locks


class _ReplacingStream(AnswerStream):
    """A file whose old content is deleted at the first write, not when it is opened."""

    _has_old_content = True

    def write(self, text: str) -> int:
        if self._has_old_content and text:
            self._has_old_content = False
            with self._convert_errors():
                if stat.S_ISREG(os.fstat(self.fileno()).st_mode):  # a pipe or a device has no content
                    self.truncate(0)
        return super().write(text)
