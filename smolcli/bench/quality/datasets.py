"""Reads the user's labelled data row by row: pictures, a question about them, and the right answers.

    a file or folder -> its format, from its content -> values by column -> Row, or BadRow

The formats are JSON Lines or a JSON array, a table with commas, semicolons or tabs (such as VLMEvalKit's TSV), parquet
as on the Hugging Face hub, and a folder of pictures with a .txt beside each. Only parquet needs a library.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from smolcli import registry
from smolcli.bench.quality.rows import (
    ANSWERS,
    CHOICES,
    JSON,
    TRANSCRIPT,
    BadRow,
    Row,
    category_beside,
    columns_of,
    is_known,
    reason,
    row_of,
)
from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.walk import SUFFIXES, FileFilter, walk
from smolcli.types import Source

MAX_LINE = 2**26  # bytes; for a cell csv needs four times as much memory
MAX_LINES = 1000  # of one record of a table
KINDS = "give JSON Lines, CSV, TSV, parquet, or a folder of pictures with a .txt beside each or a metadata.jsonl"
PAGES = SUFFIXES["image"] | {".pdf"}  # what may have a .txt beside it
# The files of the Hugging Face hub's ImageFolder that label the pictures in their folder and below.
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def read(path: Path) -> Iterator[Row | BadRow]:
    """Yield the rows of a data set in their order.

    Pictures in files are not opened, but must exist; paths are relative to the data set's folder. Raises InputError
    if the whole data set cannot be used, UnavailableError if its format needs a library that is not installed.
    """
    try:
        yield from _folder(path) if path.is_dir() else _file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})", "check its permissions") from error


def _folder(path: Path) -> Iterator[Row | BadRow]:
    os.scandir(path).close()  # raises OSError if the folder cannot be listed
    files = list(walk(str(path), True, FileFilter(include=("*",))))
    if labels := [file for file in files if os.path.basename(file).lower() in METADATA]:
        yield from _image_folder(path, labels, files)
        return
    if shards := [file for file in files if file.lower().endswith(".parquet")]:
        yield from _parquet(path, shards)
        return
    stems = [(file, *os.path.splitext(file)) for file in files]
    pictures = {stem for _, stem, suffix in stems if suffix.lower() in PAGES}
    texts = {stem: file for file, stem, suffix in stems if suffix.lower() == ".txt"}
    if not pictures and not texts:
        raise InputError(f"{path} has neither pictures nor parquet files", KINDS, kind=ErrorKind.NO_INPUT)
    for file, stem, suffix in stems:
        name = _below(path, file)
        if stem in pictures and suffix.lower() in PAGES:
            yield _pair(name, file, texts.get(f"{stem}.gt") or texts.get(stem))
        elif suffix.lower() == ".txt" and not {stem, stem.removesuffix(".gt")} & pictures:
            yield BadRow(name, "there is no picture of the same name; add it, or take the text away")
        elif os.path.isdir(file):
            yield BadRow(name, "cannot be listed; check its permissions")


def _image_folder(path: Path, labels: Sequence[str], files: Sequence[str]) -> Iterator[Row | BadRow]:
    """Yield the rows of the metadata files `labels`, then a BadRow for each picture that no row names."""
    labelled: set[str] = set()
    for label in labels:
        name, below = os.path.basename(label), _below(path, label)
        for row in _file(Path(label)):
            if isinstance(row, Row):
                labelled.update(os.path.normpath(source.word) for source in row.sources if source.data is None)
            yield replace(row, name=below + row.name.removeprefix(name)) if len(labels) > 1 else row
    for file in files:
        if os.path.splitext(file)[1].lower() in SUFFIXES["image"] and os.path.normpath(file) not in labelled:
            yield BadRow(_below(path, file), f"no row of {os.path.basename(labels[0])} names it; add one")


def _pair(name: str, file: str, text: str | None) -> Row | BadRow:
    """The row of a picture and the text file with what is written in it."""
    if text is None:
        return BadRow(name, "there is no .txt of the same name; write what is right into one")
    if not os.path.isfile(file):
        return BadRow(name, "there is no such file; it is a link to nothing")
    try:
        with open(text, "rb") as opened:
            data = opened.read(MAX_LINE)
        answer = data.decode("utf-8-sig").replace("\r\n", "\n").strip() if len(data) < MAX_LINE else ""
    except UnicodeDecodeError:
        return BadRow(name, f"{os.path.basename(text)} is not UTF-8; save it as UTF-8")
    except OSError as error:
        return BadRow(name, f"{os.path.basename(text)} cannot be read ({error.strerror}); check its permissions")
    if not answer:
        return BadRow(name, f"{os.path.basename(text)} is empty or no text of a picture; write what is right into it")
    return Row(name, (Source(file),), "", (answer,), category=category_beside(text))


def _below(path: Path, file: str) -> str:
    return os.path.join(path.name, os.path.relpath(file, path))


def _file(path: Path) -> Iterator[Row | BadRow]:
    """Yield the rows of one file; its first bytes tell its format."""
    if not path.exists():
        raise InputError(f"there is no {path}", "check the path", kind=ErrorKind.MISSING)
    if not path.is_file():
        raise InputError(
            f"{path} is not a file that can be read twice", "give a file or a folder", kind=ErrorKind.UNSUPPORTED
        )
    with open(path, "rb") as file:
        head = file.read(2**12)
        if head.startswith(b"PAR1"):
            yield from _parquet(path, [str(path)])
            return
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{path} is UTF-16", "save it as UTF-8", kind=ErrorKind.UNSUPPORTED)
        file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
        text = head.removeprefix(codecs.BOM_UTF8).lstrip()
        if text.startswith(b"["):
            yield from _json_array(path, file)
        elif text.partition(b"\n")[0].strip() == b"{":
            raise InputError(
                f"{path} is one JSON object", "give an array, or an object a line", kind=ErrorKind.UNSUPPORTED
            )
        elif text.startswith(b"{") or path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
            yield from _json_lines(path, file)
        elif text:
            yield from _table(path, file)


class _Lines:
    """The lines of a file; one that is not text raises InputError, after which iteration continues with the next."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._next()
        if len(line) >= MAX_LINE:
            raise InputError(f"its line has more than {MAX_LINE:,} bytes", "give its pictures as files")
        if b"\0" in line:
            raise InputError("its line has a NUL byte", "write the file again")
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise InputError("its line is not UTF-8", "save the file as UTF-8") from None

    def continue_after(self, offset: int, number: int) -> None:
        """Continue after line `number`, which begins at byte `offset`."""
        self.file.seek(offset)
        self.number = number - 1
        self._next()

    def _next(self) -> bytes:
        line = rest = self.file.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
            rest = self.file.readline(MAX_LINE)
        return line


def _json_lines(path: Path, file: BinaryIO) -> Iterator[Row | BadRow]:
    lines = _Lines(file)
    while True:
        row: Row | BadRow | None = None
        try:
            line = next(lines, None)
            if line is None:
                return
            if line.strip():
                row = _object(f"{path.name}:{lines.number}", JSON.decode(line), path)
        except InputError as error:
            row = BadRow(f"{path.name}:{lines.number}", str(error))
        except (ValueError, RecursionError) as error:
            row = BadRow(f"{path.name}:{lines.number}", f"is not JSON ({reason(error)}); write one object a line")
        if row is not None:
            yield row


def _json_array(path: Path, file: BinaryIO) -> Iterator[Row | BadRow]:
    """Yield the rows of an array; only one element and the block it was read with are in memory."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text, at, number, begun = "", 0, 1, False
    while True:
        name = f"{path.name} row {number}"
        while at < len(text) and (text[at].isspace() or text[at] == ("," if begun else "[")):
            begun, at = begun or text[at] == "[", at + 1
        if text[at : at + 1] == "]":
            return
        try:
            value, end = JSON.raw_decode(text, at)
        except ValueError:  # it goes on in what is not read yet, or is wrong
            size = max(2**16, len(text) - at)
            more = decoder.decode(file.read(size)) if size <= MAX_LINE else ""
            if not more:
                yield BadRow(name, "the array is not JSON from here; nothing after it is read")
                return
            text, at = text[at:] + more, 0
        except RecursionError as error:
            yield BadRow(name, f"is {reason(error)}; nothing after it is read")
            return
        else:
            is_text = _is_utf8(text[at:end])
            yield _object(name, value, path) if is_text else BadRow(name, "is not UTF-8; save the file as UTF-8")
            number, at = number + 1, end


def _is_utf8(text: str) -> bool:
    """Whether no character stands for a byte that was not UTF-8 (surrogateescape)."""
    return text.isascii() or not re.search("[\udc80-\udcff]", text)


def _object(name: str, value: object, path: Path) -> Row | BadRow:
    """The row of a JSON value."""
    if not isinstance(value, dict):
        return BadRow(name, "is not a JSON object; write its columns as keys")
    try:
        columns = columns_of(value)
    except InputError as error:
        return BadRow(name, str(error))
    return row_of(name, {role: value[column] for role, column in columns.items()}, path.parent)


def _table(path: Path, file: BinaryIO) -> Iterator[Row | BadRow]:
    start = file.tell()
    csv.field_size_limit(MAX_LINE)
    tried = []
    for delimiter in "\t,;":
        file.seek(start)
        _, _, header = next(_records(_Lines(file), delimiter))
        if isinstance(header, list):
            tried.append((sum(map(is_known, header)), delimiter, header))
    known, delimiter, header = max(tried, default=(0, "", []))
    if not known:
        raise InputError(f"{path} is of no known kind", KINDS, kind=ErrorKind.UNSUPPORTED)
    try:
        columns = columns_of(header)
    except InputError as error:
        raise InputError(f"{path} {error.what}", error.advice, kind=ErrorKind.UNSUPPORTED) from None
    places = {role: header.index(column) for role, column in columns.items()}
    width = len(header)
    pictures = _PicturesByIndex(path, start, delimiter, width, places) if {"index", "image"} <= places.keys() else None
    file.seek(start)
    for line, _, cells in islice(_records(_Lines(file), delimiter, width), 1, None):
        name = f"{path.name}:{line}"
        if isinstance(cells, InputError):
            yield BadRow(name, str(cells))
        else:
            values = {role: cells[place] for role, place in places.items()}
            yield row_of(name, values, path.parent, pictures.cell if pictures else None)


def _records(lines: _Lines, delimiter: str, width: int = 0) -> Iterator[tuple[int, int, list[str] | InputError]]:
    """Yield the line number and byte offset at which each record begins, and its cells or what is wrong with it.

    After a malformed record reading continues with its second line, so that an unclosed quote does not hide the rows
    below.
    """
    while True:
        number, offset = lines.number + 1, lines.file.tell()
        cells: list[str] | InputError | None
        try:
            cells = next(csv.reader(islice(lines, MAX_LINES), delimiter=delimiter, strict=True), None)
        except InputError as error:
            cells = error
        except csv.Error as error:
            cells = InputError(f"is no row of a table ({error})", "put quotes around the cell and double those in it")
        if cells is None:
            return
        if isinstance(cells, list) and width and cells and len(cells) != width:
            cells = InputError(f"has {len(cells)} columns where the first line has {width}", "check its quotes")
        if isinstance(cells, InputError) and lines.number > number:
            lines.continue_after(offset, number)
        if cells:
            yield number, offset, cells


class _PicturesByIndex:
    """The pictures of rows by the row's index, by which other rows of VLMEvalKit's tables refer to them.

    Only the offsets of the rows are in memory.
    """

    def __init__(self, path: Path, start: int, delimiter: str, width: int, columns: Mapping[str, int]) -> None:
        self._path = path
        self._start = start
        self._delimiter = delimiter
        self._width = width
        self._columns = columns

    def cell(self, index: str) -> str:
        """The cell `image` of the row with this index. Raises InputError if there is none."""
        if index not in self._offsets:
            raise InputError(f"its picture {index} is neither a file nor the index of a row", "check the path")
        with open(self._path, "rb") as file:
            file.seek(self._offsets[index])
            _, _, cells = next(_records(_Lines(file), self._delimiter))
        return "" if isinstance(cells, InputError) else cells[self._columns["image"]]

    @cached_property
    def _offsets(self) -> dict[str, int]:
        with open(self._path, "rb") as file:
            file.seek(self._start)
            records = _records(_Lines(file), self._delimiter, self._width)
            column = self._columns["index"]
            return {cells[column].strip(): offset for _, offset, cells in records if isinstance(cells, list)}


def _parquet(path: Path, files: Sequence[str]) -> Iterator[Row | BadRow]:
    """Yield the rows of one file or of all files of a folder, of which unreadable ones are left out."""
    for file in files:
        name = path.name if path.is_file() else _below(path, file)
        try:
            yield from _shard(name, file, path if path.is_dir() else path.parent)
        except InputError as error:
            if len(files) == 1:
                raise
            yield BadRow(name, f"its rows are left out: it {error}")


def _shard(name: str, file: str, folder: Path) -> Iterator[Row | BadRow]:
    """Yield the rows of one parquet file, eight in memory at a time; after an error the next row group is read."""
    registry.require(registry.ON_DEMAND, "parquet")
    parquet: Any = import_module("pyarrow.parquet")
    broken = (OSError, ValueError, import_module("pyarrow").ArrowException)
    try:
        # With pre_buffer the columns of a whole row group are read into memory.
        opened = parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
        columns = columns_of(opened.schema_arrow.names)
        counts_from_zero = any(role in columns for role in CHOICES) and _answers_are_numbers(opened, columns)
    except broken as error:
        raise InputError(f"{name} cannot be read ({reason(error)})", "fetch it again") from error
    except InputError as error:
        raise InputError(f"{name} {error.what}", error.advice, kind=ErrorKind.UNSUPPORTED) from None
    begun = 0
    for group in range(opened.num_row_groups):
        number, begun = begun, begun + opened.metadata.row_group(group).num_rows
        try:
            for batch in opened.iter_batches(8, [group], list(columns.values()), use_threads=False):
                for place in range(batch.num_rows):
                    number += 1
                    yield _of_batch(f"{name} row {number}", batch, place, columns, folder, counts_from_zero)
        except broken as error:
            yield BadRow(
                f"{name} row {number + 1}", f"cannot be read, to row {begun} ({reason(error)}); fetch it again"
            )


def _of_batch(
    name: str, batch: Any, place: int, columns: Mapping[str, str], folder: Path, counts_from_zero: bool
) -> Row | BadRow:
    try:
        values = {role: batch.column(column)[place].as_py() for role, column in columns.items()}
    except ValueError as error:
        return BadRow(name, f"cannot be read ({reason(error)}); write it again")
    return row_of(name, values, folder, counts_from_zero=counts_from_zero)


def _answers_are_numbers(opened: Any, columns: Mapping[str, str]) -> bool:
    """Whether all answers are whole numbers; they are then indices of choices from 0, as is usual on the hub."""
    column = next(columns[role] for role in (*ANSWERS, TRANSCRIPT) if role in columns)
    batches = opened.iter_batches(2**10, columns=[column])
    values = (value for batch in batches for value in batch.column(0).to_pylist())
    return all(type(value) is int or (isinstance(value, str) and value.isdecimal()) for value in values)
