"""What reads the frames of videos: one class a library, all with this interface; and what they share.

    decoder = PyAv("clip.mp4", max_pixels)
    for frame in decoder.frames([0, 10, 20]):
        ...

Between calls nothing is open. A decoder raises InputError, when it is made, for what is no video or has no frame that
can be decoded.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

import numpy as np

from smolcli.errors import InputError
from smolcli.types import Frame

CONTAINERS = (  # FFmpeg's demuxers of what lies in one file; others follow playlists, take text for video, open devices
    "mov,matroska,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,mxf,nut,rm,gxf,wtv,ivf,dv,yuv4mpegpipe,h264,hevc,vvc,obu,av1,"
    "m4v,vc1,h263,swf,mp3,aac,flac,wav,w64,aiff,ac3,eac3,dts,caf,amr,ape"
)
MP4_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"))
VIDEO_SIGNATURES = (b"\x1aE\xdf\xa3", b"RIFF", b"FLV\x01", b"OggS", b"0&\xb2u", b"\0\0\x01\xba")
THUMBNAIL = 64  # pixels, the width of the grey pictures in which cuts are looked for
NO_VIDEO = "give a video, or a picture to smolcli caption"


class Decoder(Protocol):
    """A video whose frames are numbered from 0 in the order they are shown."""

    times: Sequence[float]  # of every frame, in seconds from the first
    duration: float  # in seconds, the last frame's own included
    size: tuple[int, int]  # width and height of the first frame, upright
    audio: bool
    notices: tuple[str, ...]  # what a person should know of all of it
    faults: list[str]  # what was found wrong while frames were decoded

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """The frames with these ascending numbers, upright; where one cannot be decoded, the nearest."""
        ...

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        """The time and a small grey picture of every frame in a stretch that can be decoded."""
        ...


def thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height; no picture is so narrow that its height grows without bound."""
    width, height = size
    return THUMBNAIL, min(max(THUMBNAIL * height // width, 1), 4 * THUMBNAIL)


@contextlib.contextmanager
def opened(source: str | bytes) -> Iterator[BinaryIO]:
    """A file, or bytes as one. Raises InputError."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = open(source, "rb")
    except FileNotFoundError:
        raise InputError("no such file", "check the path", kind="missing") from None
    except (OSError, ValueError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(what, "check the path and its permissions", kind="unreadable") from error
    with file:
        yield file


def is_no_video() -> InputError:
    """The error for what nothing here knows as a video."""
    return InputError("is not a video that can be read", "see with ffprobe what it is", kind="unsupported")


def is_still() -> InputError:
    """The error for a picture that does not move."""
    return InputError("is a still picture", "smolcli caption or ask reads it", kind="unsupported")


def no_video(has_audio: bool) -> InputError:
    """The error for a file without a video stream."""
    return InputError("is audio only" if has_audio else "has no video in it", NO_VIDEO, kind="unsupported")


def no_codec(name: str) -> InputError:
    """The error for a video whose codec no decoder here reads."""
    what = f"has video of a codec that cannot be read here ({name or 'unknown'})"
    return InputError(what, "convert it to H.264", kind="unsupported")


def no_frame() -> InputError:
    """The error for a video of which nothing can be shown."""
    return InputError("is damaged or cut short: no frame of it can be read", "get a whole copy", kind="truncated")


def not_read(source: str | bytes) -> InputError:
    """The error for what the library refuses to open, by what its bytes announce."""
    with opened(source) as file:
        head = file.read(16)
        if head[4:8] in MP4_BOXES:
            if _has_index(file):
                return no_frame()
            what = "is cut short or still being written (its index is missing)"
            return InputError(what, "get a whole copy", kind="truncated")
    if head.startswith(VIDEO_SIGNATURES):
        return no_frame()
    return is_no_video()


def _has_index(mp4: BinaryIO) -> bool:
    """Whether there is a whole `moov`, which says where frames are; most cameras and encoders write it last."""
    end, at = mp4.seek(0, os.SEEK_END), 0
    while at + 8 <= end:
        mp4.seek(at)
        head = mp4.read(16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or end - at
        if head[4:8] == b"moov":
            return at + size <= end
        at += max(size, 8)
    return False
