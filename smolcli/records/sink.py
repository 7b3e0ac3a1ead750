"""Where records go when they are done: the writer, the sidecars, the index of --resume, and the count of outcomes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from threading import RLock
from typing import TYPE_CHECKING

from smolcli.errors import ErrorKind, Exit, InputError
from smolcli.records.notices import NoticeCounter, restarted
from smolcli.records.page_records import has_failed_page
from smolcli.terminal.console import Console
from smolcli.types import Fault, Record
from smolcli.writers.base import Writer
from smolcli.writers.columns import title_of

if TYPE_CHECKING:
    from smolcli.records.resume import InputState, ResultsFile
    from smolcli.terminal.progress import Progress
    from smolcli.writers.companions import Companion

SYNC_SECONDS = 5.0  # of records that a power cut may lose; a resumed run makes them again


def _subject(path: str, message: str) -> str:
    """What is wrong with an input as a sentence; `-` is standard input."""
    is_of_stdin = path == "-" and message.startswith(("is ", "has ", "cannot "))
    return f"standard input {message}" if is_of_stdin else f"{path}: {message}"


class RecordSink:
    """Writes each record to every output and counts outcomes, from which the exit code follows.

    `split` makes several records of one, as --split-pages does of a document's; each counts by itself.
    """

    def __init__(
        self,
        writer: Writer,
        console: Console,
        *,
        sidecars: Companion | None = None,
        results: ResultsFile | None = None,
        progress: Progress | None = None,
        fail_fast: bool = False,
        verbose: bool = False,
        split: Callable[[Record], Sequence[Record]] | None = None,
    ) -> None:
        self._writer, self._console, self._fail_fast, self._verbose = writer, console, fail_fast, verbose
        self._sidecars, self._results, self._progress = sidecars, results, progress
        self._split = split
        self._lock = RLock()  # inputs are skipped in the thread that finds them
        self.done = self.failed = self.skipped = self.failed_before = 0
        self.partly_failed = 0  # documents with an answer of which a page could not be read, by this or an earlier run
        self.left_alone = 0  # inputs that are not looked at because their sidecars exist
        self.failed_kinds: Counter[ErrorKind] = Counter()
        self.notes: list[str] = []  # about the whole run, for the end of its last line
        self._counted_notices = NoticeCounter()
        self._has_told_restart = False
        self._synced_at = time.monotonic()

    def expect_many(self) -> None:
        """Expect several records, where it looked as if there would be one."""
        self._writer.has_many = True

    def write_piece(self, text: str) -> None:
        """Show a piece of an answer while it is generated; only for a run of one input."""
        self._writer.write_piece(text)

    def notice(self, message: str) -> None:
        """Tell the user something about the run."""
        self._console.notice(message)

    def note_restart(self, kind: ErrorKind, path: str) -> None:
        """Tell the user that the engine was lost and started again; the arguments are those of notices.restarted.

        It is told once a run, since a machine with too little memory loses the engine often.
        """
        if not self._has_told_restart:
            self._has_told_restart = True
            self.notice(restarted(kind, path))

    def show_video_progress(self, path: str, done: int, of: int, frames: int) -> None:
        """Show that `done` of the `of` notes on a video of `frames` frames have been made."""
        if self._progress is not None:
            self._progress.show_video_progress(path, done, of, frames)

    def show_page_progress(self, path: str, page: int, of: int) -> None:
        """Show that page number `page` of the `of` pages of a document is being read."""
        if self._progress is not None:
            self._progress.show_page_progress(path, page, of)

    def write_record(self, record: Record) -> bool:
        """Write one record and return whether the run should go on.

        The sidecars come first, because the record says that everything about the input is done; if they cannot be
        written, the record becomes a failed one. Raises OutputError, and BrokenPipeError if nobody reads the output.
        """
        with self._lock:
            return self._write_record(record)

    def _write_record(self, record: Record) -> bool:
        if self._sidecars is not None:
            try:
                record = self._sidecars.write(record)
            except InputError as error:
                record = record.failed(Fault(error.kind, str(error)))
        if self._verbose and record.error is None:
            tokens = record.tokens
            counts = f"{tokens.image} tokens of pictures, {tokens.prompt} with the question, {tokens.new} of the answer"
            self._console.notice(f"{record.path}: {counts}")
        if self._progress is not None:
            self._progress.record(record.path, record.tokens.new, record.error is not None)
        is_answered = True
        for part in [record] if self._split is None else self._split(record):
            if self._results is not None and self._results.has_page(part):
                self.skipped += 1  # another page has failed, or the earlier run has ended before the last one
                continue
            self.count_outcome(title_of(part), part.error, part.notices)
            self.partly_failed += part.error is None and has_failed_page(part.data)
            self._write_line(part)
            is_answered &= part.error is None
        return is_answered or not self._fail_fast

    def _write_line(self, record: Record) -> None:
        offset = self._writer.position if self._results is not None else 0
        self._writer.write(record)
        if self._results is not None:
            self._results.add(record, offset)
            if time.monotonic() - self._synced_at > SYNC_SECONDS:
                self._synced_at = time.monotonic()
                os.fsync(self._writer.stream.fileno())
        if self._progress is not None:
            self._progress.show()

    def count_outcome(self, path: str, fault: Fault | None, notices: Sequence[str]) -> None:
        """Count one input as done, and as failed if there is a `fault`; print the fault and the notices."""
        self.done += 1
        if fault is not None:
            self.failed += 1
            self.failed_kinds[fault.kind] += 1
            self._console.error(_subject(path, fault.what), fault.advice)
        for notice in notices:
            if not self._counted_notices.add(path, notice):
                self._console.notice(f"{path}: {notice}")

    def skip(self, path: str, state: InputState = "done", id: str = "") -> None:
        """Count an input that has a record from an earlier run, in this `state`.

        Sidecars that the earlier run was not asked for are written from its record. `id` is the id of the record if it
        is known. Raises OutputError.
        """
        with self._lock:
            if self._sidecars is not None and self._results is not None and state != "failed":
                state = state if self._complete_sidecars(self._sidecars, self._results, path, id) else "failed"
            self.skipped += 1
            self.failed_before += state == "failed"
            self.partly_failed += state == "partly-failed"
            if self._progress is not None:
                self._progress.skip(path)

    def _complete_sidecars(self, sidecars: Companion, results: ResultsFile, path: str, id: str) -> bool:
        """Write the sidecars that an input's record lacks; returns False, and says why, if that fails."""
        try:
            changed = sidecars.complete(path, lambda: results.record(path, id))
        except InputError as error:
            self._console.error(f"{path}: {error.what}", error.advice)
            return False
        if changed is not None:  # the file has another stamp now, by which the next run knows it
            self._write_line(changed)
        return True

    def leave_alone(self, path: str) -> None:
        """Count an input that is not looked at because its sidecars, which are all that is asked for, exist."""
        with self._lock:
            self.left_alone += 1
            if self._progress is not None:
                self._progress.skip(path)

    def closing_notices(self) -> Iterator[str]:
        """Yield what is said once, at the end of a run, of all its inputs."""
        yield from self._counted_notices.lines()
        if self._sidecars is not None:
            yield from self._sidecars.closing_notices(self.left_alone)

    @property
    def exit_code(self) -> Exit:
        """The exit code of the whole run, from the counts."""
        kept = self.skipped + self.left_alone
        if self.done == self.failed_kinds[ErrorKind.NO_INPUT] and not kept:
            return Exit.NO_INPUT
        failed = self.failed + self.failed_before
        if not failed:
            return Exit.SOME_FAILED if self.partly_failed else Exit.OK
        return Exit.SOME_FAILED if failed < self.done + kept else Exit.ALL_FAILED
