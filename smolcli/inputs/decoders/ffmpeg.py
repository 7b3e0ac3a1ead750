"""Decodes videos with the program ffmpeg, one process for each call: no library, exact, and slow for a long video.

Each call decodes everything up to the last requested frame; the constructor decodes the whole video to learn the times
of its frames.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from smolcli.errors import InputError, UnavailableError
from smolcli.inputs import decoders
from smolcli.inputs.decoders.ffmpeg_log import Header, VideoLine, length_of, parse_copied, parse_header
from smolcli.inputs.decoders.streams import (
    ALPHA_DECODERS,
    MAX_MISSING,
    MIN_LEAD,
    STILL,
    Stream,
    choose_stream,
    end_of_last,
    is_whole_matroska,
    notices_of,
)
from smolcli.inputs.decoders.video_color import MAX_EMPTY, stretched
from smolcli.inputs.decoders.y4m import is_cut_y4m
from smolcli.inputs.pixels import check_size
from smolcli.system.temporary import temporary_folder
from smolcli.types import Frame, format_time, pluralize

MAX_FRAMES_PER_PROCESS = 500  # the system limits the length of a command line
_NO_STREAM = io.BytesIO()
_SHOWINFO_FRAME = re.compile(rb"n: *\d+ pts: *(-?\d+|NOPTS) .*? sar:(\d+)/(\d+) s:(\d+)x(\d+) ")
_SHOWINFO_DURATION = re.compile(rb" duration: *(\d+) ")
_TIME_BASE = re.compile(rb"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)")
_NO_DECODER = re.compile(rb"[Nn]o decoder|Decoder .*not found|Unknown decoder|no decoder found")


class Ffmpeg:
    """See `decoders.Decoder`. `max_pixels` limits one frame."""

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        self._source = source
        self._decoder: tuple[str, ...] = ()
        self.faults: list[str] = []
        with self._process(stdout=subprocess.DEVNULL) as (_, log):
            header = parse_header(log)
        self.audio = header.has_audio
        self._video, self.notices = self._choose_video(header)
        check_size(*self._video.size, max_pixels)
        names = self._video.codec_names
        if self._video.alpha_mode and names and names[0] in ALPHA_DECODERS:
            self._decoder = ("-c:v", ALPHA_DECODERS[names[0]])
        self._scan(header)
        check_size(*self.size, max_pixels)
        color, filters = self._video.color, self._conversion.removeprefix(",")
        self._ground = color.find_ground(self._pictures(filters, MAX_EMPTY)) if color.has_alpha else "white"

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        for start in range(0, len(numbers), MAX_FRAMES_PER_PROCESS):
            batch = numbers[start : start + MAX_FRAMES_PER_PROCESS]
            pictures = self._pictures(f"select='{_is_one_of(batch)}'{self._conversion}", len(batch))
            last: Frame | None = None
            for number in batch:
                picture = next(pictures, None)
                if picture is None:
                    self.faults.append(f"the frame at {format_time(self.times[number])} cannot be decoded")
                    if last is None:
                        raise decoders.no_readable_frame()
                    yield last
                    continue
                pixels = self._video.color.to_rgb(picture, self._ground)
                last = Frame(pixels.tobytes(), pixels.shape[1], pixels.shape[0], self.times[number])
                yield last

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        width, height = decoders.thumbnail_size(self.size)
        color = self._video.color
        format = "gray" if color.is_plain else self._rgb_format
        filters = f"select='between(n,{numbers[0]},{numbers[-1]})',scale={width}:{height}:flags=area,format={format}"
        for number, picture in zip(numbers, self._pictures(filters, len(numbers)), strict=False):
            gray = picture[..., 0] if color.is_plain else color.to_gray(picture, self._ground)
            yield self.times[number], gray

    def _choose_video(self, header: Header) -> tuple[VideoLine, tuple[str, ...]]:
        """Return the video stream to look at, and a notice if there are several."""
        videos = {video.number: video for video in header.videos if not video.is_cover}
        if not videos:
            raise decoders.no_video_stream(True) if header.has_audio else decoders.not_openable(self._source)
        if len(videos) == 1:
            return next(iter(videos.values())), ()
        copied = self._copy(*(word for number in videos for word in ("-map", f"0:{number}")))
        packets = {number: copied.get(place, []) for place, number in enumerate(videos)}
        streams = [
            Stream(
                number, *video.size, len(packets[number]), length_of(packets[number]), video.is_default, any(video.size)
            )
            for number, video in videos.items()
        ]
        chosen = choose_stream(streams)
        return videos[chosen.number], notices_of(streams, chosen)

    def _scan(self, header: Header) -> None:
        """Decode the whole video for its size and the times of its frames, which the filter `showinfo` prints."""
        pts: list[int | None] = []
        durations: list[int] = []
        unit, rate, has_no_decoder = 1.0, 25.0, False
        output = ("-map", f"0:{self._video.number}", "-vf", "showinfo=checksum=0", "-copyts", "-f", "null", "-")
        with self._process(*output, stdout=subprocess.DEVNULL) as (_, log):
            for line in log:
                if match := _SHOWINFO_FRAME.search(line):
                    pts.append(None if match[1] == b"NOPTS" else int(match[1]))
                    durations.append(int(duration[1]) if (duration := _SHOWINFO_DURATION.search(line)) else 0)
                    if len(pts) == 1:
                        self._set_size(*map(int, match.groups()[1:]))
                elif match := _TIME_BASE.search(line):
                    unit = int(match[1]) / int(match[2])
                    rate = int(match[3]) / (int(match[4]) or 1) or rate
                has_no_decoder |= bool(_NO_DECODER.search(line))
        if not pts:
            if has_no_decoder:
                raise decoders.unsupported_codec(
                    self._decoder[-1] if self._decoder else (self._video.codec_names or [""])[0]
                )
            raise decoders.no_readable_frame()
        known = [number for number in pts if number is not None]
        if len(known) == len(pts) and known == sorted(known):
            lead = known[0] * unit - header.start if self.audio and header.start is not None else 0.0
            lead = lead if lead > MIN_LEAD else 0.0
            self.times: Sequence[float] = [lead + (number - known[0]) * unit for number in known]
            self.duration = lead + (end_of_last(known, durations, header.container) - known[0]) * unit
            self._compare_duration(header)
        else:  # time stamps are missing or run backwards: count frames instead
            self.times, self.duration = [number / rate for number in range(len(pts))], len(pts) / rate
        if is_cut_y4m(self._source):
            self.notices += (f"is cut short: {pluralize(len(pts), 'frame')} can be read",)

    def _set_size(self, aspect_width: int, aspect_height: int, width: int, height: int) -> None:
        """Set the size of frames, and the filters to RGB of square pixels, by an upright frame and its pixel aspect."""
        aspect = aspect_width / (aspect_height or 1) or 1.0
        self.size = stretched(width, aspect), height
        scaling = ["w='max(1,trunc(iw*sar+0.5))'", "h=ih"] if aspect != 1 else []
        scaling += [f"in_color_matrix={matrix}"] if (matrix := self._video.input_matrix) else []
        self._conversion = f",scale={':'.join(scaling)}" if scaling else ""
        self._conversion += f",format={self._rgb_format}"

    @property
    def _rgb_format(self) -> str:
        color = self._video.color
        return color.pixel_format + ("be" if color.transfer else "")  # the byte order of PAM

    def _compare_duration(self, header: Header) -> None:
        """Compare the duration with the header's: the last frame may stand still, or a part of the file be missing.

        It stands still if the sound goes on, or by the header of a whole file.
        """
        if header.duration <= self.duration + STILL:
            return
        end = header.duration
        if not is_whole_matroska(self._source):
            copied = self._copy("-map", "0:a") if header.has_audio else {}
            end = max((end for packets in copied.values() for _, end in packets), default=0.0) - (header.start or 0)
        if end > self.duration + STILL:
            self.duration = end
        if self.duration < header.duration * (1 - MAX_MISSING):
            read = f"{format_time(self.duration)} of {format_time(header.duration)}"
            self.notices += (f"is cut short: {read} can be read",)

    def _copy(self, *maps: str) -> dict[int, list[tuple[float, float]]]:
        """Return start and end in seconds of each packet of the mapped streams, in the order of `maps`."""
        with self._process(
            *maps, "-c", "copy", "-copyts", "-f", "framecrc", "-", stdout=subprocess.PIPE, level="quiet"
        ) as (
            out,
            _,
        ):
            return parse_copied(out)

    def _pictures(self, filters: str, count: int) -> Iterator[np.ndarray]:
        """Yield each picture that ffmpeg writes, uint8 or uint16 of (height, width, channels).

        Their format, PAM, has a header with each picture, whose size may change within a video.
        """
        # Number the pictures as their times, or ffmpeg drops and repeats some to keep a constant rate.
        filters += ",settb=1/25,setpts=N,fps=25"
        output = ["-map", f"0:{self._video.number}", "-vf", filters]
        output += ["-frames:v", str(count), "-f", "image2pipe", "-c:v", "pam", "-"]
        with self._process(*output, stdout=subprocess.PIPE, level="quiet") as (pictures, _):
            while (picture := _read_pam(pictures)) is not None:
                yield picture

    @contextlib.contextmanager
    def _process(self, *output: str, stdout: int, level: str = "info") -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Run ffmpeg on the source and give its standard output and error; it is killed when the block ends."""
        command = ["ffmpeg", "-nostdin", "-nostats", "-hide_banner", "-loglevel", level]
        command += ["-protocol_whitelist", "file,pipe", "-format_whitelist", decoders.CONTAINERS]
        with self._path() as path:
            command += [*self._decoder, "-i", f"file:{path}", *output]
            errors = subprocess.PIPE if level == "info" else subprocess.DEVNULL
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors, preexec_fn=_PREEXEC
            ) as process:
                try:
                    yield process.stdout or _NO_STREAM, process.stderr or _NO_STREAM
                finally:
                    process.kill()

    @contextlib.contextmanager
    def _path(self) -> Iterator[str]:
        """Give the path of the source; bytes are written to a temporary file."""
        if isinstance(self._source, str):
            yield os.path.abspath(self._source)
            return
        with tempfile.NamedTemporaryFile(prefix="smolcli-", dir=_temporary_folder()) as file:
            file.write(self._source)
            file.flush()
            yield file.name


def _temporary_folder() -> str:
    """The folder for temporary files. Raises InputError where none can be written: only this input needs it."""
    try:
        return temporary_folder()
    except UnavailableError as error:
        message = f"a video that is not a file must be stored for ffmpeg, and {error.what}"
        raise InputError(message, error.advice, kind=error.kind) from error


def _end_with_parent() -> None:
    """Have the system kill ffmpeg when the engine process ends, which may be killed at any time."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of linux/prctl.h


_PREEXEC = _end_with_parent if sys.platform == "linux" else None


def _read_pam(file: IO[bytes]) -> np.ndarray | None:
    """Read one picture; None at the end."""
    header: dict[bytes, bytes] = {}
    for line in file:
        name, _, value = line.strip().partition(b" ")
        if name == b"ENDHDR":
            break
        header[name] = value
    if b"DEPTH" not in header:
        return None
    shape = tuple(int(header[name]) for name in (b"HEIGHT", b"WIDTH", b"DEPTH"))
    values = np.dtype(">u2" if int(header[b"MAXVAL"]) > 255 else "u1")
    data = file.read(int(np.prod(shape)) * values.itemsize)
    if len(data) < np.prod(shape) * values.itemsize:
        return None
    return np.frombuffer(data, values).reshape(shape).astype(values.newbyteorder("="), copy=False)


def _is_one_of(numbers: Sequence[int]) -> str:
    """Write ffmpeg's expression for "the frame's number is one of these", nested as little as possible.

    >>> _is_one_of([3, 7])
    '(eq(n,3)+eq(n,7))'
    """
    if len(numbers) == 1:
        return f"eq(n,{numbers[0]})"
    half = len(numbers) // 2
    return f"({_is_one_of(numbers[:half])}+{_is_one_of(numbers[half:])})"
