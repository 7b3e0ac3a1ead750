"""Reads the lists of --files-from: one path a line, in UTF-8 or what a byte order mark says, or each ended by NUL."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Iterator
from typing import IO, BinaryIO

from smolcli.errors import UsageError

# The byte order marks of the Unicode standard (section 23.8) and the encodings they stand for. Editors and shells on
# Windows write them. That of UTF-32 begins with that of UTF-16, and is compared first.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_CHUNK = 2**16  # bytes


def read_paths(name: str, null: bool, stdin: BinaryIO | None = None) -> Iterator[str]:
    """Yield the paths of the list `name` as soon as they can be read; "-" is standard input. Empty lines are left out.

    With `null` every path ends with NUL, and all other bytes are part of it: a mark at the beginning, a carriage
    return at its end. Raises UsageError for a list that cannot be read or is not text.
    """
    with _open_list(name, stdin) as file:
        lines = _split(_chunks(file), b"\0") if null else _text_lines(file)
        yield from (os.fsdecode(line) for line in lines if line)


def _open_list(name: str, stdin: BinaryIO | None) -> IO[bytes]:
    try:
        return stdin or open(0, "rb", closefd=False) if name == "-" else open(name, "rb")
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror})", "give --files-from a list of paths") from error


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file in parts; of a pipe what it has, without waiting for more."""
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    while chunk := read(_CHUNK):
        yield chunk


def _split(chunks: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Yield the parts of a byte stream that end with `end`, and the rest after the last one."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(end)
        yield from lines
    yield rest


def _text_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a text in UTF-8 without their ends, which are those of Unix or of Windows."""
    return (line.removesuffix(b"\r") for line in _split(_without_nul(_as_utf8(_chunks(file))), b"\n"))


def _as_utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Remove the byte order mark; what it says to be UTF-16 or UTF-32 is encoded anew.

    A list without a mark is given as it is: the names of files may have any bytes. Raises UsageError where the text
    is not of the encoding of its mark.
    """
    head = b""
    while any(mark.startswith(head) for mark in BYTE_ORDER_MARKS) and (chunk := next(chunks, b"")):
        head += chunk
    mark = next((mark for mark in BYTE_ORDER_MARKS if head.startswith(mark)), b"")
    text_start = head[len(mark) :]
    encoding = BYTE_ORDER_MARKS.get(mark, "utf-8")
    if encoding == "utf-8":
        yield text_start
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        yield decoder.decode(text_start).encode()
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        advice = "save it as UTF-8 with one path a line"
        raise UsageError(f"the list of inputs begins as {encoding.upper()} and is not", advice) from error


def _without_nul(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks. Raises UsageError at a NUL, which no path has."""
    for chunk in chunks:
        if b"\0" in chunk:
            advice = "add -0 if its paths end with them; if it is UTF-16, save it as UTF-8"
            raise UsageError("the list of inputs has NUL characters", advice)
        yield chunk
