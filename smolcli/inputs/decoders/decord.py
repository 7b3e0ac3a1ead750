"""Decodes videos with the library decord, for comparison: it is fast, and decodes wrong frames without an error.

That happens with open groups of pictures (HEVC), in MPEG-TS and AVI with B-frames, and if an edit list cuts the video.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import decord
import numpy as np
from decord._ffi.base import DECORDError

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs import decoders
from smolcli.inputs.image import check_size
from smolcli.types import Frame

MAX_TIME = 1e7  # seconds; a larger time stamp is not a real one


class Decord:
    """See `decoders.Decoder`. `max_pixels` limits one frame, whose size is known when the first one is decoded."""

    audio = False  # decord does not say
    notices: tuple[str, ...] = ()

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        self._source = source
        self.faults: list[str] = []
        reader = self._open_reader()
        times = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)
        if not len(times):
            raise decoders.no_readable_frame()
        begins = times[:, 0] - times[0, 0]
        if np.any(np.diff(begins) <= 0) or begins[-1] > MAX_TIME:  # in some containers they are arbitrary
            begins = np.arange(len(times)) / (reader.get_avg_fps() or 25)
        self.times: Sequence[float] = begins.tolist()
        self.duration = self.times[-1] * len(times) / max(len(times) - 1, 1)
        height, width, _ = self._decode(reader, 0).shape
        self.size = (width, height)
        check_size(width, height, max_pixels)

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        reader = self._open_reader()
        for number in numbers:
            pixels = self._decode(reader, number)
            yield Frame(pixels.tobytes(), pixels.shape[1], pixels.shape[0], self.times[number])

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        width, height = decoders.thumbnail_size(self.size)
        reader = self._open_reader(width=width, height=height)
        for number in numbers:
            pixels = self._decode(reader, number)
            yield self.times[number], (pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)

    def _open_reader(self, **size: int) -> Any:
        decord.logging.set_level(decord.logging.QUIET)
        file = f"file:{os.path.abspath(self._source)}" if isinstance(self._source, str) else io.BytesIO(self._source)
        try:
            return decord.VideoReader(file, ctx=decord.cpu(0), **size)
        except (DECORDError, RuntimeError, UnicodeError) as error:
            raise InputError("cannot be read by decord", "leave out --decoder", kind=ErrorKind.UNSUPPORTED) from error

    def _decode(self, reader: Any, number: int) -> np.ndarray:
        try:
            pixels: np.ndarray = reader[number].asnumpy()
        except (DECORDError, RuntimeError) as error:
            raise InputError("cannot be decoded by decord", "leave out --decoder", kind=ErrorKind.TRUNCATED) from error
        return pixels
