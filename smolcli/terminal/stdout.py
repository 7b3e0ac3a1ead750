"""Standard output carries answers alone: native libraries and stray prints go to standard error."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator

from smolcli.errors import OutputError, ReaderGone


class AnswerStream(io.TextIOWrapper):
    """UTF-8 text to `file`, called `name` in errors; after a failure nothing more is written.

    `write` and `flush` raise OutputError, or BrokenPipeError where the reader has gone.
    """

    def __init__(self, file: io.FileIO, name: str) -> None:
        super().__init__(io.BufferedWriter(file), encoding="utf-8", errors="surrogateescape", newline="\n")
        self.called = name
        self._flushed: int | None = None  # the end of what is whole, in a file

    def write(self, text: str) -> int:
        with self._told():
            return super().write(text)

    def flush(self) -> None:
        with self._told():
            super().flush()
            if stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                self._flushed = os.lseek(self.fileno(), 0, os.SEEK_CUR)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._flushed is not None:  # of a record half written nothing stays
                with contextlib.suppress(OSError):
                    os.ftruncate(self.fileno(), self._flushed)
            redirect_to_devnull(self.fileno())  # what is still buffered would fail again when the stream is closed
            if isinstance(error, BrokenPipeError):
                raise
            raise cannot_write(self.called, error) from error


def cannot_write(name: str, error: OSError) -> OutputError:
    """The error for an output called `name`."""
    return OutputError(f"{name}: cannot be written ({error.strerror})", "what was written before is whole")


def write_stderr(text: str) -> None:
    """Standard output of a command that has no writer; OutputError, or ReaderGone where nobody reads it any more."""
    try:
        print(text, end="", flush=True)
    except OSError as error:
        redirect_to_devnull(1)  # what is still buffered would fail again at the end
        if isinstance(error, BrokenPipeError):
            raise ReaderGone("standard output") from None  # Typer would make an exit code 1 of the system's error
        raise cannot_write("standard output", error) from error


def redirect_to_devnull(fileno: int) -> None:
    """Sends what a file descriptor is given from now on to nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, fileno)
    os.close(nowhere)


def open_closed_streams() -> None:
    """Opens standard streams that the caller closed (`>&-`) on the null device: no file shall take their numbers.

    Standard output cannot be written then, as it could not before: an answer that goes nowhere is a failure.
    """
    for fileno, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fileno)
        except OSError:
            how = os.O_RDONLY if name == "stdout" else os.O_RDWR
            os.open(os.devnull, how)  # takes the lowest free number, which is this
            setattr(sys, name, open(fileno, mode, encoding="utf-8"))


def claim_stdout() -> AnswerStream:
    """The real standard output, for a writer alone; call it once, before any library is loaded."""
    sys.stdout.flush()
    own = AnswerStream(io.FileIO(os.dup(1), "w"), "standard output")
    os.dup2(2, 1)
    return own
