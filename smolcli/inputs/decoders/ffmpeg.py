"""The program ffmpeg of this machine, one process a call: no library, exact, and slow in a long video.

It decodes everything up to the last wanted frame, as it does once more at the beginning to learn the frames' times.
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

from smolcli.errors import InputError
from smolcli.inputs import decoders
from smolcli.inputs.image import check_size
from smolcli.types import Frame, format_time

_NOTHING = io.BytesIO()
CUT = 0.05  # of what the header promises; where more is missing, that is said
AT_ONCE = 500  # frames a process; the system limits how long its command line may be
_SHOWN = re.compile(rb"n: *\d+ pts: *(-?\d+|NOPTS) .*? s:(\d+)x(\d+) ")
_LENGTH = re.compile(rb" duration: *(\d+) ")
_BASE = re.compile(rb"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)")
_SIZE = re.compile(rb"Stream #0.*: Video: .*, (\d+)x(\d+)")
_PROMISED = re.compile(rb"Duration: (\d+):(\d+):([\d.]+)")
_NO_DECODER = re.compile(rb"[Nn]o decoder|Decoder .*not found|Decoding requested, but no decoder found")
_CODEC = re.compile(rb"Stream #0.*: Video: (\w+)(?: \((\w+) /)?")


class Ffmpeg:
    """See `decoders.Decoder`; `max_pixels` is of one frame."""

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        if (program := shutil.which("ffmpeg")) is None:
            what = "cannot be read: there is no program ffmpeg"
            raise InputError(what, "install ffmpeg, or leave out --decoder", kind="unsupported")
        self._program, self._source, self._max_pixels = program, source, max_pixels
        self.faults: list[str] = []
        self.notices: tuple[str, ...] = ()
        self.audio = False
        self._scan()

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            pictures = self._pictures(f"select='{_among(some)}',format=rgb24", len(some), "ppm")
            last: Frame | None = None
            for number in some:
                picture = next(pictures, None)
                if picture is None:
                    self.faults.append(f"the frame at {format_time(self.times[number])} cannot be decoded")
                    if last is None:
                        raise decoders.no_frame()
                    yield last
                    continue
                width, height, pixels = picture
                last = Frame(pixels, width, height, self.times[number])
                yield last

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        width, height = decoders.thumbnail_size(self.size)
        wanted = f"select='between(n,{numbers[0]},{numbers[-1]})',scale={width}:{height}:flags=area,format=gray"
        pictures = self._pictures(wanted, len(numbers), "pgm")
        for number, (_, _, pixels) in zip(numbers, pictures, strict=False):
            yield self.times[number], np.frombuffer(pixels, np.uint8).reshape(height, width)

    def _scan(self) -> None:
        """Decodes it all for the times of frames, which the filter `showinfo` tells."""
        marks: list[int | None] = []
        base, rate, length, told = 1.0, 25.0, 0, b""
        with self._process("-vf", "showinfo=checksum=0", "-f", "null", "-", stdout=subprocess.DEVNULL) as (_, errors):
            for line in errors:
                if found := _SHOWN.search(line):
                    marks.append(None if found[1] == b"NOPTS" else int(found[1]))
                    if len(marks) == 1:
                        self.size = int(found[2]), int(found[3])
                    length = int(stated[1]) if (stated := _LENGTH.search(line)) else 0
                elif found := _BASE.search(line):
                    base = int(found[1]) / int(found[2])
                    rate = int(found[3]) / (int(found[4]) or 1) or rate
                elif found := _SIZE.search(line):
                    check_size(int(found[1]), int(found[2]), self._max_pixels)
                if len(marks) < 2:
                    told += line
        self.audio = b": Audio:" in told
        promised = _PROMISED.search(told)
        if not marks:
            raise self._refusal(told)
        stamped = [mark for mark in marks if mark is not None]
        if len(stamped) == len(marks) and stamped == sorted(stamped):
            self.times: Sequence[float] = [(mark - stamped[0]) * base for mark in stamped]
        else:
            self.times, length = [number / rate for number in range(len(marks))], 0
        self.duration = self.times[-1] + (length * base or self.times[-1] / max(len(marks) - 1, 1))
        if promised and not self.audio:  # sound may be longer than the pictures
            hours, minutes, seconds = map(float, promised.groups())
            whole = 3600 * hours + 60 * minutes + seconds
            if self.duration < whole * (1 - CUT):
                self.notices = (f"is cut short: {format_time(self.duration)} of {format_time(whole)} can be read",)

    def _refusal(self, told: bytes) -> InputError:
        if b": Video:" not in told:
            return decoders.no_video(True) if self.audio else decoders.not_read(self._source)
        if _NO_DECODER.search(told) and (found := _CODEC.search(told)):
            names = [name.decode("ascii", "replace") for name in found.groups() if name and name != b"none"]
            return decoders.no_codec(names[0] if names else "")
        return decoders.no_frame()

    def _pictures(self, filters: str, count: int, codec: str) -> Iterator[tuple[int, int, bytes]]:
        """Width, height and bytes of every picture it writes. PPM says the size of each, which may change."""
        output = ("-frames:v", str(count), "-f", "image2pipe", "-c:v", codec, "-")
        # Every picture gets a moment of its own, else some are left out or repeated to keep a constant rate.
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
        """ffmpeg at work on the source: its standard output and error. It is killed in the end."""
        command = [self._program, "-nostdin", "-nostats", "-hide_banner", "-loglevel", level]
        command += ["-protocol_whitelist", "file,pipe", "-format_whitelist", decoders.CONTAINERS]
        with self._path() as path:
            command += ["-i", f"file:{path}", "-map", "0:V:0", *output]
            errors = subprocess.PIPE if level == "info" else subprocess.DEVNULL
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors, preexec_fn=_END_WITH_US
            ) as process:
                try:
                    yield process.stdout or _NOTHING, process.stderr or _NOTHING
                finally:
                    process.kill()

    @contextlib.contextmanager
    def _path(self) -> Iterator[str]:
        """The path of the source; of bytes that of a file made for them."""
        if isinstance(self._source, str):
            yield os.path.abspath(self._source)
            return
        with tempfile.NamedTemporaryFile(prefix="smolcli-") as file:
            file.write(self._source)
            file.flush()
            yield file.name


def _end_with_parent() -> None:
    """The engine may be killed at any time: its ffmpeg goes with it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of linux/prctl.h


_END_WITH_US = _end_with_parent if sys.platform == "linux" else None


def _among(numbers: Sequence[int]) -> str:
    """The condition that a frame's number is one of these, as ffmpeg writes it, nested no deeper than it must be.

    >>> _among([3, 7])
    '(eq(n,3)+eq(n,7))'
    """
    if len(numbers) == 1:
        return f"eq(n,{numbers[0]})"
    half = len(numbers) // 2
    return f"({_among(numbers[:half])}+{_among(numbers[half:])})"
