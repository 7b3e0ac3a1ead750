"""Opens items in the engine process: reads the bytes of each source, and makes a FrameSource by the kind of media."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from smolcli import registry
from smolcli.errors import ErrorKind, InputError, UnavailableError, no_such_file
from smolcli.inputs.collect import MAX_PIPED_BYTES, read_up_to
from smolcli.inputs.frame_source import FrameSource
from smolcli.inputs.pages import Pages
from smolcli.inputs.picture_stream import foreign_bytes, has_several
from smolcli.inputs.signatures import PDF_HEAD_BYTES, is_pdf
from smolcli.inputs.stills import StillPicture, StillPictures
from smolcli.options import Input, Sampling
from smolcli.system.file_digest import sha256_and_size
from smolcli.system.file_stamp import stamp, stamp_of
from smolcli.types import Content, Frame, FrameRef, Item, Media, Source, is_url

if TYPE_CHECKING:
    from smolcli.inputs.image import Picture
    from smolcli.inputs.pdf import Pdf
    from smolcli.inputs.video import Video

SEVERAL_IN_A_ROW = (
    "other pictures follow the first one in the file, which alone was looked at; give it on standard input to read all"
)
MAX_BYTES = 2**30  # no picture file is larger; what is may have no end, like /dev/zero


class LoadedSource(NamedTuple):
    """The bytes of a source, and its stamp if it is a file, which can be read again; else "".

    Of the file of a PDF it has the SHA-256 and no bytes, where pages of PDFs are read.
    """

    data: bytes
    stamp: str
    sha256: str = ""


def load(item: Item, offline: bool = False, leaves_pdf: bool = False) -> tuple[list[LoadedSource], Content]:
    """Read the bytes of each source of an item, and make the item's content hash and stamp.

    The stamp is empty unless all sources are files. With `leaves_pdf` files of PDFs are not read into memory. Raises
    InputError.
    """
    loaded: list[LoadedSource] = []
    for source in item.sources:
        with _source_in_errors(item, source):
            loaded.append(_read(source, offline, leaves_pdf))
    hashes = [sha256 or hashlib.sha256(data).hexdigest() for data, _, sha256 in loaded]
    stamps = [file_stamp for _, file_stamp, _ in loaded]
    if item.question is not None:
        hashes.append(json.dumps([item.question.parts, item.question.begins]))
        stamps.append("")
    sha256 = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    return loaded, Content(sha256, " ".join(stamps) if all(stamps) else "")


def open_pictures(
    item: Item, loaded: Sequence[LoadedSource], options: Input, pages: Pages | None = None
) -> FrameSource:
    """Open an item of picture files and decode the first page of each; `loaded` is what `load` gave for its sources.

    With `pages` the item has one source, a picture file or a PDF, and these of its pages are its frames; if there are
    several, they are not decoded yet. Raises InputError.
    """
    pictures: list[StillPicture] = []
    notices: list[str] = []
    if pages is not None and (loaded[0].sha256 or is_pdf(loaded[0].data)):
        return open_pdf(item.sources[0], loaded[0], options, pages)
    for source, (data, file_stamp, _) in zip(item.sources, loaded, strict=True):
        with _source_in_errors(item, source):
            picture = open_picture(data, options)
            if pages is not None:
                picture.choose(pages)
                if picture.page_count > 1:
                    return picture
            frame = picture.page(0)
        kept = b"" if file_stamp else data
        decode = partial(_decode_again, item, source, kept, file_stamp, options)
        pictures.append(StillPicture(frame, decode, len(kept)))
        remarks = [*picture.notices, *picture.faults]
        if picture.page_count > 1:
            remarks.append(f"picture 1 of {picture.page_count} in the file was looked at; smolcli ocr reads all")
        if has_several(data):
            remarks.append(SEVERAL_IN_A_ROW)
        elif source.data is not None and (count := foreign_bytes(data)):
            remarks.append(f"{count:,} bytes that follow the picture are no picture, and were not looked at")
        notices += remarks if len(item.sources) == 1 else [f"{source.word}: {remark}" for remark in remarks]
    return StillPictures(pictures, notices)


def _decode_again(item: Item, source: Source, kept: bytes, file_stamp: str, options: Input) -> Frame:
    """Decode the first page of a source from the bytes that were `kept`, or from its file if that is unchanged."""
    with _source_in_errors(item, source):
        return open_picture(kept or _read_unchanged(source, file_stamp), options).page(0)


def _read_unchanged(source: Source, file_stamp: str) -> bytes:
    if stamp_of(source.word) == file_stamp:  # else it may not be there any more
        data, stamp_now, _ = _read(source, offline=True)
        if stamp_now == file_stamp:
            return data
    raise InputError("was changed while it was looked at", "run it again", kind=ErrorKind.CHANGED)


def open_picture(data: bytes, options: Input) -> Picture:
    """Open the bytes of a picture file, without decoding it. Raises InputError."""
    if not data:
        raise _empty("picture")
    picture: Picture = registry.load(registry.READERS, "image")(data, options)
    return picture


def open_pdf(source: Source, loaded: LoadedSource, options: Input, pages: Pages) -> Pdf:
    """Open a PDF, from its file where it was not read. Raises InputError."""
    try:
        make_pdf = registry.load(registry.READERS, "document")
    except UnavailableError:
        advice = registry.install_command("smolcli[pdf]")
        message = "is a PDF, and the library pypdfium2 is not installed"
        raise InputError(message, advice, kind=ErrorKind.UNSUPPORTED) from None
    pdf: Pdf = make_pdf(loaded.data or source.word, options, pages)
    if loaded.sha256 and stamp_of(source.word) != loaded.stamp:
        raise InputError("is being written", "wait until it is complete", kind=ErrorKind.CHANGED)
    return pdf


def measure(item: Item, loaded: Sequence[LoadedSource], options: Input, pages: Pages | None = None) -> Media:
    """Return what `open_pictures` would give, with the sizes of all frames, from the headers. Raises InputError."""
    if pages is not None and (loaded[0].sha256 or is_pdf(loaded[0].data)):
        return open_pdf(item.sources[0], loaded[0], options, pages).measured()
    sizes: list[tuple[int, int]] = []
    for source, (data, _, _) in zip(item.sources, loaded, strict=True):
        with _source_in_errors(item, source):
            if not data:
                raise _empty("picture")
            sizes += registry.load(registry.ON_DEMAND, "sizes of pictures")(data, options, pages is not None)
    indices, notice = (Pages() if pages is None else pages).select(len(sizes))
    frames = tuple(FrameRef(index, *sizes[index]) for index in indices)
    return Media(frames, notices=(notice,) if notice else ())


def open_video(item: Item, sampling: Sampling, options: Input, offline: bool = False) -> tuple[Video, Content]:
    """Open a video and sample its frames; a video file is not read into memory, a pipe or a download is.

    Raises InputError.
    """
    make_video = registry.load(registry.READERS, "video")
    [source] = item.sources
    is_pipe = os.path.exists(source.word) and not (os.path.isfile(source.word) or os.path.isdir(source.word))
    if source.data is not None or is_url(source.word) or is_pipe:
        data, file_stamp, _ = _read(source, offline)
        if not data:
            raise _empty("video")
        return make_video(data, sampling, options.max_pixels), Content(hashlib.sha256(data).hexdigest(), file_stamp)
    with _open_file(source.word, "video") as file:
        status = os.fstat(file.fileno())
        if not status.st_size:
            raise _empty("video")
        content = Content(sha256_and_size(file)[0], stamp(status))
    video = make_video(source.word, sampling, options.max_pixels)
    if stamp_of(source.word) != content.stamp:
        raise InputError("is being written", "wait until it is complete", kind=ErrorKind.CHANGED)
    return video, content


def _empty(media: str) -> InputError:
    return InputError("is empty", f"give a {media}", kind=ErrorKind.EMPTY)


@contextlib.contextmanager
def _source_in_errors(item: Item, source: Source) -> Iterator[None]:
    """Name the source in errors of an item that has several."""
    try:
        yield
    except InputError as error:
        if len(item.sources) == 1:
            raise
        raise InputError(f"{source.word}: {error.what}", error.advice, kind=error.kind) from error


def _read(source: Source, offline: bool, leaves_pdf: bool = False) -> LoadedSource:
    """Read the bytes of a source; with `leaves_pdf` not those of a file that is a PDF."""
    if source.data is not None:
        if len(source.data) > MAX_PIPED_BYTES:
            raise InputError(f"has more than {MAX_PIPED_BYTES:,} bytes", "give it as a file", kind=ErrorKind.TOO_LARGE)
        return LoadedSource(source.data, "")
    if is_url(source.word):
        if offline:
            raise InputError(
                "--offline forbids the network", "fetch it first, or leave out --offline", kind=ErrorKind.OFFLINE
            )
        data: bytes = registry.load(registry.ON_DEMAND, "download")(source.word)
        return LoadedSource(data, "")
    with _open_file(source.word, "picture") as file:
        status = os.fstat(file.fileno())  # taken before reading, so that a change during the read changes the stamp
        file_stamp = stamp(status) if stat.S_ISREG(status.st_mode) else ""
        if leaves_pdf and file_stamp:
            head = file.read(PDF_HEAD_BYTES)
            file.seek(0)
            if is_pdf(head):
                return LoadedSource(b"", file_stamp, sha256_and_size(file)[0])
        data = read_up_to(file, MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise InputError(f"has more than {MAX_BYTES:,} bytes", "give a picture", kind=ErrorKind.TOO_LARGE)
    return LoadedSource(data, file_stamp)


@contextlib.contextmanager
def _open_file(path: str, media: str) -> Iterator[BinaryIO]:
    """Open the file `path`; raises InputError, whose messages call it a `media`."""
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise no_such_file(path) from None
    except IsADirectoryError:
        raise _unusable_folder(path, media) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot be read ({reason})", "check the path and its permissions", kind=ErrorKind.UNREADABLE
        ) from error


def _unusable_folder(folder: str, media: str) -> InputError:
    """The error for a directory that became an item: it cannot be listed, or has no input in it."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        return InputError(f"cannot be listed ({error.strerror})", "check its permissions", kind=ErrorKind.UNREADABLE)
    return InputError(
        f"no {media} was found in it", f"name {media} files or a directory that has some", kind=ErrorKind.NO_INPUT
    )
