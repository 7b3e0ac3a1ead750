"""Makes the contact sheet of a video: one picture of the sampled frames, each with its time."""

from __future__ import annotations

import io
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from smolcli import registry
from smolcli.errors import OutputError
from smolcli.inputs.load import open_video
from smolcli.options import Input, Sampling
from smolcli.system.atomic_file import atomic_write
from smolcli.types import Item, format_time

MAX_FRAMES = 20_000
WIDTHS = ((200, 240), (2_000, 120), (MAX_FRAMES, 40))  # up to that many frames: width of each in pixels
MIN_COLUMNS = 6  # if there are as many frames
GAP = 4  # pixels between frames


def write(item: Item, sampling: Sampling, options: Input, offline: bool, file: Path) -> None:
    """Write the contact sheet of a video to `file`, completely or not at all; it has the first MAX_FRAMES frames.

    Raises InputError for what is no video, OutputError if the file cannot be written.
    """
    video, _ = open_video(item, sampling, options, offline)
    numbers = range(min(len(video.times), MAX_FRAMES))
    sheet = _Sheet(len(numbers), *video.size)
    for number, frame in video.pictures(numbers):
        picture = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
        sheet.add(number, picture, video.times[number])
    encoded = io.BytesIO()
    try:
        sheet.image.save(encoded, registry.CONTACT_SHEET_FORMATS[file.suffix.lower()], quality=90)
        with atomic_write(file) as part:
            part.write(encoded.getbuffer())  # Pillow does not report a full disk
    except (OSError, ValueError) as error:  # ValueError: too large for the format
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{file}: cannot be written ({reason})", "choose another file with --contact-sheet"
        ) from error


class _Sheet:
    """An image with a cell for each of `count` frames, whose first is `width` x `height` pixels."""

    def __init__(self, count: int, width: int, height: int) -> None:
        self._width = next(cell_width for max_count, cell_width in WIDTHS if count <= max_count)
        self._height = max(1, min(4 * self._width, round(self._width * height / width)))
        font_size = max(8, self._width // 12)
        self._line_height = font_size + 2 * GAP
        self._columns = min(count, max(MIN_COLUMNS, math.ceil(math.sqrt(count))))
        rows = math.ceil(count / self._columns)
        size = self._columns * (self._width + GAP) + GAP, rows * (self._height + self._line_height) + GAP
        self.image = Image.new("RGB", size, "#dddddd")
        self._pen = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(font_size)

    def add(self, number: int, picture: Image.Image, time: float) -> None:
        """Draw a picture into cell `number`, and its time in seconds below it."""
        row, column = divmod(number, self._columns)
        x, y = GAP + column * (self._width + GAP), GAP + row * (self._height + self._line_height)
        picture.thumbnail((self._width, self._height), Image.Resampling.LANCZOS)
        self.image.paste(picture, (x, y))
        tenths = int((time + 0.002) * 10) % 10
        self._pen.text((x, y + self._height + 2), f"{format_time(time)}.{tenths}", "black", self._font)
