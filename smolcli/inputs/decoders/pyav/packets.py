"""Reads the packets of a video, without decoding, for the true number and times of its frames."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from smolcli.inputs.decoders.streams import end_of_last

MIN_STAMPED = 0.4  # of the packets; if fewer have a time stamp of their own, frames are counted instead
UNRELIABLE_SEEK = ("mpeg",)  # containers that give frames other time stamps after a seek, so that there is none
RESTART = 1  # seconds by which time stamps go back where another recording begins, as in joined .ts files


@dataclass
class PacketTable:
    """What the packets of a stream say about its frames. Times are in units of the stream's time base."""

    pts: Sequence[int] = ()  # time stamp of each frame, ascending; its number if `is_counted`
    key_pts: list[int] = field(default_factory=list)  # of key frames, including those that are not shown; ascending
    end: float = 0  # until when the last frame is shown
    packet_count: int = 0  # includes packets of frames that are not shown
    is_counted: bool = False  # frames are counted because time stamps are missing or run backwards


def demux(container: InputContainer, streams: Iterable[Stream]) -> Iterator[Packet[Any]]:
    """Yield the packets up to the first that cannot be read."""
    try:
        yield from (packet for packet in container.demux(*streams) if packet.size)
    except (av.FFmpegError, IndexError):  # IndexError: at the end of damaged files that began without all streams
        return


def scan_packets(container: InputContainer, streams: Sequence[VideoStream]) -> dict[int, PacketTable]:
    """Read all packets; return a table for each stream, by the stream's index."""
    tables = {stream.index: PacketTable() for stream in streams}
    shown: dict[int, list[tuple[int | None, int | None]]] = {stream.index: [] for stream in streams}
    restarts = {stream.index: float(RESTART / (stream.time_base or 1)) for stream in streams}
    last_dts: dict[int, int] = {}
    for packet in demux(container, streams):
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
        _fill_table(table, shown[index], container.format.name)
        if container.format.name in UNRELIABLE_SEEK:
            table.key_pts = []
    return tables


def _fill_table(table: PacketTable, shown: Sequence[tuple[int | None, int | None]], container: str) -> None:
    """Fill in the time stamps of frames from `shown`, the time stamp and duration of each packet that is shown."""
    first_key = table.key_pts[0] if table.key_pts else None
    durations = {pts: length for pts, length in shown if pts is not None and (first_key is None or pts >= first_key)}
    if table.is_counted or len(durations) < MIN_STAMPED * len(shown):
        table.pts, table.key_pts, table.is_counted = range(len(shown)), [], True
        table.end = len(shown)
        return
    table.pts, table.key_pts = array("q", sorted(durations)), sorted(table.key_pts)
    if durations:
        table.end = end_of_last(table.pts, [durations[pts] or 0 for pts in table.pts], container)
