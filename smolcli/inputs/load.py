"""Opens items, in the engine's process: bytes by whatever way, then pictures by the reader for their kind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from smolcli import registry
from smolcli.errors import InputError
from smolcli.inputs.collect import MOST_PIPED, content
from smolcli.options import Input, Sampling
from smolcli.system.file_stamp import stamp, stamp_of
from smolcli.types import Content, Frame, Item, Source, is_url

if TYPE_CHECKING:
    from smolcli.inputs.video import Video

MOST_BYTES = 2**30  # a picture file is not larger; what is may have no end, like /dev/zero


def load(item: Item, offline: bool = False) -> tuple[list[bytes], Content]:
    """The bytes of each of an item's sources, and what they come to. Raises InputError."""
    loaded: list[bytes] = []
    marks: list[str] = []
    for source in item.sources:
        with _named(item, source):
            data, mark = _read(source, offline)
        loaded.append(data)
        marks.append(mark)
    parts = [hashlib.sha256(data).hexdigest() for data in loaded]
    if item.question is not None:
        parts.append(json.dumps([item.question.parts, item.question.begins]))
        marks.append("")
    whole = parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()
    return loaded, Content(whole, " ".join(marks) if all(marks) else "")


def decode(item: Item, loaded: Sequence[bytes], options: Input) -> tuple[Frame, ...]:
    """The pictures in them. Raises InputError."""
    frames: list[Frame] = []
    for source, data in zip(item.sources, loaded, strict=True):
        with _named(item, source):
            if not data:
                raise _empty("picture")
            frames += registry.load(registry.READERS, "image")(data, options)
    return tuple(frames)


def open_video(item: Item, sampling: Sampling, options: Input, offline: bool = False) -> tuple[Video, Content]:
    """A video, whose file is not held in memory. Raises InputError."""
    reader = registry.load(registry.READERS, "video")
    [source] = item.sources
    is_pipe = os.path.exists(source.word) and not (os.path.isfile(source.word) or os.path.isdir(source.word))
    if source.data is not None or is_url(source.word) or is_pipe:
        data, mark = _read(source, offline)
        if not data:
            raise _empty("video")
        return reader(data, sampling, options.max_pixels), Content(hashlib.sha256(data).hexdigest(), mark)
    with _file(source.word, "video") as file:
        status = os.fstat(file.fileno())
        if not status.st_size:
            raise _empty("video")
        read = Content(digest(file), stamp(status))
    video = reader(source.word, sampling, options.max_pixels)
    if stamp_of(source.word) != read.stamp:
        raise InputError("is being written", "wait until it is complete", kind="changed")
    return video, read


def digest(file: BinaryIO) -> str:
    """SHA-256 of an open file, in hex; hashlib.file_digest came with Python 3.11."""
    whole = hashlib.sha256()
    while part := file.read(2**20):
        whole.update(part)
    return whole.hexdigest()


def _empty(what: str) -> InputError:
    return InputError("is empty", f"give a {what}", kind="empty")


@contextlib.contextmanager
def _named(item: Item, source: Source) -> Iterator[None]:
    """Of several sources, an error says which."""
    try:
        yield
    except InputError as error:
        if len(item.sources) == 1:
            raise
        raise InputError(f"{source.word}: {error.what}", error.advice, kind=error.kind) from error


def _read(source: Source, offline: bool) -> tuple[bytes, str]:
    """A source's bytes and, of a file, its stamp."""
    if source.data is not None:
        if len(source.data) > MOST_PIPED:
            raise InputError(f"has more than {MOST_PIPED:,} bytes", "give it as a file", kind="too-large")
        return source.data, ""
    if is_url(source.word):
        if offline:
            raise InputError("--offline forbids the network", "fetch it first, or leave out --offline", kind="offline")
        data: bytes = registry.load(registry.LIBRARIES, "download")(source.word)
        return data, ""
    with _file(source.word, "picture") as file:
        status = os.fstat(file.fileno())  # before it is read: what changes it meanwhile changes its time
        mark = stamp(status) if stat.S_ISREG(status.st_mode) else ""
        data = content(file, MOST_BYTES)
    if len(data) > MOST_BYTES:
        raise InputError(f"has more than {MOST_BYTES:,} bytes", "give a picture", kind="too-large")
    return data, mark


@contextlib.contextmanager
def _file(path: str, what: str) -> Iterator[BinaryIO]:
    """The open file `path`, a picture or a video by its name; what the system says of it as InputError."""
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise InputError("no such file", "check the path", kind="missing") from None
    except IsADirectoryError:
        raise _nothing_in(path, what) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot be read ({reason})", "check the path and its permissions", kind="unreadable"
        ) from error


def _nothing_in(folder: str, what: str) -> InputError:
    """Why a directory is an input itself: it cannot be listed, or has no files that are wanted."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        what = f"cannot be listed ({error.strerror})"
        return InputError(what, "check its permissions", kind="unreadable")
    return InputError(f"no {what} was found in it", f"name {what} files or a directory that has some", kind="no-input")
