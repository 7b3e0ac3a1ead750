"""Reads what the program ffmpeg prints about a file: its streams, and the frames it has decoded or copied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from smolcli.inputs.decoders.video_color import VideoColor, is_bt709_if_untagged
from smolcli.inputs.hdr import Primaries, Transfer

_CONTAINER = re.compile(rb"^Input #0, (\S+), from")
_DURATION = re.compile(rb"^  Duration: (\d+):(\d+):([\d.]+)")
_START = re.compile(rb"^  Duration: .*, start: (-?[\d.]+)")
_STREAM = re.compile(rb"^ +Stream #0:(\d+)\b.*?: (Video|Audio): (.*)")
_CODEC = re.compile(rb"(\w+)(?: \((\w+) /)?")
_PICTURE = re.compile(rb", (\w+)(?:\(([^)]*)\))?, (\d+)x(\d+)")
_ALPHA_MODE = re.compile(rb"^ +alpha_mode +: 1$", re.IGNORECASE)
_ALPHA_FORMAT = re.compile(rb"pal8|ya\d|yuva|ayuv|vuya|gbrap|argb|rgba|abgr|bgra")
_YUV_FORMAT = re.compile(rb"yuv|nv\d|p\d")
_SAME_NAMES = (b"bt709", b"smpte170m", b"smpte240m")  # printed once where matrix, primaries and transfer are the same
_TRANSFERS: dict[bytes, Transfer] = {b"smpte2084": "pq", b"arib-std-b67": "hlg"}
_PRIMARIES: dict[bytes, Primaries] = {b"bt709": "bt709", b"bt2020": "bt2020", b"smpte432": "p3"}
_SCALE_MATRICES = {  # names of matrices in what is printed, and in the options of the filter `scale`
    b"bt709": "bt709", b"smpte170m": "bt601", b"bt470bg": "bt601", b"smpte240m": "smpte240m", b"bt2020nc": "bt2020",
}  # fmt: skip
_COPIED_TIME_BASE = re.compile(rb"#tb (\d+): (\d+)/(\d+)")


@dataclass
class VideoLine:
    """What is printed of one video stream; `size` is as stored, (0, 0) if it is unknown."""

    number: int
    text: bytes = field(repr=False)
    size: tuple[int, int] = (0, 0)
    pixel_format: bytes = b""
    matrix: bytes = b""
    primaries: bytes = b""
    transfer: bytes = b""
    alpha_mode: bool = False

    @property
    def is_default(self) -> bool:
        """Whether the file says that this is the stream to show."""
        return b"(default)" in self.text

    @property
    def is_cover(self) -> bool:
        """Whether it is cover art and no video."""
        return b"(attached pic)" in self.text

    @property
    def codec_names(self) -> list[str]:
        """The names of the codec by FFmpeg and by the file."""
        match = _CODEC.match(self.text)
        names = match.groups() if match else ()
        return [name.decode("ascii", "replace") for name in names if name and name != b"none"]

    @property
    def color(self) -> VideoColor:
        """What the values of its pictures mean."""
        has_alpha = self.alpha_mode or bool(_ALPHA_FORMAT.match(self.pixel_format))
        return VideoColor(_TRANSFERS.get(self.transfer), _PRIMARIES.get(self.primaries, "bt2020"), has_alpha)

    @property
    def input_matrix(self) -> str:
        """What the filter `scale` must be told of the colors, since a frame may say less than the file; or ""."""
        if not _YUV_FORMAT.match(self.pixel_format):
            return ""
        if self.matrix in (b"", b"unknown"):
            return "bt709" if is_bt709_if_untagged(*self.size) else ""
        return _SCALE_MATRICES.get(self.matrix, "")


@dataclass
class Header:
    """What is printed of a file before it is decoded: `start`, its first time stamp, and `duration` in seconds."""

    container: str = ""
    duration: float = 0.0  # 0 if it is unknown
    start: float | None = None
    has_audio: bool = False
    videos: list[VideoLine] = field(default_factory=list)


def parse_header(lines: Iterable[bytes]) -> Header:
    """Read what `ffmpeg -i FILE` prints."""
    header = Header()
    for line in lines:
        if match := _CONTAINER.match(line):
            header.container = match[1].decode("ascii", "replace")
        elif match := _DURATION.match(line):
            hours, minutes, seconds = map(float, match.groups())
            header.duration = 3600 * hours + 60 * minutes + seconds
        elif _ALPHA_MODE.match(line.rstrip()) and header.videos:
            header.videos[-1].alpha_mode = True
        elif match := _STREAM.match(line):
            header.has_audio |= match[2] == b"Audio"
            if match[2] == b"Video":
                header.videos.append(_video_line(int(match[1]), match[3]))
        if match := _START.match(line):
            header.start = float(match[1])
    return header


def _video_line(number: int, text: bytes) -> VideoLine:
    video = VideoLine(number, text)
    if match := _PICTURE.search(text):
        video.pixel_format, video.size = match[1], (int(match[3]), int(match[4]))
        for word in (match[2] or b"").split(b", "):
            if word.count(b"/") == 2:
                video.matrix, video.primaries, video.transfer = word.split(b"/")
            elif word in _SAME_NAMES:
                video.matrix = video.primaries = video.transfer = word
    return video


def parse_copied(lines: Iterable[bytes]) -> dict[int, list[tuple[float, float]]]:
    """Read ffmpeg's format `framecrc`: return start and end of each packet in seconds, by the number of the stream."""
    units: dict[int, float] = {}
    packets: dict[int, list[tuple[float, float]]] = {}
    for line in lines:
        if match := _COPIED_TIME_BASE.match(line):
            units[int(match[1])] = int(match[2]) / int(match[3])
        elif not line.startswith(b"#"):
            number, _, pts, duration = map(int, line.split(b",")[:4])
            start = pts * units[number]
            packets.setdefault(number, []).append((start, start + duration * units[number]))
    return packets


def length_of(packets: Sequence[tuple[float, float]]) -> float:
    """Return the seconds from the first packet's start to the last one's end."""
    return max((end for _, end in packets), default=0.0) - min((start for start, _ in packets), default=0.0)
