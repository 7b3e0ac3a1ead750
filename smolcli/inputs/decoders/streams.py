"""Which of several video streams of a file is the video, and how long the file is: what all decoders share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smolcli.inputs.decoders import open_source

MIN_LENGTH = 0.5  # of the longest stream; a shorter one is a thumbnail, an intro or a leftover
STILL = 0.5  # seconds; if a file goes on for longer than this after its last picture, that picture stands still
MAX_MISSING = 0.05  # of what the header says; if more is missing, a notice says so
MIN_LEAD = 0.001  # seconds; a shorter time before the first frame comes from rounding
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of these leave transparency out
# Containers that hold the durations between packets in the order of decoding: their sum is that of the frames, but no
# single one is that of its frame.
DECODE_DURATIONS = ("mov",)
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # elements of Matroska, RFC 8794 and RFC 9559


@dataclass(frozen=True)
class Stream:
    """A video stream of a file, no cover art. `number` is that of the stream in the file, `seconds` its length."""

    number: int
    width: int
    height: int
    frame_count: int
    seconds: float
    is_default: bool
    is_decodable: bool = True


def choose_stream(streams: Sequence[Stream]) -> Stream:
    """Return the video among the streams: one that moves and is long, the default one, the largest, the first."""
    longest = max(stream.seconds for stream in streams)

    def rank(stream: Stream) -> tuple[bool, bool, bool, bool, int, int]:
        is_long = stream.seconds >= MIN_LENGTH * longest
        size = stream.width * stream.height
        return stream.is_decodable, stream.frame_count > 1, is_long, stream.is_default, size, -stream.number

    return max(streams, key=rank)


def notices_of(streams: Sequence[Stream], chosen: Stream) -> tuple[str, ...]:
    """Return the remark which of several streams is looked at."""
    if len(streams) == 1:
        return ()
    size = f"{chosen.width} x {chosen.height} pixels"
    return (f"has {len(streams)} videos in it; the model sees that of {size} (stream {chosen.number} of the file)",)


def end_of_last(starts: Sequence[int], durations: Sequence[int], container: str) -> float:
    """Return until when the last frame is shown, in the units of the arguments.

    `starts` are ascending, `durations` 0 where unknown, `container` is FFmpeg's name of it.
    """
    first, last = starts[0], starts[-1]
    length = sum(durations)
    if container.startswith(DECODE_DURATIONS) and length > last - first:
        return first + length
    return last + (durations[-1] or (last - first) / max(len(starts) - 1, 1))


def is_whole_matroska(source: str | bytes) -> bool:
    """Whether a source is Matroska or WebM and as long as its header says, so that the duration there is the real one.

    It is not known of one that was written without going back, as a browser's recording.
    """
    with open_source(source) as file:
        head = file.read(2**12)
        size = file.seek(0, 2)
    if not head.startswith(EBML):
        return False
    header_size, offset = _element_size(head, len(EBML))
    segment = offset + header_size
    if header_size < 0 or head[segment : segment + len(SEGMENT)] != SEGMENT:
        return False
    segment_size, offset = _element_size(head, segment + len(SEGMENT))
    return 0 <= segment_size <= size - offset


def _element_size(data: bytes, offset: int) -> tuple[int, int]:
    """Return the size of an element, -1 if it is unknown, and the offset after it: RFC 8794, section 4."""
    first = data[offset] if offset < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[offset : offset + length], "big") & ((1 << 7 * length) - 1)
    is_unknown = not first or value == (1 << 7 * length) - 1
    return -1 if is_unknown else value, offset + length
