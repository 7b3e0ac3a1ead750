"""Finds frames of an open video by their time stamps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import Any, NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from smolcli.inputs import decoders
from smolcli.inputs.decoders.pyav.packets import PacketTable, demux

MIN_SEEK = 8  # frames; nearer ones are reached by decoding on, since a decoder is empty after a seek
SEEK_BACK = (0, 1, 2, 4, 8)  # key frames to go back, tried in turn if a seek lands behind the requested frame


class OpenVideo(NamedTuple):
    """A stream of an open container, and what decodes it."""

    container: InputContainer
    stream: VideoStream
    codec: VideoCodecContext


class FrameFinder:
    """Finds frames by ascending time stamps in an open video; seeks if that is cheaper than decoding on.

    `found_pts` is the time stamp of the frame found last, `fault` what is wrong with it. Frames that are not
    `requested` may be skipped if no other frame needs them; None requests all.
    """

    def __init__(
        self,
        reopen: Callable[[], OpenVideo],
        packets: PacketTable,
        requested: frozenset[int] | None,
    ) -> None:
        self._reopen, self._requested = reopen, requested
        self._pts, self._key_pts, self._is_counted = packets.pts, packets.key_pts, packets.is_counted
        self.found_pts, self.fault = 0, ""
        self._video = reopen()
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
        del self._video, self._reopen

    def _seek(self, key: int, pts: int) -> None:
        """Decode the first frame after a key frame, or after an earlier one if that lands behind `pts`.

        If seeking does not work at all in this container, decoding starts at the beginning and never seeks again.
        """
        for earlier in sorted({max(key - back, 0) for back in SEEK_BACK}, reverse=True):
            try:
                self._video.container.seek(self._key_pts[earlier], stream=self._video.stream)
            except av.FFmpegError:
                break
            self._start_decoding()
            if self._advance() and self._current is not None and self._current[0] <= pts:
                return
        if self._landed_at is None or self._landed_at > pts:
            self._key_pts = []
            self._video = self._reopen()
            self._start_decoding()

    def _decode(self) -> Generator[tuple[int, VideoFrame], None, None]:
        """Yield frames in order of showing, with their time stamps.

        Packets before the first key frame cannot be decoded. A last packet of None makes the decoder give the frames
        that it still holds.
        """
        count, has_key_frame = 0, self._is_counted or not self._key_pts
        for packet in chain(demux(self._video.container, [self._video.stream]), (None,)):
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
            self._video.codec.skip_frame = "DEFAULT" if is_requested else "NONREF"

    def _decode_packet(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames = self._video.codec.decode(packet)
        except av.EOFError:
            return []
        except av.FFmpegError:
            self._error_count += 1
            return []
        self._error_count += sum(frame.is_corrupt for frame in frames)
        return frames
