"""Standard output carries answers only: what native libraries and stray prints write goes to standard error."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from smolcli.errors import OutputError, ReaderGone

if TYPE_CHECKING:
    from smolcli.terminal.status_line import StatusLine


class AnswerStream(io.TextIOWrapper):
    """A stream of UTF-8 text to `file`, which error messages call `name`; after a failure it writes nothing more.

    `write` and `flush` raise OutputError, or BrokenPipeError if the reader has closed the other end. On a terminal with
    a `status_line` each `write` reaches the terminal at once, and ends with that line.
    """

    status_line: StatusLine | None = None

    def __init__(self, file: io.FileIO, name: str) -> None:
        super().__init__(io.BufferedWriter(file), encoding="utf-8", errors="surrogateescape", newline="\n")
        self.display_name = name
        self._flushed_end: int | None = None  # of a regular file: the byte after the last whole record
        self._is_flushed = False  # whether nothing was written since

    def write(self, text: str) -> int:
        self._is_flushed = False
        with self._convert_errors():
            if self.status_line is None:
                return super().write(text)
            with self.status_line.lock:
                super().write(self.status_line.above(text))
                super().flush()
            return len(text)

    def flush(self) -> None:
        with self._convert_errors():
            super().flush()
            if stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                self._flushed_end = os.lseek(self.fileno(), 0, os.SEEK_CUR)
                self._is_flushed = True

    def tell(self) -> int:
        """The byte offset at which the next text will begin. It is asked for before each record."""
        return self._flushed_end if self._is_flushed and self._flushed_end is not None else super().tell()

    @contextlib.contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._flushed_end is not None:  # remove the part of a record that was written
                with contextlib.suppress(OSError):
                    os.ftruncate(self.fileno(), self._flushed_end)
            redirect_to_devnull(self.fileno())  # what is still buffered would fail again when the stream is closed
            if isinstance(error, BrokenPipeError):
                raise
            raise cannot_write(self.display_name, error) from error


def cannot_write(name: str, error: OSError) -> OutputError:
    """Return the error for an output called `name` that cannot be written."""
    return OutputError(f"{name}: cannot be written ({error.strerror})", "what was written before is whole")


def write_stdout(text: str) -> None:
    """Write `text` to standard output, for a command without a Writer.

    Raises OutputError, or ReaderGone if the reader has closed the other end.
    """
    try:
        print(text, end="", flush=True)
    except OSError as error:
        redirect_to_devnull(1)  # what is still buffered would fail again at the end
        if isinstance(error, BrokenPipeError):
            raise ReaderGone("standard output") from None  # Typer would make exit code 1 of a BrokenPipeError
        raise cannot_write("standard output", error) from error


def redirect_to_devnull(fileno: int) -> None:
    """Make a file descriptor lead to the null device."""
    devnull = os.open(os.devnull, os.O_RDWR)
    os.dup2(devnull, fileno)
    os.close(devnull)


def open_closed_streams() -> None:
    """Open standard streams that the caller closed (`>&-`) on the null device, so that no file gets their numbers.

    A closed standard output is opened for reading only, so that writing an answer to it still fails.
    """
    for fileno, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fileno)
        except OSError:
            flags = os.O_RDONLY if name == "stdout" else os.O_RDWR
            os.open(os.devnull, flags)  # gets the lowest free number, which is `fileno`
            setattr(sys, name, open(fileno, mode, encoding="utf-8"))


def claim_stdout() -> AnswerStream:
    """Return the real standard output, for a writer, and make descriptor 1 lead to standard error for all others.

    Call it once, before any native library is loaded: what one prints then never gets between two records.
    """
    sys.stdout.flush()
    answers = AnswerStream(io.FileIO(os.dup(1), "w"), "standard output")
    os.dup2(2, 1)
    return answers
