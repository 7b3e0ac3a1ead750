"""The pictures of a benchmark: the user's own, or generated ones of a given size."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from smolcli.bench.options import NO_PICTURE, SIZE
from smolcli.errors import InputError, UsageError
from smolcli.inputs.collect import InputCollector
from smolcli.inputs.load import load, open_pictures
from smolcli.options import Input, Output
from smolcli.types import Item, Source

COARSE = 16  # pixels between two independent random colours of a generated picture
THUMBNAIL = 320  # pixels of the longest edge
GRAIN = 8  # levels of noise added to them, so that the file is as large as a photograph's


class PictureSource:
    """Gives pictures as items; generated ones are JPEG files in `folder`, no two of them equal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def items(self, word: str, count: int) -> tuple[Item, ...]:
        """`count` pictures for a value of --image; none for `none`. If the user gives too few, they are repeated.

        Raises UsageError for a directory without pictures.
        """
        if word == NO_PICTURE:
            return ()
        if size := SIZE.fullmatch(word):
            return tuple(Item.of(str(self._generate(int(size[1]), int(size[2]), n))) for n in range(count))
        listed = InputCollector(Input(inputs=(word,)), Output()).items()
        items = list(islice((item for item in listed if os.path.isfile(item.path)), count))
        if not items:
            raise UsageError(f"{word}: no picture is in it", "name another directory, a picture, or a size: 1024x768")
        return tuple(islice(cycle(items), count))

    def _generate(self, width: int, height: int, number: int) -> Path:
        path = self._folder / f"{width}x{height}-{number}.jpg"
        if not path.exists():
            rng = np.random.default_rng((width, height, number))
            rough = rng.integers(0, 256, (height // COARSE + 2, width // COARSE + 2, 3), dtype=np.uint8)
            smooth = np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC), np.int16)
            grain = rng.integers(-GRAIN, GRAIN + 1, smooth.shape, dtype=np.int16)
            Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        return path


def thumbnails(sources: Sequence[Source], offline: bool) -> list[str]:
    """A small JPEG of each source as a data: URI, or "" if it cannot be read. Call it in a child: it may crash."""
    return [_thumbnail(source, offline) for source in sources]


def _thumbnail(source: Source, offline: bool) -> str:
    item = Item(source.word, (source,))
    try:
        [(_, frame)] = open_pictures(item, load(item, offline)[0], Input()).pictures([0])
    except InputError:
        return ""
    image = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
