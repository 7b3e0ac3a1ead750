"""Decodes videos with the library decord, for comparison: it is fast, and decodes wrong frames without an error.

That happens with open groups of pictures (HEVC), in MPEG-TS and AVI with B-frames, and if an edit list cuts the video.
What decord does not say of a video (when it begins, how its pixels are shaped, what its colors mean) PyAV does.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import decord
import numpy as np
from decord._ffi.base import DECORDError
from PIL import Image

from smolcli import registry
from smolcli.errors import ErrorKind, InputError, UnavailableError
from smolcli.inputs import decoders
from smolcli.inputs.decoders.video_color import correct_matrix
from smolcli.types import Frame

if TYPE_CHECKING:
    from smolcli.inputs.decoders.pyav.decoder import PyAv


class Decord:
    """See `decoders.Decoder`. `max_pixels` limits one frame.

    Raises InputError, unsupported, for what decord would decode to other pictures than the other decoders.
    """

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        self._source = source
        self.faults: list[str] = []
        described = _pyav()(source, max_pixels)
        self.times, self.duration, self.size = described.times, described.duration, described.size
        self.audio, self.notices = described.audio, described.notices
        self._color, self._missing_matrix = described.color, described.missing_matrix
        if self._color.has_alpha:
            raise _unsupported("has transparency, which decord leaves out")
        if described.is_mirrored:
            raise _unsupported("is to be mirrored, which decord does not do")
        if described.has_several:
            raise _unsupported("has several videos in it, of which decord takes one by itself")
        if (count := len(self._open_reader())) != len(self.times):
            raise _unsupported(f"has {len(self.times)} frames, and decord says {count}")

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        reader = self._open_reader()
        for number in numbers:
            pixels = self._upright_pixels(self._decode(reader, number))
            yield Frame(pixels.tobytes(), pixels.shape[1], pixels.shape[0], self.times[number])

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        width, height = decoders.thumbnail_size(self.size)
        reader = self._open_reader(width=width, height=height)
        for number in numbers:
            yield self.times[number], self._color.to_gray(self._decode(reader, number))

    def _open_reader(self, **size: int) -> Any:
        decord.logging.set_level(decord.logging.QUIET)
        file = f"file:{os.path.abspath(self._source)}" if isinstance(self._source, str) else io.BytesIO(self._source)
        try:
            return decord.VideoReader(file, ctx=decord.cpu(0), **size)
        except (DECORDError, RuntimeError, UnicodeError) as error:
            raise _unsupported("cannot be read by decord") from error

    def _decode(self, reader: Any, number: int) -> np.ndarray:
        try:
            pixels: np.ndarray = reader[number].asnumpy()
        except (DECORDError, RuntimeError) as error:
            raise InputError("cannot be decoded by decord", "leave out --decoder", kind=ErrorKind.TRUNCATED) from error
        return pixels

    def _upright_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Convert what decord decoded, which is upright RGB of 8 bits, to sRGB of square pixels."""
        if self._missing_matrix is not None:  # decord has taken it for BT.601
            pixels = correct_matrix(pixels, self._missing_matrix)
        pixels = self._color.to_rgb(pixels)
        width, height = self.size
        if pixels.shape[1] == width and pixels.shape[0] == height:
            return pixels
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def _pyav() -> type[PyAv]:
    """Load the decoder that describes the video. Raises InputError if its library is missing."""
    try:
        loaded: type[PyAv] = registry.load(registry.DECODERS, "av")
    except UnavailableError as error:
        raise InputError(f"cannot be read: {error.what}", error.advice, kind=ErrorKind.UNSUPPORTED) from error
    return loaded


def _unsupported(reason: str) -> InputError:
    return InputError(reason, "leave out --decoder", kind=ErrorKind.UNSUPPORTED)
