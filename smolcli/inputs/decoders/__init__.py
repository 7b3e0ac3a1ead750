"""Decoders of videos: their interface, which one class for each library implements, and what they share.

    decoder = PyAv("clip.mp4", max_pixels)
    for frame in decoder.frames([0, 10, 20]):
        ...

No file is open between calls. The constructor raises InputError for what is no video, and for a video of which no frame
can be decoded.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

import numpy as np

from smolcli.errors import ErrorKind, InputError, no_such_file
from smolcli.inputs.signatures import HEAD_BYTES, is_video
from smolcli.types import Frame

CONTAINERS = (  # the demuxers of FFmpeg that read one file; others follow playlists, read text as video, open devices
    "mov,matroska,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,mxf,nut,rm,gxf,wtv,ivf,dv,yuv4mpegpipe,h264,hevc,vvc,obu,av1,"
    "m4v,vc1,h263,swf,mp3,aac,flac,wav,w64,aiff,ac3,eac3,dts,caf,amr,ape"
)
MP4_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"))
THUMBNAIL_WIDTH = 64  # pixels, of the gray pictures by which cuts are found
ADVICE_NO_VIDEO = "give a video, or a picture to smolcli caption"


class Decoder(Protocol):
    """A video whose frames are numbered from 0 in the order in which they are shown."""

    times: Sequence[float]  # of every frame, in seconds from the beginning of the file
    duration: float  # in seconds from there to the end of the last frame, which stands still as long as sound goes on
    size: tuple[int, int]  # width and height of the first frame, upright and of square pixels
    audio: bool  # whether it has sound
    notices: tuple[str, ...]  # remarks on the whole video for the user
    faults: list[str]  # errors met while frames were decoded

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """Decode the frames with these ascending numbers; for one that cannot be decoded, the nearest.

        They are upright, of square pixels, sRGB, and drawn on white where they are transparent.
        """
        ...

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        """Decode a range of frames to their times and small gray pictures, uint8 of (height, width).

        Frames that cannot be decoded are left out.
        """
        ...


def thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of the thumbnails of frames of `size`; the height of narrow ones is limited."""
    width, height = size
    return THUMBNAIL_WIDTH, min(max(THUMBNAIL_WIDTH * height // width, 1), 4 * THUMBNAIL_WIDTH)


@contextlib.contextmanager
def open_source(source: str | bytes) -> Iterator[BinaryIO]:
    """Open a path, or bytes, as a binary file. Raises InputError."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = open(source, "rb")
    except FileNotFoundError:
        raise no_such_file(source) from None
    except (OSError, ValueError) as error:
        message = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(message, "check the path and its permissions", kind=ErrorKind.UNREADABLE) from error
    with file:
        yield file


def not_a_video() -> InputError:
    """The error for content that no decoder recognises as a video."""
    return InputError("is not a video that can be read", "see with ffprobe what it is", kind=ErrorKind.UNSUPPORTED)


def still_picture() -> InputError:
    """The error for a picture without animation."""
    return InputError("is a still picture", "smolcli caption or ask reads it", kind=ErrorKind.UNSUPPORTED)


def no_video_stream(has_audio: bool) -> InputError:
    """The error for a file without a video stream."""
    return InputError(
        "is audio only" if has_audio else "has no video in it", ADVICE_NO_VIDEO, kind=ErrorKind.UNSUPPORTED
    )


def unsupported_codec(name: str) -> InputError:
    """The error for a video whose codec is not available."""
    message = f"has video of a codec that cannot be read here ({name or 'unknown'})"
    return InputError(message, "convert it to H.264", kind=ErrorKind.UNSUPPORTED)


def no_readable_frame() -> InputError:
    """The error for a video of which no frame can be decoded."""
    return InputError(
        "is damaged or cut short: no frame of it can be read", "get a whole copy", kind=ErrorKind.TRUNCATED
    )


def not_openable(source: str | bytes) -> InputError:
    """The error for a source that the library refuses to open; the first bytes decide which."""
    if is_index_cut(source):
        return index_missing()
    with open_source(source) as file:
        head = file.read(HEAD_BYTES)
    return no_readable_frame() if head[4:8] in MP4_BOXES or is_video(head) else not_a_video()


def index_missing() -> InputError:
    """The error for an MP4 without a complete index."""
    message = "is cut short or still being written (its index is missing)"
    return InputError(message, "get a whole copy", kind=ErrorKind.TRUNCATED)


def is_index_cut(source: str | bytes) -> bool:
    """Whether a source is an MP4 without a complete index. A library may open it, and find a part of its streams."""
    with open_source(source) as file:
        return file.read(8)[4:] in MP4_BOXES and not _has_index(file)


def _has_index(mp4: BinaryIO) -> bool:
    """Whether there is a complete `moov` box, which says where frames are; most cameras and encoders write it last."""
    end, offset = mp4.seek(0, os.SEEK_END), 0
    while offset + 8 <= end:
        mp4.seek(offset)
        head = mp4.read(16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or end - offset
        if head[4:8] == b"moov":
            return offset + size <= end
        offset += max(size, 8)
    return False
