"""A video for tasks: which of its frames are looked at, and their pictures a stretch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from smolcli import registry
from smolcli.errors import InputError
from smolcli.inputs import decoders
from smolcli.inputs.decoders.pillow import Pillow
from smolcli.inputs.frame_sampling import bounds, choose, shown
from smolcli.inputs.image import kind_of
from smolcli.options import Sampling
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Frame

HEAD = 256  # bytes, in which `kind_of` finds signatures
ANIMATED = frozenset(("GIF", "WebP", "PNG", "AVIF"))
NEW_SCENE = 0.3  # the score of FFmpeg's filter `select`, whose manual has 0.3 to 0.5 for sane; few cuts score less
SHORTEST_SCENE = 1.0  # seconds: a flash, or a few frames between two cuts, are no scene


class Video:
    """A video that is scanned and whose frames are chosen; between calls nothing is open.

    `times` are the chosen frames' in seconds from the first frame, `size` is width and height of the first, upright.
    `notices` say what a person should know of the file, `faults` what was found wrong while pictures were decoded.
    `source` is a path, or the bytes of what was piped or fetched, of which `held` are in memory. Raises InputError.
    """

    def __init__(self, source: str | bytes, sampling: Sampling, max_pixels: int) -> None:
        before = _state(source)
        try:
            self._decoder = _decoder(source, sampling.decoder, max_pixels)
        except InputError:
            if _state(source) != before:
                raise _growing() from None
            raise
        if _state(source) != before:
            raise _growing()
        decoder = self._decoder
        self.size, self.duration, self.audio = decoder.size, decoder.duration, decoder.audio
        self.notices, self.faults = decoder.notices, decoder.faults
        cuts = self._cuts(sampling) if sampling.scene else ()
        self.spans, self._chosen = choose(decoder.times, self.duration, sampling, cuts)
        self.times = tuple(decoder.times[number] for number in self._chosen)
        self.held = len(source) if isinstance(source, bytes) else 0

    def pictures(self, numbers: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """The chosen frames with these ascending numbers, in full size, decoded one at a time.

        A frame that serves two spans has two numbers and is decoded once.
        """
        groups = [(chosen, list(same)) for chosen, same in groupby(numbers, lambda number: self._chosen[number])]
        frames = self._decoder.frames([chosen for chosen, _ in groups])
        for (_, same), frame in zip(groups, frames, strict=True):
            yield from ((number, frame) for number in same)

    def _cuts(self, sampling: Sampling) -> list[float]:
        times = self._decoder.times
        start, end = bounds(self.duration, sampling)
        return cuts(self._decoder.thumbnails(range(shown(times, start), shown(times, end) + 1)))


def cuts(thumbnails: Iterator[tuple[float, np.ndarray]]) -> list[float]:
    """The times of the first frames of scenes, but the first, each at least a second after the one before.

    The score of a frame is the mean absolute difference of its grey values from the frame before's, or how much that
    mean has changed, whichever is less, in hundreds: so it is low while everything moves (get_scene_score of FFmpeg's
    libavfilter/f_select.c).
    """
    found: list[float] = []
    previous: np.ndarray | None = None
    difference = last = 0.0
    for time, grey in thumbnails:
        values = grey.astype(np.int16)
        if previous is None:
            last = time
        else:
            before, difference = difference, float(np.abs(values - previous).mean())
            is_cut = min(difference, abs(difference - before)) / 100 > NEW_SCENE
            if is_cut and time - last >= SHORTEST_SCENE:
                found.append(time)
                last = time
        previous = values
    return found


def _decoder(source: str | bytes, name: str, max_pixels: int) -> decoders.Decoder:
    """The reader for what the first bytes announce, whatever the name ends with."""
    with decoders.opened(source) as file:
        head = file.read(HEAD)
    if not head:
        raise InputError("is empty", "give a video", kind="empty")
    kind = kind_of(head)
    if kind in ANIMATED:
        return Pillow(source, max_pixels)
    if kind:
        raise decoders.is_still()
    if b"\0" not in head:  # some libraries take a text for a list of other files to open
        raise decoders.is_no_video()
    decoder: decoders.Decoder = registry.load(registry.DECODERS, name)(source, max_pixels)
    return decoder


def _state(source: str | bytes) -> str:
    return "" if isinstance(source, bytes) else stamp_of(source)


def _growing() -> InputError:
    return InputError("is still being written", "try again when it is complete", kind="changed")
