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
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs import decoders
from smolcli.inputs.image import check_size
from smolcli.types import Frame, format_time

MAX_MISSING = 0.05  # of the duration in the header; if more is missing, a notice says so
MAX_FRAMES_PER_PROCESS = 500  # the system limits the length of a command line
_NO_STREAM = io.BytesIO()
_SHOWINFO_FRAME = re.compile(rb"n: *\d+ pts: *(-?\d+|NOPTS) .*? s:(\d+)x(\d+) ")
_SHOWINFO_DURATION = re.compile(rb" duration: *(\d+) ")
_TIME_BASE = re.compile(rb"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)")
_SIZE = re.compile(rb"Stream #0.*: Video: .*, (\d+)x(\d+)")
_HEADER_DURATION = re.compile(rb"Duration: (\d+):(\d+):([\d.]+)")
_NO_DECODER = re.compile(rb"[Nn]o decoder|Decoder .*not found|Decoding requested, but no decoder found")
_CODEC = re.compile(rb"Stream #0.*: Video: (\w+)(?: \((\w+) /)?")


class Ffmpeg:
    """See `decoders.Decoder`. `max_pixels` limits one frame."""

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        if (program := shutil.which("ffmpeg")) is None:
            message = "cannot be read: there is no program ffmpeg"
            raise InputError(message, "install ffmpeg, or leave out --decoder", kind=ErrorKind.UNSUPPORTED)
        self._program, self._source, self._max_pixels = program, source, max_pixels
        self.faults: list[str] = []
        self.notices: tuple[str, ...] = ()
        self.audio = False
        self._scan()

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        for start in range(0, len(numbers), MAX_FRAMES_PER_PROCESS):
            batch = numbers[start : start + MAX_FRAMES_PER_PROCESS]
            pictures = self._pictures(f"select='{_is_one_of(batch)}',format=rgb24", len(batch), "ppm")
            last: Frame | None = None
            for number in batch:
                picture = next(pictures, None)
                if picture is None:
                    self.faults.append(f"the frame at {format_time(self.times[number])} cannot be decoded")
                    if last is None:
                        raise decoders.no_readable_frame()
                    yield last
                    continue
                width, height, pixels = picture
                last = Frame(pixels, width, height, self.times[number])
                yield last

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        width, height = decoders.thumbnail_size(self.size)
        filters = f"select='between(n,{numbers[0]},{numbers[-1]})',scale={width}:{height}:flags=area,format=gray"
        pictures = self._pictures(filters, len(numbers), "pgm")
        for number, (_, _, pixels) in zip(numbers, pictures, strict=False):
            yield self.times[number], np.frombuffer(pixels, np.uint8).reshape(height, width)

    def _scan(self) -> None:
        """Decode the whole video for its size and the times of its frames, which the filter `showinfo` prints."""
        pts: list[int | None] = []
        time_base, rate, last_duration, log = 1.0, 25.0, 0, b""
        with self._process("-vf", "showinfo=checksum=0", "-f", "null", "-", stdout=subprocess.DEVNULL) as (_, errors):
            for line in errors:
                if match := _SHOWINFO_FRAME.search(line):
                    pts.append(None if match[1] == b"NOPTS" else int(match[1]))
                    if len(pts) == 1:
                        self.size = int(match[2]), int(match[3])
                    last_duration = int(duration[1]) if (duration := _SHOWINFO_DURATION.search(line)) else 0
                elif match := _TIME_BASE.search(line):
                    time_base = int(match[1]) / int(match[2])
                    rate = int(match[3]) / (int(match[4]) or 1) or rate
                elif match := _SIZE.search(line):
                    check_size(int(match[1]), int(match[2]), self._max_pixels)
                if len(pts) < 2:
                    log += line
        self.audio = b": Audio:" in log
        if not pts:
            raise self._explain_no_frames(log)
        known = [number for number in pts if number is not None]
        if len(known) == len(pts) and known == sorted(known):
            self.times: Sequence[float] = [(number - known[0]) * time_base for number in known]
        else:  # time stamps are missing or run backwards: count frames instead
            self.times, last_duration = [number / rate for number in range(len(pts))], 0
        mean_duration = self.times[-1] / max(len(pts) - 1, 1)
        self.duration = self.times[-1] + (last_duration * time_base or mean_duration)
        self._note_missing(log)

    def _note_missing(self, log: bytes) -> None:
        """Add a notice if the video is shorter than its header says; sound may be longer than the pictures."""
        match = _HEADER_DURATION.search(log)
        if match and not self.audio:
            hours, minutes, seconds = map(float, match.groups())
            expected = 3600 * hours + 60 * minutes + seconds
            if self.duration < expected * (1 - MAX_MISSING):
                self.notices = (f"is cut short: {format_time(self.duration)} of {format_time(expected)} can be read",)

    def _explain_no_frames(self, log: bytes) -> InputError:
        if b": Video:" not in log:
            return decoders.no_video_stream(True) if self.audio else decoders.not_openable(self._source)
        if _NO_DECODER.search(log) and (match := _CODEC.search(log)):
            names = [name.decode("ascii", "replace") for name in match.groups() if name and name != b"none"]
            return decoders.unsupported_codec(names[0] if names else "")
        return decoders.no_readable_frame()

    def _pictures(self, filters: str, count: int, codec: str) -> Iterator[tuple[int, int, bytes]]:
        """Yield width, height and pixels of each picture that ffmpeg writes; `codec` is ppm or pgm.

        These formats have a header with each picture, whose size may change within a video.
        """
        output = ("-frames:v", str(count), "-f", "image2pipe", "-c:v", codec, "-")
        # Number the pictures as their times, or ffmpeg drops and repeats some to keep a constant rate.
        filters += ",settb=1/25,setpts=N,fps=25"
        with self._process("-vf", filters, *output, stdout=subprocess.PIPE, level="quiet") as (pictures, _):
            while pictures.readline().strip():
                width, height = map(int, pictures.readline().split())
                pictures.readline()
                size = width * height * (3 if codec == "ppm" else 1)
                if len(pixels := pictures.read(size)) < size:
                    return
                yield width, height, pixels

    @contextlib.contextmanager
    def _process(self, *output: str, stdout: int, level: str = "info") -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Run ffmpeg on the source and give its standard output and error; it is killed when the block ends."""
        command = [self._program, "-nostdin", "-nostats", "-hide_banner", "-loglevel", level]
        command += ["-protocol_whitelist", "file,pipe", "-format_whitelist", decoders.CONTAINERS]
        with self._path() as path:
            command += ["-i", f"file:{path}", "-map", "0:V:0", *output]
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
        with tempfile.NamedTemporaryFile(prefix="smolcli-") as file:
            file.write(self._source)
            file.flush()
            yield file.name


def _end_with_parent() -> None:
    """Have the system kill ffmpeg when the engine process ends, which may be killed at any time."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of linux/prctl.h


_PREEXEC = _end_with_parent if sys.platform == "linux" else None


def _is_one_of(numbers: Sequence[int]) -> str:
    """Write ffmpeg's expression for "the frame's number is one of these", nested as little as possible.

    >>> _is_one_of([3, 7])
    '(eq(n,3)+eq(n,7))'
    """
    if len(numbers) == 1:
        return f"eq(n,{numbers[0]})"
    half = len(numbers) // 2
    return f"({_is_one_of(numbers[:half])}+{_is_one_of(numbers[half:])})"
