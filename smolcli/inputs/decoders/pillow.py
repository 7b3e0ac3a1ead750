"""Animated GIF, WebP, PNG and AVIF through Pillow: whole composited frames, each with its own duration."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from itertools import accumulate, count

import numpy as np
from PIL import Image

from smolcli.inputs import decoders
from smolcli.inputs.image import check_size, eight_bit_rgb
from smolcli.types import Frame

FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
AT_ONCE = 0.1  # seconds that a frame of no duration is shown, as browsers do


class Pillow:
    """See `decoders.Decoder`; `max_pixels` is of one frame."""

    audio = False

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        self._source = source
        self.faults: list[str] = []
        with self._open() as image:
            check_size(*image.size, max_pixels)
            self.size = image.size
            self._first = 1 if getattr(image, "default_image", False) else 0  # a PNG's picture for those without motion
            lengths, is_cut = _lengths(image, self._first)
        if not lengths:
            raise decoders.no_frame()
        if len(lengths) == 1 and not is_cut:
            raise decoders.is_still()
        ends = list(accumulate(lengths))
        self.times: Sequence[float] = [0.0, *ends[:-1]]
        self.duration = ends[-1]
        self.notices: tuple[str, ...] = (f"is cut short: {len(lengths)} frames can be read",) if is_cut else ()

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        with self._open() as image:
            for number in numbers:
                image.seek(number + self._first)
                rgb = eight_bit_rgb(image)
                yield Frame(rgb.tobytes(), rgb.width, rgb.height, self.times[number])

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        size = decoders.thumbnail_size(self.size)
        with self._open() as image:
            for number in numbers:
                image.seek(number + self._first)
                small = eight_bit_rgb(image).convert("L").resize(size, Image.Resampling.BOX)
                yield self.times[number], np.asarray(small)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Image.Image]:
        with decoders.opened(self._source) as file:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image = Image.open(file, formats=FORMATS)
            except Exception as error:  # what Pillow's decoders raise on damaged data is not one class
                raise decoders.no_frame() from error
            with image:
                yield image


def _lengths(image: Image.Image, first: int) -> tuple[list[float], bool]:
    """For how many seconds each frame is shown, and whether there should be more of them."""
    lengths: list[float] = []
    try:
        for number in count(first):
            image.seek(number)
            image.load()
            lengths.append(image.info.get("duration", 0) / 1000 or AT_ONCE)
    except EOFError:
        return lengths, False
    except Exception:  # as above
        return lengths, True
    return lengths, False
