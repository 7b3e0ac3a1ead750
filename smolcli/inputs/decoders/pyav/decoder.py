"""Decodes videos with FFmpeg's libraries through PyAV: the right frame of every container, even if its header is wrong.

The packets are scanned once, without decoding, for the true number and times of frames. A requested frame is then found
by its own time stamp, after a seek to the key frame before it.
"""

from __future__ import annotations

import contextlib
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import BinaryIO, cast

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from smolcli import registry
from smolcli.errors import ErrorKind, InputError
from smolcli.inputs import decoders
from smolcli.inputs.alpha import Ground
from smolcli.inputs.decoders.pyav.frame_finder import FrameFinder, OpenVideo
from smolcli.inputs.decoders.pyav.packets import PacketTable, demux, scan_packets
from smolcli.inputs.decoders.pyav.pixels import (
    UNTAGGED,
    Tags,
    color_of,
    is_mirrored,
    rgb_format,
    rgb_of,
    upright_pixels,
    upright_size,
)
from smolcli.inputs.decoders.streams import (
    ALPHA_DECODERS,
    MAX_MISSING,
    MIN_LEAD,
    STILL,
    Stream,
    choose_stream,
    is_whole_matroska,
    notices_of,
)
from smolcli.inputs.decoders.y4m import is_cut_y4m
from smolcli.inputs.pixels import check_size
from smolcli.system.cpu import usable_cores
from smolcli.types import Frame, format_time, pluralize

MAX_THREADS = 4
LARGE_FRAME = 2**22  # pixels; over it, threads share a frame instead of each holding its own, which is 12 MB at 4K
HAS_DURATION_ONLY = ("matroska", "flv", "asf")  # containers whose header has a duration and no number of frames
OPTIONS = {"format_whitelist": decoders.CONTAINERS, "protocol_whitelist": "none"}


class PyAv:
    """See `decoders.Decoder`. `max_pixels` limits one frame.

    `color` and `is_mirrored` say how frames are made upright sRGB, by the first one; `missing_matrix` is what its
    colors are taken for if it does not say so, a code of ITU-T H.273, else None; `has_several` says whether there are
    other video streams.
    """

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        self._source, self._max_pixels = source, max_pixels
        self.faults: list[str] = []
        with self._open() as container:
            self.audio = bool(container.streams.audio)
            stream, self._packets, self.notices = _find_video(container)
            self.has_several = bool(self.notices)
            self._stream_index = stream.index
            _check_codec(container, stream, max_pixels)
            if not self._packets.pts:
                raise decoders.no_readable_frame()
            self._alpha_decoder = _alpha_decoder(stream)
            codec = stream.codec_context
            self._tags = Tags(codec.colorspace, codec.color_primaries, codec.color_trc)
            self._aspect = stream.sample_aspect_ratio or Fraction(1)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self._time_base = 1 / rate if self._packets.is_counted else stream.time_base or Fraction(1)
            self._lead = 0.0 if self._packets.is_counted else self._lead_in(container)
            self.times: Sequence[float] = array("d", map(self._seconds, self._packets.pts))
            self.duration = self._seconds(self._packets.end)
            self._add_still_end(container)
            missing = self._describe_missing(container, stream)
            # For other codecs than H.264, a frame that is marked as unused by other frames may still be used.
            self._can_skip = stream.codec_context.name == "h264" and not self._packets.is_counted
        if missing:
            self.notices += (f"is cut short: {missing} can be read",)
        with self._decoding() as frames:
            first = frames.find(self._packets.pts[0])
        self._can_skip &= not first.interlaced_frame  # a frame has two fields, and both would have to be requested
        is_untagged = first.colorspace == UNTAGGED
        self.color, self.is_mirrored = color_of(self._tags.complete(first)), is_mirrored(first)
        self.missing_matrix = first.colorspace if is_untagged else None
        self.size = upright_size(first, self._aspect)
        check_size(*self.size, max_pixels)
        self._ground = self._find_ground() if self.color.has_alpha else "white"

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        requested = frozenset(self._packets.pts[number] for number in numbers)
        with self._decoding(requested if self._can_skip else None) as frames:
            for number in numbers:
                frame = frames.find(self._packets.pts[number])
                if frames.fault:
                    self.faults.append(f"the frame at {format_time(self.times[number])} {frames.fault}")
                pixels = upright_pixels(self._tags.complete(frame), self._aspect, self.is_mirrored, self._ground)
                yield Frame(pixels.tobytes(), pixels.shape[1], pixels.shape[0], self._seconds(frames.found_pts))

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        first_pts, last_pts = self._packets.pts[numbers[0]], self._packets.pts[numbers[-1]]
        width, height = decoders.thumbnail_size(self.size)
        format = "gray" if self.color.is_plain else rgb_format(self.color)
        reformatter = VideoReformatter()
        with self._decoding(skip_loop_filter="all") as frames:
            frames.find(first_pts)
            for pts, frame in frames.rest():
                if pts > last_pts:
                    return
                pixels = reformatter.reformat(
                    self._tags.complete(frame), width, height, format, interpolation="AREA"
                ).to_ndarray()
                gray = pixels if self.color.is_plain else self.color.to_gray(pixels, self._ground)
                yield self._seconds(pts), gray

    def _find_ground(self) -> Ground:
        with self._decoding() as frames:
            frames.find(self._packets.pts[0])
            completed = (self._tags.complete(frame) for _, frame in frames.rest())
            return self.color.find_ground(rgb_of(frame, self._aspect, self.color) for frame in completed)

    @contextlib.contextmanager
    def _open(self) -> Iterator[InputContainer]:
        with decoders.open_source(self._source) as file:
            try:
                container: InputContainer = av.open(_Nameless(file), "r", options=OPTIONS, metadata_errors="replace")
            except (av.FFmpegError, ValueError) as error:  # ValueError: a container that is not in the list
                raise decoders.not_openable(self._source) from error
            with container:
                yield container

    @contextlib.contextmanager
    def _decoding(self, requested: frozenset[int] | None = None, **options: str) -> Iterator[FrameFinder]:
        options["max_pixels"] = str(self._max_pixels)
        with contextlib.ExitStack() as stack:
            frames = FrameFinder(lambda: self._open_video(stack, options), self._packets, requested)
            try:
                yield frames
            finally:
                frames.close()

    def _open_video(self, stack: contextlib.ExitStack, options: Mapping[str, str]) -> OpenVideo:
        """Open the container anew, at the beginning of the stream, and close the one on `stack`."""
        stack.pop_all().close()
        container = stack.enter_context(self._open())
        stream = container.streams[self._stream_index]
        assert isinstance(stream, VideoStream)
        codec = stream.codec_context
        if self._alpha_decoder:
            codec = cast(VideoCodecContext, av.CodecContext.create(self._alpha_decoder, "r"))
        codec.thread_count = min(usable_cores(), MAX_THREADS)
        codec.thread_type = (
            "AUTO" if stream.codec_context.width * stream.codec_context.height <= LARGE_FRAME else "SLICE"
        )
        codec.options = dict(options)
        return OpenVideo(container, stream, codec)

    def _seconds(self, pts: float) -> float:
        return self._lead + (pts - self._packets.pts[0]) * self._time_base.numerator / self._time_base.denominator

    def _lead_in(self, container: InputContainer) -> float:
        """Return how long after the beginning of the file, which may be that of its sound, the first frame is shown."""
        if container.start_time is None or not self.audio:  # in AVI, the first frame is not at 0 if it has B-frames
            return 0.0
        lead = float(self._packets.pts[0] * self._time_base) - container.start_time / av.time_base
        return lead if lead > MIN_LEAD else 0.0

    def _add_still_end(self, container: InputContainer) -> None:
        """Lengthen the duration if the last frame stands still while the sound, or by its header the file, goes on."""
        claimed = (container.duration or 0) / av.time_base
        if claimed <= self.duration + STILL or self._packets.is_counted:
            return
        end = claimed if is_whole_matroska(self._source) else self._sound_end()
        if end > self.duration + STILL:
            self.duration = end

    def _sound_end(self) -> float:
        """Return the end of the sound in seconds from the beginning of the file; 0 if there is none."""
        with self._open() as container:
            start = (container.start_time or 0) / av.time_base
            packets = demux(container, container.streams.audio) if self.audio else ()
            ends = (float(((p.pts or 0) + (p.duration or 0)) * (p.time_base or 0)) - start for p in packets)
            return max(ends, default=0.0)

    def _describe_missing(self, container: InputContainer, stream: VideoStream) -> str:
        """Say how much of what there should be can be read; "" if that is all."""
        if is_cut_y4m(self._source):
            return pluralize(self._packets.packet_count, "frame")
        if stream.frames:
            expected = float((stream.duration or 0) * (stream.time_base or 0))
            if container.format.name == "avi":  # FFmpeg guesses the duration of a cut one by its size
                expected = float(stream.frames / (stream.average_rate or 25))
            read, length = self._packets.packet_count, self._seconds(self._packets.end) - self._lead
            is_cut = stream.frames * (1 - MAX_MISSING) > read and expected * (1 - MAX_MISSING) > length
            return f"{read} of {stream.frames} frames" if is_cut else ""
        expected = (container.duration or 0) / av.time_base
        if not container.format.name.startswith(HAS_DURATION_ONLY) or expected * (1 - MAX_MISSING) <= self.duration:
            return ""
        return f"{format_time(self.duration)} of {format_time(expected)}"


class _Nameless:
    """A file without a name, so that FFmpeg goes by the content, and takes no part of a name for a protocol."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _find_video(container: InputContainer) -> tuple[VideoStream, PacketTable, tuple[str, ...]]:
    """Return the video stream to look at, what its packets say, and a notice if there are several."""
    streams = {s.index: s for s in container.streams.video if not s.disposition & Disposition.attached_pic}
    if not streams:
        raise decoders.no_video_stream(bool(container.streams.audio))
    tables = scan_packets(container, list(streams.values()))
    candidates = [_candidate(stream, tables[index]) for index, stream in streams.items()]
    chosen = choose_stream(candidates)
    return streams[chosen.number], tables[chosen.number], notices_of(candidates, chosen)


def _candidate(stream: VideoStream, packets: PacketTable) -> Stream:
    codec: VideoCodecContext | None = stream.codec_context
    is_timed = bool(packets.pts) and not packets.is_counted
    seconds = float((packets.end - packets.pts[0]) * float(stream.time_base or 0)) if is_timed else 0.0
    return Stream(
        number=stream.index,
        width=codec.width if codec else 0,
        height=codec.height if codec else 0,
        frame_count=packets.packet_count,
        seconds=seconds,
        is_default=bool(stream.disposition & Disposition.default),
        is_decodable=codec is not None,
    )


def _alpha_decoder(stream: VideoStream) -> str:
    """Return the name of the decoder that this stream's transparency needs; "" if any will do."""
    name = stream.codec_context.name
    if name not in ALPHA_DECODERS or stream.metadata.get("alpha_mode") != "1":
        return ""
    if (decoder := ALPHA_DECODERS[name]) not in av.codecs_available:
        message = f"has transparency, and this PyAV was built without {decoder}, which reads it"
        advice = f"use --decoder ffmpeg, or {registry.install_command('av', '-U')}"
        raise InputError(message, advice, kind=ErrorKind.UNSUPPORTED)
    return decoder


def _check_codec(container: InputContainer, stream: VideoStream, max_pixels: int) -> None:
    """Raise InputError for a codec that is not available, and for frames of too many pixels."""
    codec: VideoCodecContext | None = stream.codec_context
    if codec is not None:
        check_size(codec.width, codec.height, max_pixels)
        return
    av.logging.set_level(av.logging.INFO)  # otherwise the dump is empty
    try:
        dump = container.dumps_format()  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(None)
    match = re.search(r"Video: (\w+)(?: \((\w+) /)?", dump)
    names = [name for name in match.groups() if name and name != "none"] if match else []
    raise decoders.unsupported_codec(names[0] if names else "")
