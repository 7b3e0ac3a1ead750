"""The records that a results file holds, so that --resume goes on where an earlier run ended, for whatever reason.

    results = ResultsFile(Path("out.jsonl"), identity)
    results.repair_torn_tail()
    results.read()
    results.state_by_stamp("a.png")                              # from the file's path and stamp, without reading it
    results.answer(id)                                  # the record of the same content, under any path
    results.add(record, offset)

48 bytes a record are kept in memory; a record itself is read again from the file when its answer is needed.
"""

from __future__ import annotations

import json
import os
import re
from binascii import unhexlify
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import IO, Any, Literal, NamedTuple

from smolcli.errors import OutputError, UsageError
from smolcli.records.offset_index import OffsetIndex
from smolcli.records.page_records import has_failed_page
from smolcli.records.record_id import Identity, page_content
from smolcli.records.stored import NO_TEXT, as_record, is_record
from smolcli.system.atomic_file import atomic_write
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Record, pluralize
from smolcli.writers.destination import lock_exclusively

# The beginning and the end of a line as writers/json_lines.py makes it; any other line is parsed as JSON, which takes
# ten times as long. A record that other programs have changed may have its keys in another order and keys of its own.
_BEGINNING = re.compile(
    rb'\{"path": "([^"\\]*)", "id": "([0-9a-f]{64})", "sha256": "([0-9a-f]*)", "stamp": "([^"\\]*)", '
)
_END = re.compile(rb'(?:, "page": (null|\d+), "is_last_page": (true|false))?, "error": null\}\r?\n$')
_END_BYTES = 80  # of a line, in which that is found
_START = b'{"path": "'
_PAGE_ERROR = b', "error": {"kind": "'  # of a page in the data of a record
_FAILED = -1  # stored in the index instead of an offset
LARGE = 2**25  # bytes; some 70,000 records, read in half a second
_WHOLE = 0  # stands for a document in place of the number of a page
_PAGE_SEPARATOR = b"\0#"  # between the path and the number of a page; no path has a NUL in it
# Of an input: no record, one with an answer, one with an answer that lacks pages, a failed record.
InputState = Literal["new", "done", "partly-failed", "failed"]
_TAIL = 2**16  # bytes
COUNTED = 2**28  # bytes, read in a tenth of a second once they are in memory
_FIELDS = Record.__dataclass_fields__.keys()


class _Line(NamedTuple):
    """What is known of a record in the file: `id` is 32 bytes, `sha256` in hex."""

    path: bytes
    id: bytes
    sha256: bytes
    stamp: bytes
    is_failed: bool
    page: int | None = None
    is_last_page: bool = False
    has_failed_page: bool = False  # whether it is about several pages, and one of them could not be read


class _Flawed(NamedTuple):
    """The last records under a key that a later one may replace, by their offsets; None where there is none.

    `failed` has no answer, `partly_failed` has failed pages beside others.
    """

    failed: int | None = None
    partly_failed: int | None = None


class ResultsFile:
    """The records of one job (one Identity) in a JSON Lines file; records of other jobs in it are left as they are.

    Its methods may be called from several threads.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path, self._identity = path, identity
        self._lock = Lock()  # inputs are looked up in one thread while records are added in another
        self._index = OffsetIndex()  # (path, stamp), (path, id) and id -> offset of the record in the file, or _FAILED
        self._flawed: dict[bytes, _Flawed] = {}  # by path, with --split-pages and page
        # Path -> pages without a later record that has an answer; without --split-pages _WHOLE for all of them.
        self._failed_pages: dict[bytes, set[int]] = {}
        self._outdated: set[int] = set()  # offsets of records that later ones of the same path replace

    @property
    def is_large(self) -> bool:
        """Whether reading the file takes noticeably long."""
        return self._path.exists() and self._path.stat().st_size > LARGE

    def repair_torn_tail(self) -> int:
        """Cut off an incomplete last line and return the number of bytes removed.

        Raises UsageError for a file that holds something other than records or that another run writes to, OutputError
        if it cannot be changed.
        """
        if not self._path.exists():
            return 0
        try:
            with self._path.open("r+b") as file:
                lock_exclusively(file.fileno(), self._path)
                return _repair_torn_tail(file, self._path)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be resumed ({error.strerror})", "check its rights") from error

    def read(self) -> None:
        """Index the records of the file. Raises UsageError for a file that holds something other than records."""
        with self._path.open("rb", buffering=2**20) as file:
            self._index.load(self._entries_of_file(file))

    @staticmethod
    def is_skipped(state: InputState, retry_failed: bool) -> bool:
        """Whether a resumed run skips an input in this state: it has an answer, or it failed and is not retried."""
        return state == "done" or (state in ("partly-failed", "failed") and not retry_failed)

    def state_by_stamp(self, path: str, stamp: str | None = None) -> InputState:
        """Return the state of the file `path` by its stamp alone, without reading it.

        A changed file is "new". So is what has no stamp (a URL) unless it failed: only its content tells.
        """
        stamp = stamp_of(path) if stamp is None else stamp
        with self._lock:
            state = self._state(_bytes(path), self._index.find((_bytes(path), stamp.encode())))
        return state if stamp or state == "failed" else "new"

    def state_by_id(self, path: str, id: str, stamp: str = "") -> InputState:
        """Return the state of an input that has been read: by its path and `id`, or by its path and stamp."""
        with self._lock:
            offset = self._index.find((_bytes(path), bytes.fromhex(id)))
            if offset is None and stamp:
                offset = self._index.find((_bytes(path), stamp.encode()))
            return self._state(_bytes(path), offset)

    def has_page(self, record: Record) -> bool:
        """Whether the record of a page, with an answer, is in the file; False for that of a whole input."""
        if record.page is None:
            return False
        with self._lock:
            offset = self._index.find((_bytes(record.path), bytes.fromhex(record.id)))
        return offset is not None and offset != _FAILED

    def answer(self, id: str) -> Record | None:
        """Return a record with this id that has an answer, of any path, or None, also where it cannot be read."""
        with self._lock:
            offset = self._index.find(bytes.fromhex(id))
        record = self._record_at(offset)
        return record and replace(record, embedded=False)  # nothing was written into the other file

    def record(self, path: str, id: str = "") -> Record | None:
        """Return the record of an input that is done: by its `id`, or where that is not known by its path and stamp."""
        key = (_bytes(path), bytes.fromhex(id) if id else stamp_of(path).encode())
        with self._lock:
            offset = self._index.find(key)
        if offset is None and id and (copied := self.answer(id)) is not None:
            return replace(copied, path=path)
        record = self._record_at(offset)
        return None if record is not None and record.page is not None else record  # of one page, with --split-pages

    def _record_at(self, offset: int | None) -> Record | None:
        if offset is None or offset == _FAILED:
            return None
        with self._path.open("rb") as file:
            fields = _fields_at(file, offset)
        if not is_record(fields):
            return None  # another program has changed it: the input is answered anew
        return as_record(fields) if fields.get("error") is None else None

    def add(self, record: Record, offset: int) -> None:
        """Index a record that has been written at the byte `offset` of the file."""
        line = _Line(
            _bytes(record.path), bytes.fromhex(record.id), record.sha256.encode(), record.stamp.encode(),
            record.error is not None, record.page, record.is_last_page, has_failed_page(record.data),
        )  # fmt: skip
        with self._lock:
            entries = self._entries(line, offset)
            if record.page is None:
                by_stamp, by_id, by_content = entries
                # One of the two is enough: with a stamp, the file is looked up before it is read.
                entries = (by_stamp if line.stamp else by_id, by_content)
            for key, value in entries:
                self._index.add(key, value)

    def compact(self) -> None:
        """Rewrite the file without the failed records that have a later one of the same path, if there are any.

        One that has failed pages alone is removed where the later one has an answer. What somebody has added keys to
        stays. Raises OutputError, and leaves the file unchanged, if it cannot be rewritten.
        """
        if not self._outdated:
            return
        target = Path(os.path.realpath(self._path))
        try:
            with target.open("rb") as old:
                lock_exclusively(old.fileno(), self._path)
                removable = {offset for offset in self._outdated if _is_bare_flaw(_fields_at(old, offset))}
                if not removable:
                    return
                old.seek(0)
                with atomic_write(target, sync=True, keep_mode=True) as new:
                    _copy_without(removable, old, new)
        except OSError as error:
            raise OutputError(
                f"{self._path}: the failed records of inputs that were tried again cannot be removed "
                f"({error.strerror})", "the file is whole and has both records",
            ) from error  # fmt: skip

    def _entries_of_file(self, file: IO[bytes]) -> Iterator[tuple[Hashable, int]]:
        digest_of, offset = self._identity.digest_of, 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn, and not repaired: a dry run changes nothing
            if line[0] > 32 or line.strip(NO_TEXT):
                try:
                    parsed = _parse(line)
                except ValueError:
                    raise _not_records(self._path, number) from None
                if parsed.id == digest_of(page_content(parsed.sha256, parsed.page)):
                    yield from self._entries(parsed, offset)
            offset += len(line)

    def _entries(self, line: _Line, offset: int) -> tuple[tuple[Hashable, int], ...]:
        """Return the index entries of a record: by path and stamp, by path and id, by id.

        That of a page has one by path and id, and the last one of a document those of the document's path too.
        """
        path, page = line.path, line.page
        self._note_flaw(path if page is None else b"%s%s%d" % (path, _PAGE_SEPARATOR, page), line, offset)
        value = _FAILED if line.is_failed else offset
        if page is None:
            if not line.is_failed:
                self._set_failed_pages(path, {_WHOLE} if line.has_failed_page else set())
            # A copy of a document is read itself where pages of the other one failed.
            by_content = _FAILED if line.has_failed_page else value
            return ((path, line.stamp), value), ((path, line.id), value), (line.id, by_content)
        self._note_page(path, page, line)
        if not line.is_last_page:
            return (((path, line.id), value),)
        self._note_flaw(path, line._replace(is_failed=False), offset)
        document_id = self._identity.digest_of(line.sha256)
        return ((path, line.id), value), ((path, line.stamp), offset), ((path, document_id), offset)

    def _note_flaw(self, key: bytes, line: _Line, offset: int) -> None:
        """Note that a record has failed, or a page of it, and that those before it under the same key are outdated.

        A record that failed is no reason to remove one with an answer.
        """
        flawed = self._flawed.pop(key, _Flawed()) if self._flawed else _Flawed()
        replaced = (flawed.failed,) if line.is_failed else flawed
        self._outdated.update(before for before in replaced if before not in (None, offset))
        if line.is_failed:
            self._flawed[key] = flawed._replace(failed=offset)
        elif line.has_failed_page:
            self._flawed[key] = _Flawed(partly_failed=offset)

    def _note_page(self, path: bytes, page: int, line: _Line) -> None:
        """Note which pages of a document have failed; after its last page there are no others."""
        failed = self._failed_pages.get(path, set())
        failed = {other for other in failed if other != page and not (line.is_last_page and other > page)}
        self._set_failed_pages(path, failed | {page} if line.is_failed else failed)

    def _set_failed_pages(self, path: bytes, failed: set[int]) -> None:
        if failed:
            self._failed_pages[path] = failed
        elif self._failed_pages:
            self._failed_pages.pop(path, None)

    def _state(self, path: bytes, offset: int | None) -> InputState:
        """The state of an input by the offset of its record."""
        if offset is None:
            return "new"
        if offset == _FAILED:
            return "failed"
        return "partly-failed" if path in self._failed_pages else "done"


def replaced_records(path: Path) -> str:
    """Say how many records of the file `path` a run without --resume will replace; "" where there are none.

    Only lines are counted, and no more than COUNTED bytes are read.
    """
    if not path.is_file():  # a pipe or a device keeps nothing
        return ""
    try:
        with path.open("rb") as file:
            first = next((line for line in iter(lambda: file.readline(COUNTED), b"") if line.strip(NO_TEXT)), b"")
            _parse(first)
            count, last = 1, first
            while file.tell() < COUNTED and (chunk := file.read(2**20)):
                count += chunk.count(b"\n")
                last = chunk
            over = "over " if file.read(1) else ""
    except (OSError, ValueError):
        return ""
    count += not (over or first is last or last.endswith(b"\n"))
    return f"replaces {over}{pluralize(count, 'record')} of {path}; --resume would keep them"


def _parse(line: bytes) -> _Line:
    """Return what one line's record is. Raises ValueError if the line is not a record."""
    match, end = _BEGINNING.match(line), _END.search(line, max(0, len(line) - _END_BYTES))
    if match and end and _PAGE_ERROR not in line:
        path, id, sha256, stamp = match.groups()
        page = None if end[1] in (None, b"null") else int(end[1])
        return _Line(path, unhexlify(id), sha256, stamp, False, page, end[2] == b"true")
    try:
        fields = json.loads(line)
        id, sha256, stamp = (fields.get(key, "").encode() for key in ("id", "sha256", "stamp"))
        page = fields.get("page") if isinstance(fields.get("page"), int) else None
        is_failed, is_last = fields["error"] is not None, fields.get("is_last_page") is True
        failed_page = has_failed_page(fields.get("data"))
        return _Line(_bytes(fields["path"]), unhexlify(id), sha256, stamp, is_failed, page, is_last, failed_page)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a record") from error


def _fields_at(file: IO[bytes], offset: int) -> dict[str, Any]:
    """Return the JSON object of the line that begins at `offset`; an empty one where there is none."""
    file.seek(offset)
    try:
        fields = json.loads(file.readline())
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_bare_flaw(fields: dict[str, Any]) -> bool:
    """Whether a line's object is a record that failed, or has failed pages, without keys that somebody has added."""
    return (fields.get("error") is not None or has_failed_page(fields.get("data"))) and fields.keys() <= _FIELDS


def _copy_without(removable: set[int], old: IO[bytes], new: IO[bytes]) -> None:
    """Copy the lines of `old` but for those that begin at the `removable` offsets."""
    offset = 0
    for line in old:
        if offset not in removable:
            new.write(line)
        offset += len(line)


def _repair_torn_tail(file: IO[bytes], source: Path) -> int:
    """Cut off a torn record, or zeros, at the end of `file`; return the number of bytes removed."""
    size = start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        start = max(0, start - _TAIL)
        file.seek(start)
        tail = file.read(size - start)
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last:
        return 0
    try:
        _parse(last)
    except ValueError:
        if last.startswith(_START) or _START.startswith(last) or not last.strip(b"\0"):
            file.truncate(size - len(last))
            return len(last)
        if last.strip(NO_TEXT):
            raise _not_records(source) from None
    file.seek(0, os.SEEK_END)
    file.write(b"\n")  # only the newline was missing
    return 0


def _not_records(source: Path, line: int | None = None) -> UsageError:
    place = "" if line is None else f" in line {line}"
    return UsageError(f"{source}: holds something other than records{place}", "choose another file with -o")


def _bytes(path: str) -> bytes:
    """Encode a path as it stands in the file, whatever the locale."""
    return path.encode("utf-8", "surrogateescape")
