"""FFmpeg's libraries through PyAV: the right frame of every container, also where its header is wrong.

Packets are scanned once, without decoding, for the true number and times of frames. A wanted frame is then found by its
own time stamp, after a jump to the key frame before it.
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

MOST_THREADS = 4
LARGE = 2**22  # pixels of a frame; over it threads share a frame rather than hold frames of their own, 12 MB of 4K
FEW = 0.4  # of the packets; where fewer have a time stamp of their own, frames are counted instead
CUT = 0.05  # of what the header promises; where more is missing, that is said
UNSURE = ("mpeg",)  # containers that give frames other time stamps after a jump: there, one walks from the beginning
TIMED = ("matroska", "flv", "asf")  # containers whose header has a duration and no number of frames
UNTAGGED, BT709, HD = 2, "ITU709", 720  # AVCOL_SPC_UNSPECIFIED is taken for BT.709 from 720 lines on, as players do
NEAR = 8  # frames, over which one goes on decoding rather than jump: a decoder that has jumped is empty
BACK = (0, 1, 2, 4, 8)  # key frames, to try one after the other where a jump lands behind the frame it is for
JUMP = 1  # seconds back, in the order of packets: another recording begins, as in .ts files put together
OPTIONS = {"format_whitelist": decoders.CONTAINERS, "protocol_whitelist": "none"}


@dataclass
class _Packets:
    """What the packets of a stream say; `marks` are the time stamps by which frames are found, in order of showing."""

    marks: Sequence[int] = ()
    keys: list[int] = field(default_factory=list)  # of key frames, also of those that are not shown; ascending
    last: int = 0  # how long the last frame is shown, 0 where that is unknown
    seen: int = 0  # packets, also of frames that are not shown
    is_counted: bool = False  # the marks are numbers of frames: time stamps are missing or run backwards


class PyAv:
    """See `decoders.Decoder`; `max_pixels` is of one frame."""

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        self._source, self._max_pixels = source, max_pixels
        self.faults: list[str] = []
        with self._open() as container:
            streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
            self.audio = bool(container.streams.audio)
            if not streams:
                raise decoders.no_video(self.audio)
            scanned = _scan(container, streams)
            stream = max(streams, key=lambda one: (one.codec_context is not None, scanned[one.index].seen))
            self._stream, self._packets = stream.index, scanned[stream.index]
            _check(container, stream, max_pixels)
            if not self._packets.marks:
                raise decoders.no_frame()
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self._unit = 1 / rate if self._packets.is_counted else stream.time_base or Fraction(1)
            self.times = array("d", map(self._time, self._packets.marks))
            self.duration = self.times[-1] + self._last()
            missing = self._missing(container, stream)
            # Only of H.264 is it sure that what says it is referred to by no other frame is not.
            self._may_skip = stream.codec_context.name == "h264" and not self._packets.is_counted
        self.notices = (f"is cut short: {missing} can be read",) if missing else ()
        with self._walk() as walk:
            first = walk.find(self._packets.marks[0])
        self._may_skip &= not first.interlaced_frame  # of two fields, both would have to be wanted
        self._is_mirrored = _is_mirrored(first)
        height, width, _ = _upright(first, False).shape
        self.size = (width, height)

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        wanted = frozenset(self._packets.marks[number] for number in numbers)
        with self._walk(wanted if self._may_skip else None) as walk:
            for number in numbers:
                frame = walk.find(self._packets.marks[number])
                if walk.harm:
                    self.faults.append(f"the frame at {format_time(self.times[number])} {walk.harm}")
                yield self._picture(frame, self._time(walk.mark))

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        marks = self._packets.marks
        width, height = decoders.thumbnail_size(self.size)
        reformatter = VideoReformatter()
        with self._walk(skip_loop_filter="all") as walk:
            walk.find(marks[numbers[0]])
            for mark, frame in walk.rest():
                if mark > marks[numbers[-1]]:
                    return
                small = reformatter.reformat(frame, width, height, "gray", interpolation="AREA")
                yield self._time(mark), small.to_ndarray()

    @contextlib.contextmanager
    def _open(self) -> Iterator[InputContainer]:
        with decoders.opened(self._source) as file:
            try:
                container: InputContainer = av.open(_Nameless(file), "r", options=OPTIONS, metadata_errors="replace")
            except (av.FFmpegError, ValueError) as error:  # ValueError: a container that is not in the list
                raise decoders.not_read(self._source) from error
            with container:
                yield container

    @contextlib.contextmanager
    def _walk(self, wanted: frozenset[int] | None = None, **options: str) -> Iterator[_Walk]:
        options["max_pixels"] = str(self._max_pixels)
        with contextlib.ExitStack() as stack:
            walk = _Walk(lambda: self._stream_in(stack, options), self._packets, wanted)
            try:
                yield walk
            finally:
                walk.close()

    def _stream_in(self, stack: contextlib.ExitStack, options: dict[str, str]) -> tuple[InputContainer, VideoStream]:
        """The stream at its beginning, in a container that is opened anew; the one before is closed."""
        stack.pop_all().close()
        container = stack.enter_context(self._open())
        stream = container.streams[self._stream]
        assert isinstance(stream, VideoStream)
        codec = stream.codec_context
        codec.thread_count = min(usable_cores(), MOST_THREADS)
        codec.thread_type = "AUTO" if codec.width * codec.height <= LARGE else "SLICE"
        codec.options = options
        return container, stream

    def _picture(self, frame: VideoFrame, time: float) -> Frame:
        """The frame in smolcli's own form."""
        pixels = _upright(frame, self._is_mirrored)
        return Frame(pixels.tobytes(), pixels.shape[1], pixels.shape[0], time)

    def _time(self, mark: int) -> float:
        return (mark - self._packets.marks[0]) * self._unit.numerator / self._unit.denominator

    def _last(self) -> float:
        """For how many seconds the last frame is shown: as its packet says, else as long as the others on average."""
        if self._packets.last > 0 and not self._packets.is_counted:
            return float(self._packets.last * self._unit)
        return self.times[-1] / max(len(self.times) - 1, 1)

    def _missing(self, container: InputContainer, stream: VideoStream) -> str:
        """What can be read of what the header promises; "" where that is all."""
        if stream.frames:
            promised = float((stream.duration or 0) * (stream.time_base or 0))
            if container.format.name == "avi":  # of a cut one, FFmpeg guesses the duration by its size
                promised = float(stream.frames / (stream.average_rate or 25))
            is_cut = stream.frames * (1 - CUT) > self._packets.seen and promised * (1 - CUT) > self.duration
            return f"{self._packets.seen} of {stream.frames} frames" if is_cut else ""
        promised = (container.duration or 0) / av.time_base
        if not container.format.name.startswith(TIMED) or promised * (1 - CUT) <= self.duration:
            return ""
        with self._open() as again:  # it may be the sound that is longer than the pictures
            begin = (again.start_time or 0) / av.time_base
            ends = [float((one.pts or 0) * (one.time_base or 0)) - begin for one in _demux(again, again.streams)]
            end = max(ends, default=0.0)
        return f"{format_time(end)} of {format_time(promised)}" if promised * (1 - CUT) > end else ""


class _Nameless:
    """A file of which FFmpeg learns no name: it goes by the content, and takes no part of a name for a protocol."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


class _Walk:
    """Walks forwards through an open video; `mark` is of the frame found last, `harm` what is wrong with it.

    Frames but those `wanted` may be left out where no other frame needs them; None is all.
    """

    def __init__(
        self, reopen: Callable[[], tuple[InputContainer, VideoStream]], packets: _Packets, wanted: frozenset[int] | None
    ) -> None:
        self._reopen, self._wanted = reopen, wanted
        self._marks, self._keys, self._is_counted = packets.marks, packets.keys, packets.is_counted
        self.mark, self.harm = 0, ""
        self._container, self._stream = reopen()
        self._begin()

    def find(self, mark: int) -> VideoFrame:
        """The frame with this mark, or the nearest that can be decoded; marks must not go down from call to call.

        Where nothing is damaged and there is no such frame, as of the second field of interlaced pictures, the frame
        before it is the one that is shown. Raises InputError, truncated, where no frame can be decoded.
        """
        key = bisect_right(self._keys, mark) - 1
        if key > 0 and self._is_far(self._keys[key]):
            self._jump(key, mark)
        while (self._here is None or self._here[0] < mark) and self._step():
            pass
        near = [one for one in (self._before, self._here) if one is not None]
        if not near:
            raise decoders.no_frame()
        self.mark, frame = max((one for one in near if one[0] <= mark), default=near[0], key=lambda one: one[0])
        self.harm = "is damaged" if frame.is_corrupt else ""
        if self.mark != mark and self._harms:
            self.mark, frame = min(near, key=lambda one: abs(one[0] - mark))
            self.harm = "cannot be decoded; the nearest is shown"
        return frame

    def rest(self) -> Iterator[tuple[int, VideoFrame]]:
        """The frames from the last one that was found on, with their marks."""
        while self._here is not None:
            yield self._here
            if not self._step():
                return

    def _is_far(self, key: int) -> bool:
        """Whether a jump to a key frame is cheaper than to go on to it."""
        return self._here is None or bisect_left(self._marks, key) - bisect_left(self._marks, self._here[0]) > NEAR

    def _begin(self) -> None:
        self._before: tuple[int, VideoFrame] | None = None
        self._here: tuple[int, VideoFrame] | None = None  # the last frame that was decoded, and the one before it
        self._harms = 0  # since the walk began or jumped
        self._landed: int | None = None  # the time stamp of the first packet since then
        self._decoded = self._decode()

    def close(self) -> None:
        """Lets go of frames and decoder at once: in a circle of references they would wait for Python's collector."""
        self._decoded.close()
        self._before = self._here = None
        del self._container, self._stream, self._reopen

    def _step(self) -> bool:
        """Goes on by one frame, if there is one."""
        for step in self._decoded:
            self._before, self._here = self._here, step
            return True
        return False

    def _jump(self, key: int, mark: int) -> None:
        """Goes to the first frame that can be decoded from a key frame on, or from one before it.

        Where the container cannot be searched at all, the walk begins anew and never jumps again.
        """
        for place in sorted({max(key - back, 0) for back in BACK}, reverse=True):
            try:
                self._container.seek(self._keys[place], stream=self._stream)
            except av.FFmpegError:
                break
            self._begin()
            if self._step() and self._here is not None and self._here[0] <= mark:
                return
        if self._landed is None or self._landed > mark:
            self._keys = []
            self._container, self._stream = self._reopen()
            self._begin()

    def _decode(self) -> Generator[tuple[int, VideoFrame], None, None]:
        """Frames in order of showing, with their marks; what is before the first key frame cannot be decoded."""
        count, is_begun = 0, self._is_counted or not self._keys
        for packet in chain(_demux(self._container, [self._stream]), (None,)):  # None: it gives what it still holds
            if packet is not None:
                is_begun = is_begun or packet.is_keyframe
                self._landed = packet.pts if is_begun and self._landed is None else self._landed
                self._skip(packet)
            for frame in self._frames_of(packet) if is_begun else ():
                if self._is_counted or frame.pts is not None:
                    yield (count if self._is_counted else frame.pts or 0), frame
                    count += 1

    def _skip(self, packet: Packet[Any]) -> None:
        """Tells the decoder whether it may leave this packet out."""
        if self._wanted is not None:
            is_wanted = packet.pts is None or packet.pts in self._wanted
            self._stream.codec_context.skip_frame = "DEFAULT" if is_wanted else "NONREF"

    def _frames_of(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.EOFError:
            return []
        except av.FFmpegError:
            self._harms += 1
            return []
        self._harms += sum(frame.is_corrupt for frame in frames)
        return frames


def _demux(container: InputContainer, streams: Iterable[Stream]) -> Iterator[Packet[Any]]:
    """The packets up to the first that cannot be read."""
    try:
        yield from (packet for packet in container.demux(*streams) if packet.size)
    except (av.FFmpegError, IndexError):  # IndexError: at the end of damaged files that began without all streams
        return


def _scan(container: InputContainer, streams: Sequence[VideoStream]) -> dict[int, _Packets]:
    """What the packets say, by the stream's index."""
    scanned = {stream.index: _Packets() for stream in streams}
    shown: dict[int, list[tuple[int | None, int | None]]] = {stream.index: [] for stream in streams}
    jumps = {stream.index: float(JUMP / (stream.time_base or 1)) for stream in streams}
    latest: dict[int, int] = {}
    for packet in _demux(container, streams):
        index, pts, dts = packet.stream_index, packet.pts, packet.dts
        packets = scanned[index]
        packets.seen += 1
        if packet.is_keyframe and pts is not None:
            packets.keys.append(pts)
        if not packet.is_discard:
            shown[index].append((pts, packet.duration))
        if dts is not None:
            packets.is_counted |= latest.get(index, dts) - dts > jumps[index]
            latest[index] = dts
    for index, packets in scanned.items():
        first = packets.keys[0] if packets.keys else None
        stamped = {pts: length for pts, length in shown[index] if pts is not None and (first is None or pts >= first)}
        packets.marks, packets.keys = array("q", sorted(stamped)), sorted(packets.keys)
        if packets.is_counted or len(stamped) < FEW * len(shown[index]):
            packets.marks, packets.keys, packets.is_counted = range(len(shown[index])), [], True
        elif stamped:
            packets.last = stamped[packets.marks[-1]] or 0
        if container.format.name in UNSURE:
            packets.keys = []
    return scanned


def _check(container: InputContainer, stream: VideoStream, max_pixels: int) -> None:
    """Raises InputError for a codec that is not here, and for frames of too many pixels."""
    codec: VideoCodecContext | None = stream.codec_context
    if codec is None:
        av.logging.set_level(av.logging.INFO)  # else it is not told
        try:
            told = re.search(r"Video: (\w+)(?: \((\w+) /)?", container.dumps_format())  # type: ignore[attr-defined]
        finally:
            av.logging.set_level(None)
        raise decoders.no_codec(next((name for name in told.groups() if name and name != "none"), "") if told else "")
    check_size(codec.width, codec.height, max_pixels)


def _upright(frame: VideoFrame, is_mirrored: bool) -> np.ndarray:
    """Height x width x RGB."""
    is_guess = frame.colorspace == UNTAGGED and frame.height >= HD
    pixels = frame.reformat(format="rgb24", src_colorspace=BT709 if is_guess else None).to_ndarray()
    return np.rot90(pixels[::-1] if is_mirrored else pixels, round(frame.rotation / 90) % 4)


def _is_mirrored(frame: VideoFrame) -> bool:
    """Whether its display matrix turns it over, as that of some front cameras does.

    It is asked of one frame only: a frame that was asked for such data is in a cycle of references and stays in memory.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return bool(a * d < b * c)
