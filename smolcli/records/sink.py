"""Where records go as they are done: standard output or a file, sidecars, the count."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smolcli.errors import Exit, InputError
from smolcli.terminal.console import Console
from smolcli.types import Fault, Record
from smolcli.writers.base import Writer

if TYPE_CHECKING:
    from smolcli.records.resume import ResultsFile
    from smolcli.terminal.progress import Progress
    from smolcli.writers.sidecar import Sidecars

KEEP_SECONDS = 5.0  # of records that a power cut may take; a resumed run makes them again


class RecordSink:
    """Gives every record where it belongs, and keeps the count that becomes the exit code."""

    def __init__(
        self,
        writer: Writer,
        console: Console,
        *,
        sidecars: Sidecars | None = None,
        results: ResultsFile | None = None,
        progress: Progress | None = None,
        fail_fast: bool = False,
        verbose: bool = False,
    ) -> None:
        self._writer, self._console, self._fail_fast, self._verbose = writer, console, fail_fast, verbose
        self._sidecars, self._results, self._progress = sidecars, results, progress
        self.done = self.failed = self.skipped = self.failed_before = 0
        self._empty = 0
        self._kept_at = time.monotonic()

    def piece(self, text: str) -> None:
        """A bit of the one answer, as it is made."""
        if self._progress is not None:
            self._progress.clear()
        self._writer.piece(text)

    def part(self, path: str, done: int, of: int, frames: int) -> None:
        """Of the notes on a video, which has so many frames, so many are made."""
        if self._progress is not None:
            self._progress.part(path, done, of, frames)

    def take(self, record: Record) -> bool:
        """One record; whether the run is to go on. Raises OutputError, and BrokenPipeError where nobody reads."""
        if self._sidecars is not None:
            try:  # before the record, which says that all is done
                self._sidecars.write(record)
            except InputError as error:
                record = record.failed(Fault(error.kind, str(error)))
        self.count(record.path, record.error, record.notices)
        if self._verbose and record.error is None:
            tokens = record.tokens
            what = f"{tokens.image} tokens of pictures, {tokens.prompt} with the question, {tokens.new} of the answer"
            self._console.notice(f"{record.path}: {what}")
        if self._progress is not None:
            self._progress.clear()
        at = self._writer.position if self._results is not None else 0
        self._writer.write(record)
        if self._results is not None:
            self._results.add(record, at)
            if time.monotonic() - self._kept_at > KEEP_SECONDS:
                self._kept_at = time.monotonic()
                os.fsync(self._writer.stream.fileno())
        if self._progress is not None:
            self._progress.record(record.path, record.tokens.new, record.error is not None)
        return record.error is None or not self._fail_fast

    def count(self, path: str, fault: Fault | None, notices: Sequence[str]) -> None:
        """One more is done, or failed, and what people are told of it."""
        self.done += 1
        if fault is not None:
            self.failed += 1
            self._empty += fault.kind == "no-input"
            self._console.error(f"{path}: {fault.message}")
        for notice in notices:
            self._console.notice(f"{path}: {notice}")

    def skip(self, path: str, failed: bool = False, id: str = "") -> None:
        """An input that has its answer already, or `failed` in a run before; `id` is its record's, if known."""
        self.skipped += 1
        self.failed_before += failed
        if self._progress is not None:
            self._progress.skip(path)

    @property
    def exit_code(self) -> Exit:
        """What the whole run comes to, by CLI.md."""
        if self.done == self._empty and not self.skipped:
            return Exit.NO_INPUT
        failed = self.failed + self.failed_before
        if not failed:
            return Exit.OK
        return Exit.SOME_FAILED if failed < self.done + self.skipped else Exit.ALL_FAILED
