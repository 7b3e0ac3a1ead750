"""Decodes animated GIF, WebP, PNG and AVIF with Pillow: composited frames, each with its own duration."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, count

import numpy as np
from PIL import Image

from smolcli.inputs import decoders
from smolcli.inputs.alpha import flatten
from smolcli.inputs.decoders.video_color import ground_of_video
from smolcli.inputs.pixels import check_size, eight_bit_rgb
from smolcli.types import Frame

FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
MIN_DURATION, DEFAULT_DURATION = 0.01, 0.1  # seconds: up to the first, browsers show a frame for the second


class Pillow:
    """See `decoders.Decoder`. `max_pixels` limits one frame."""

    audio = False

    def __init__(self, source: str | bytes, max_pixels: int) -> None:
        self._source = source
        self.faults: list[str] = []
        with self._open() as image:
            check_size(*image.size, max_pixels)
            self.size = image.size
            # An animated PNG may begin with a picture for programs without animation.
            self._first = 1 if getattr(image, "default_image", False) else 0
            durations, is_cut = _frame_durations(image, self._first)
        if not durations:
            raise decoders.no_readable_frame()
        if len(durations) == 1 and not is_cut:
            raise decoders.still_picture()
        ends = list(accumulate(durations))
        self.times: Sequence[float] = [0.0, *ends[:-1]]
        self.duration = ends[-1]
        with self._open() as image:
            self._ground = ground_of_video(_rgba_frames(image, range(self._first, self._first + len(durations))))
        self.notices: tuple[str, ...] = (f"is cut short: {len(durations)} frames can be read",) if is_cut else ()

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        with self._open() as image:
            for number in numbers:
                image.seek(number + self._first)
                rgb = self._rgb(image)
                yield Frame(rgb.tobytes(), rgb.width, rgb.height, self.times[number])

    def thumbnails(self, numbers: range) -> Iterator[tuple[float, np.ndarray]]:
        size = decoders.thumbnail_size(self.size)
        with self._open() as image:
            for number in numbers:
                image.seek(number + self._first)
                small = self._rgb(image).convert("L").resize(size, Image.Resampling.BOX)
                yield self.times[number], np.asarray(small)

    def _rgb(self, image: Image.Image) -> Image.Image:
        if image.has_transparency_data:
            return flatten(image.convert("RGBA"), self._ground)
        return eight_bit_rgb(image)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Image.Image]:
        with decoders.open_source(self._source) as file:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image = Image.open(file, formats=FORMATS)
            except Exception as error:  # Pillow's decoders raise many classes for damaged data
                raise decoders.no_readable_frame() from error
            with image:
                yield image


def _rgba_frames(image: Image.Image, numbers: Iterable[int]) -> Iterator[Image.Image]:
    for number in numbers:
        image.seek(number)
        yield image.convert("RGBA")


def _frame_durations(image: Image.Image, first: int) -> tuple[list[float], bool]:
    """Return the duration of each readable frame in seconds, and whether the file is cut short."""
    durations: list[float] = []
    try:
        for number in count(first):
            image.seek(number)
            image.load()
            duration = image.info.get("duration", 0) / 1000
            durations.append(duration if duration > MIN_DURATION else DEFAULT_DURATION)
    except EOFError:
        return durations, False
    except Exception:  # as above
        return durations, True
    return durations, False
