"""The contact sheet of a video: the frames looked at, each with its time, as one picture."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from smolcli import registry
from smolcli.errors import OutputError
from smolcli.inputs.load import open_video
from smolcli.options import Input, Sampling
from smolcli.types import Item, format_time

WIDTHS = ((200, 240), (2_000, 120), (MOST := 20_000, 40))  # up to so many frames: pixels across each
COLUMNS = 6  # at least, where there are as many frames
GAP = 4


def write(item: Item, sampling: Sampling, options: Input, offline: bool, file: Path) -> None:
    """Writes the picture whole or not at all; of more than MOST frames the first MOST.

    Raises InputError for what is no video, OutputError where the file cannot be written.
    """
    video, _ = open_video(item, sampling, options, offline)
    numbers = range(min(len(video.times), MOST))
    sheet = _Sheet(len(numbers), *video.size)
    for number, frame in video.pictures(numbers):
        picture = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
        sheet.add(number, picture, video.times[number])
    part, whole = file.with_name(f".{file.name}.smolcli"), io.BytesIO()
    try:
        sheet.image.save(whole, registry.CONTACT_SHEET_FORMATS[file.suffix.lower()], quality=90)
        part.write_bytes(whole.getbuffer())  # of a disk that is full Pillow says nothing
        os.replace(part, file)
    except (OSError, ValueError) as error:  # ValueError: too large for the format
        part.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        what = f"{file}: cannot be written ({reason})"
        raise OutputError(what, "choose another file with --contact-sheet") from error


class _Sheet:
    def __init__(self, count: int, width: int, height: int) -> None:
        self._width = next(across for most, across in WIDTHS if count <= most)
        self._height = max(1, min(4 * self._width, round(self._width * height / width)))
        self._size = max(8, self._width // 12)  # of the letters
        self._line = self._size + 2 * GAP
        self._columns = min(count, max(COLUMNS, math.ceil(math.sqrt(count))))
        rows = math.ceil(count / self._columns)
        size = self._columns * (self._width + GAP) + GAP, rows * (self._height + self._line) + GAP
        self.image = Image.new("RGB", size, "#dddddd")
        self._pen = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(self._size)

    def add(self, number: int, picture: Image.Image, time: float) -> None:
        """Puts a picture into its place, under it the time in seconds."""
        row, column = divmod(number, self._columns)
        x, y = GAP + column * (self._width + GAP), GAP + row * (self._height + self._line)
        picture.thumbnail((self._width, self._height), Image.Resampling.LANCZOS)
        self.image.paste(picture, (x, y))
        self._pen.text(
            (x, y + self._height + 2), f"{format_time(time)}.{int((time + 0.002) * 10) % 10}", "black", self._font
        )
