"""Decodes videos with FFmpeg's libraries through PyAV: the right frame of every container, even if its header is wrong.

The packets are scanned once, without decoding, for the true number and times of frames. A requested frame is then found
by its own time stamp, after a seek to the key frame before it.
"""

from __future__ import annotations

import contextlib
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from smolcli.inputs import decoders
from smolcli.inputs.image import check_size
from smolcli.system.cpu import usable_cores
from smolcli.types import Frame, format_time

MAX_THREADS = 4
LARGE_FRAME = 2**22  # pixels; over it, threads share a frame instead of each holding its own, which is 12 MB at 4K
MIN_STAMPED = 0.4  # of the packets; if fewer have a time stamp of their own, frames are counted instead
MAX_MISSING = 0.05  # of what the header says; if more is missing, a notice says so
UNRELIABLE_SEEK = ("mpeg",)  # containers that give frames other time stamps after a seek, so that there is none
HAS_DURATION_ONLY = ("matroska", "flv", "asf")  # containers whose header has a duration and no number of frames
UNTAGGED, BT709, HD = 2, "ITU709", 720  # AVCOL_SPC_UNSPECIFIED counts as BT.709 from 720 lines on, as in players
MIN_SEEK = 8  # frames; nearer ones are reached by decoding on, since a decoder is empty after a seek
SEEK_BACK = (0, 1, 2, 4, 8)  # key frames to go back, tried in turn if a seek lands behind the requested frame
RESTART = 1  # seconds by which time stamps go back where another recording begins, as in joined .ts files
OPTIONS = {"format_whitelist": decoders.CONTAINERS, "protocol_whitelist": "none"}


@dataclass
class _PacketTable:
    """What the packets of a stream say about its frames. Times are in units of the stream's time base."""

    pts: Sequence[int] = ()  # time stamp of each frame, ascending; its number if `is_counted`
    key_pts: list[int] = field(default_factory=list)  # of key frames, including those that are not shown; ascending
    last_duration: int = 0  # of the last frame, 0 if it is unknown
    packet_count: int = 0  # includes packets of frames that are not shown
    is_counted: bool = False  # frames are counted because time stamps are missing or run backwards


class PyAv:
    """See `decoders.Decoder`. `max_pixels` limits one frame."""

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        self._source, self._max_pixels = source, max_pixels
        self.faults: list[str] = []
        with self._open() as container:
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            self.audio = bool(container.streams.audio)
            if not streams:
                raise decoders.no_video_stream(self.audio)
            tables = _scan_packets(container, streams)
            stream = max(streams, key=lambda s: (s.codec_context is not None, tables[s.index].packet_count))
            self._stream_index, self._packets = stream.index, tables[stream.index]
            _check_codec(container, stream, max_pixels)
            if not self._packets.pts:
                raise decoders.no_readable_frame()
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self._time_base = 1 / rate if self._packets.is_counted else stream.time_base or Fraction(1)
            self.times = array("d", map(self._seconds, self._packets.pts))
            self.duration = self.times[-1] + self._last_frame_duration()
            missing = self._describe_missing(container, stream)
            # For other codecs than H.264, a frame that is marked as unused by other frames may still be used.
            self._can_skip = stream.codec_context.name == "h264" and not self._packets.is_counted
        self.notices = (f"is cut short: {missing} can be read",) if missing else ()
        with self._decoding() as frames:
            first = frames.find(self._packets.pts[0])
        self._can_skip &= not first.interlaced_frame  # a frame has two fields, and both would have to be requested
        self._is_mirrored = _is_mirrored(first)
        height, width, _ = _upright_pixels(first, False).shape
        self.size = (width, height)

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        requested = frozenset(self._packets.pts[number] for number in numbers)
        with self._decoding(requested if self._can_skip else None) as frames:
            for number in numbers:
                frame = frames.find(self._packets.pts[number])
                if frames.fault:
                    self.faults.append(f"the frame at {format_time(self.times[number])} {frames.fault}")
                pixels = _upright_pixels(frame, self._is_mirrored)
                yield Frame(pixels.tobytes(), pixels.shape[1], pixels.shape[0], self._seconds(frames.found_pts))

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        first_pts, last_pts = self._packets.pts[numbers[0]], self._packets.pts[numbers[-1]]
        width, height = decoders.thumbnail_size(self.size)
        reformatter = VideoReformatter()
        with self._decoding(skip_loop_filter="all") as frames:
            frames.find(first_pts)
            for pts, frame in frames.rest():
                if pts > last_pts:
                    return
                thumbnail = reformatter.reformat(frame, width, height, "gray", interpolation="AREA")
                yield self._seconds(pts), thumbnail.to_ndarray()

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
    def _decoding(self, requested: frozenset[int] | None = None, **options: str) -> Iterator[_FrameFinder]:
        options["max_pixels"] = str(self._max_pixels)
        with contextlib.ExitStack() as stack:
            frames = _FrameFinder(lambda: self._open_stream(stack, options), self._packets, requested)
            try:
                yield frames
            finally:
                frames.close()

    def _open_stream(self, stack: contextlib.ExitStack, options: dict[str, str]) -> tuple[InputContainer, VideoStream]:
        """Open the container anew, at the beginning of the stream, and close the one on `stack`."""
        stack.pop_all().close()
        container = stack.enter_context(self._open())
        stream = container.streams[self._stream_index]
        assert isinstance(stream, VideoStream)
        codec = stream.codec_context
        codec.thread_count = min(usable_cores(), MAX_THREADS)
        codec.thread_type = "AUTO" if codec.width * codec.height <= LARGE_FRAME else "SLICE"
        codec.options = options
        return container, stream

    def _seconds(self, pts: int) -> float:
        return (pts - self._packets.pts[0]) * self._time_base.numerator / self._time_base.denominator

    def _last_frame_duration(self) -> float:
        """Return the seconds for which the last frame is shown, by its packet or else the mean of the others."""
        if self._packets.last_duration > 0 and not self._packets.is_counted:
            return float(self._packets.last_duration * self._time_base)
        return self.times[-1] / max(len(self.times) - 1, 1)

    def _describe_missing(self, container: InputContainer, stream: VideoStream) -> str:
        """Say how much of what the header says can be read; "" if that is all."""
        if stream.frames:
            expected = float((stream.duration or 0) * (stream.time_base or 0))
            if container.format.name == "avi":  # FFmpeg guesses the duration of a cut one by its size
                expected = float(stream.frames / (stream.average_rate or 25))
            read = self._packets.packet_count
            is_cut = stream.frames * (1 - MAX_MISSING) > read and expected * (1 - MAX_MISSING) > self.duration
            return f"{read} of {stream.frames} frames" if is_cut else ""
        expected = (container.duration or 0) / av.time_base
        if not container.format.name.startswith(HAS_DURATION_ONLY) or expected * (1 - MAX_MISSING) <= self.duration:
            return ""
        with self._open() as again:  # sound may be longer than the pictures, so all streams count
            start = (again.start_time or 0) / av.time_base
            ends = [float((p.pts or 0) * (p.time_base or 0)) - start for p in _demux(again, again.streams)]
            end = max(ends, default=0.0)
        return f"{format_time(end)} of {format_time(expected)}" if expected * (1 - MAX_MISSING) > end else ""


class _Nameless:
    """A file without a name, so that FFmpeg goes by the content, and takes no part of a name for a protocol."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


class _FrameFinder:
    """Finds frames by ascending time stamps in an open video; seeks if that is cheaper than decoding on.

    `found_pts` is the time stamp of the frame found last, `fault` what is wrong with it. Frames that are not
    `requested` may be skipped if no other frame needs them; None requests all.
    """

    def __init__(
        self,
        reopen: Callable[[], tuple[InputContainer, VideoStream]],
        packets: _PacketTable,
        requested: frozenset[int] | None,
    ) -> None:
        self._reopen, self._requested = reopen, requested
        self._pts, self._key_pts, self._is_counted = packets.pts, packets.key_pts, packets.is_counted
        self.found_pts, self.fault = 0, ""
        self._container, self._stream = reopen()
        self._start_decoding()

    def find(self, pts: int) -> VideoFrame:
        """Return the frame with this time stamp, or the nearest that can be decoded; `pts` must not descend.

        In an undamaged video there may be no such frame, as for the second field of interlaced pictures; then the
        frame before it is the one that is shown. Raises InputError, truncated, if no frame can be decoded.
        """
        key = bisect_right(self._key_pts, pts) - 1
        if key > 0 and self._is_far(self._key_pts[key]):
            self._seek(key, pts)
        while (self._current is None or self._current[0] < pts) and self._advance():
            pass
        candidates = [decoded for decoded in (self._previous, self._current) if decoded is not None]
        if not candidates:
            raise decoders.no_readable_frame()
        not_after = [decoded for decoded in candidates if decoded[0] <= pts]
        self.found_pts, frame = max(not_after, default=candidates[0], key=lambda decoded: decoded[0])
        self.fault = "is damaged" if frame.is_corrupt else ""
        if self.found_pts != pts and self._error_count:
            self.found_pts, frame = min(candidates, key=lambda decoded: abs(decoded[0] - pts))
            self.fault = "cannot be decoded; the nearest is shown"
        return frame

    def rest(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield the frames from the one found last on, with their time stamps."""
        while self._current is not None:
            yield self._current
            if not self._advance():
                return

    def _is_far(self, key_pts: int) -> bool:
        """Whether to seek to a key frame is cheaper than to decode on until it."""
        if self._current is None:
            return True
        return bisect_left(self._pts, key_pts) - bisect_left(self._pts, self._current[0]) > MIN_SEEK

    def _start_decoding(self) -> None:
        self._current: tuple[int, VideoFrame] | None = None  # the frame decoded last, with its time stamp
        self._previous: tuple[int, VideoFrame] | None = None  # the frame decoded before it
        self._error_count = 0  # since the start or the last seek
        self._landed_at: int | None = None  # time stamp of the first packet since then
        self._decoded = self._decode()

    def _advance(self) -> bool:
        """Decode one more frame, if there is one."""
        for decoded in self._decoded:
            self._previous, self._current = self._current, decoded
            return True
        return False

    def close(self) -> None:
        """Free frames and decoder at once; they are in a reference cycle and would wait for the garbage collector."""
        self._decoded.close()
        self._previous = self._current = None
        del self._container, self._stream, self._reopen

    def _seek(self, key: int, pts: int) -> None:
        """Decode the first frame after a key frame, or after an earlier one if that lands behind `pts`.

        If seeking does not work at all in this container, decoding starts at the beginning and never seeks again.
        """
        for earlier in sorted({max(key - back, 0) for back in SEEK_BACK}, reverse=True):
            try:
                self._container.seek(self._key_pts[earlier], stream=self._stream)
            except av.FFmpegError:
                break
            self._start_decoding()
            if self._advance() and self._current is not None and self._current[0] <= pts:
                return
        if self._landed_at is None or self._landed_at > pts:
            self._key_pts = []
            self._container, self._stream = self._reopen()
            self._start_decoding()

    def _decode(self) -> Generator[tuple[int, VideoFrame], None, None]:
        """Yield frames in order of showing, with their time stamps.

        Packets before the first key frame cannot be decoded. A last packet of None makes the decoder give the frames
        that it still holds.
        """
        count, has_key_frame = 0, self._is_counted or not self._key_pts
        for packet in chain(_demux(self._container, [self._stream]), (None,)):
            if packet is not None:
                has_key_frame = has_key_frame or packet.is_keyframe
                self._landed_at = packet.pts if has_key_frame and self._landed_at is None else self._landed_at
                self._set_skipping(packet)
            for frame in self._decode_packet(packet) if has_key_frame else ():
                if self._is_counted or frame.pts is not None:
                    yield (count if self._is_counted else frame.pts or 0), frame
                    count += 1

    def _set_skipping(self, packet: Packet[Any]) -> None:
        """Tell the decoder whether it may skip this packet."""
        if self._requested is not None:
            is_requested = packet.pts is None or packet.pts in self._requested
            self._stream.codec_context.skip_frame = "DEFAULT" if is_requested else "NONREF"

    def _decode_packet(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.EOFError:
            return []
        except av.FFmpegError:
            self._error_count += 1
            return []
        self._error_count += sum(frame.is_corrupt for frame in frames)
        return frames


def _demux(container: InputContainer, streams: Iterable[Stream]) -> Iterator[Packet[Any]]:
    """Yield the packets up to the first that cannot be read."""
    try:
        yield from (packet for packet in container.demux(*streams) if packet.size)
    except (av.FFmpegError, IndexError):  # IndexError: at the end of damaged files that began without all streams
        return


def _scan_packets(container: InputContainer, streams: Sequence[VideoStream]) -> dict[int, _PacketTable]:
    """Read all packets; return a table for each stream, by the stream's index."""
    tables = {stream.index: _PacketTable() for stream in streams}
    shown: dict[int, list[tuple[int | None, int | None]]] = {stream.index: [] for stream in streams}
    restarts = {stream.index: float(RESTART / (stream.time_base or 1)) for stream in streams}
    last_dts: dict[int, int] = {}
    for packet in _demux(container, streams):
        index, pts, dts = packet.stream_index, packet.pts, packet.dts
        table = tables[index]
        table.packet_count += 1
        if packet.is_keyframe and pts is not None:
            table.key_pts.append(pts)
        if not packet.is_discard:
            shown[index].append((pts, packet.duration))
        if dts is not None:
            table.is_counted |= last_dts.get(index, dts) - dts > restarts[index]
            last_dts[index] = dts
    for index, table in tables.items():
        _fill_table(table, shown[index])
        if container.format.name in UNRELIABLE_SEEK:
            table.key_pts = []
    return tables


def _fill_table(table: _PacketTable, shown: Sequence[tuple[int | None, int | None]]) -> None:
    """Fill in the time stamps of frames from `shown`, the time stamp and duration of each packet that is shown."""
    first_key = table.key_pts[0] if table.key_pts else None
    durations = {pts: length for pts, length in shown if pts is not None and (first_key is None or pts >= first_key)}
    if table.is_counted or len(durations) < MIN_STAMPED * len(shown):
        table.pts, table.key_pts, table.is_counted = range(len(shown)), [], True
        return
    table.pts, table.key_pts = array("q", sorted(durations)), sorted(table.key_pts)
    if durations:
        table.last_duration = durations[table.pts[-1]] or 0


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


def _upright_pixels(frame: VideoFrame, is_mirrored: bool) -> np.ndarray:
    """Convert a frame to RGB, uint8 of (height, width, 3), with its rotation applied."""
    is_guess = frame.colorspace == UNTAGGED and frame.height >= HD
    pixels = frame.reformat(format="rgb24", src_colorspace=BT709 if is_guess else None).to_ndarray()
    return np.rot90(pixels[::-1] if is_mirrored else pixels, round(frame.rotation / 90) % 4)


def _is_mirrored(frame: VideoFrame) -> bool:
    """Whether the display matrix of a frame mirrors it, as with some front cameras.

    Only one frame is asked: a frame whose side data was read is in a reference cycle and stays in memory.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return bool(a * d < b * c)
