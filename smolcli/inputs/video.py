"""A video as tasks use it: the times of its sampled frames, and their pictures decoded on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from smolcli import registry
from smolcli.errors import ErrorKind, InputError
from smolcli.inputs import decoders
from smolcli.inputs.decoders import y4m
from smolcli.inputs.decoders.pillow import Pillow
from smolcli.inputs.frame_sampling import bounds, frame_at, sample_frames
from smolcli.inputs.signatures import HEAD_BYTES, kind_of
from smolcli.options import Sampling
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Frame, FrameRef, Media

ANIMATED = frozenset(("GIF", "WebP", "PNG", "AVIF"))
# The score of a cut. The manual of FFmpeg's filter `select` calls 0.3 to 0.5 sane values; few cuts score less.
MIN_CUT_SCORE = 0.3
MIN_SCENE = 1.0  # seconds: a flash, or a few frames between two cuts, are no scene


class Video:
    """A video whose frames have been sampled, as a FrameSource. No file is open between calls.

    `source` is a path, or the bytes of a pipe or a download. `times` are the sampled frames' in seconds from the
    beginning of the file, `spans` the parts of the video they belong to, `size` the width and height of the first
    frame, upright. `notices` are messages on the whole file for the user, `remarks` those that are shown with -v only,
    `faults` the errors met while frames were decoded. `held` is how many bytes of `source` are in memory.

    Raises InputError for what is no video, and for a file that is being written.
    """

    def __init__(self, source: str | bytes, sampling: Sampling, max_pixels: int) -> None:
        self._source, self._stamp = source, _stamp(source)
        try:
            self._decoder = _open_decoder(source, sampling.decoder, max_pixels)
        except InputError:
            if self._is_changed:
                raise _being_written() from None
            raise
        if self._is_changed:
            raise _being_written()
        decoder = self._decoder
        self.size, self.duration, self.audio = decoder.size, decoder.duration, decoder.audio
        self.notices, self.faults = decoder.notices, decoder.faults
        self.remarks = ["its sound is not heard"] if self.audio else []
        if sampling.decoder == "decord":
            self.remarks.append("decord may give other frames than those asked for")
        scene_starts = self._find_cuts(sampling) if sampling.scene else ()
        self.spans, self._chosen = sample_frames(decoder.times, self.duration, sampling, scene_starts)
        self.times = tuple(decoder.times[number] for number in self._chosen)
        self.held = len(source) if isinstance(source, bytes) else 0

    @property
    def media(self) -> Media:
        """The video as a task sees it: which frames to look at, each of the size of the first."""
        width, height = self.size
        frames = tuple(FrameRef(index, width, height, time) for index, time in enumerate(self.times))
        return Media(frames, spans=self.spans, duration=self.duration, notices=tuple(self.notices))

    def pictures(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Decode the sampled frames with these ascending indices in full size, one at a time.

        A frame that belongs to two spans has two indices and is decoded once. Raises InputError, of kind changed where
        the file is not what it was when it was opened.
        """
        groups = [(chosen, list(same)) for chosen, same in groupby(indices, lambda index: self._chosen[index])]
        try:
            frames = self._decoder.frames([chosen for chosen, _ in groups])
            for (_, same), frame in zip(groups, frames, strict=True):
                yield from ((index, frame) for index in same)
        except InputError:
            if self._is_changed:
                raise _changed() from None
            raise
        if self._is_changed:
            raise _changed()

    def let_go(self) -> None:
        """Do nothing: no pixels are held."""

    @property
    def _is_changed(self) -> bool:
        return _stamp(self._source) != self._stamp

    def _find_cuts(self, sampling: Sampling) -> list[float]:
        times = self._decoder.times
        start, end = bounds(times, self.duration, sampling)
        return find_cuts(self._decoder.thumbnails(range(frame_at(times, start), frame_at(times, end) + 1)))


def find_cuts(thumbnails: Iterator[tuple[float, np.ndarray]]) -> list[float]:
    """Return the times at which scenes begin, without the first; scenes are at least MIN_SCENE long.

    `thumbnails` are times and gray pictures of one shape (height, width). The score of a frame is the smaller of two
    values, divided by 100: the mean absolute difference of its gray values from those of the frame before, and the
    change of that difference. So the score is low while everything moves (get_scene_score in FFmpeg's
    libavfilter/f_select.c).
    """
    cut_times: list[float] = []
    previous: np.ndarray | None = None
    difference = last_cut = 0.0
    for time, gray in thumbnails:
        values = gray.astype(np.int16)
        if previous is None:
            last_cut = time
        else:
            difference_before, difference = difference, float(np.abs(values - previous).mean())
            is_cut = min(difference, abs(difference - difference_before)) / 100 > MIN_CUT_SCORE
            if is_cut and time - last_cut >= MIN_SCENE:
                cut_times.append(time)
                last_cut = time
        previous = values
    return cut_times


def _open_decoder(source: str | bytes, name: str, max_pixels: int) -> decoders.Decoder:
    """Open `source` with the decoder `name`, or with Pillow for an animated picture.

    The first bytes decide what it is, and not the file's name.
    """
    with decoders.open_source(source) as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise InputError("is empty", "give a video", kind=ErrorKind.EMPTY)
    kind = kind_of(head)
    if kind in ANIMATED:
        return Pillow(source, max_pixels)
    if kind:
        raise decoders.still_picture()
    if _is_text(head):  # some libraries take it for a list of other files to open
        raise decoders.not_a_video()
    make_decoder = registry.load(registry.DECODERS, name)
    try:
        decoder: decoders.Decoder = make_decoder(source, max_pixels)
    except InputError as error:
        if error.kind == ErrorKind.UNSUPPORTED and decoders.is_index_cut(source):
            raise decoders.index_missing() from error  # what it lacks may be in the rest of the index
        raise
    return decoder


def _is_text(head: bytes) -> bool:
    """Whether a file with these first bytes is a text, and not the video that begins with a line of words."""
    return b"\0" not in head and not head.startswith(y4m.SIGNATURE)


def _stamp(source: str | bytes) -> str:
    return "" if isinstance(source, bytes) else stamp_of(source)


def _changed() -> InputError:
    return InputError("was changed while it was looked at", "run it again", kind=ErrorKind.CHANGED)


def _being_written() -> InputError:
    return InputError("is still being written", "try again when it is complete", kind=ErrorKind.CHANGED)
