"""The prompts on which a pair of GGUF files is compared with its checkpoint (verify.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smolcli.types import Frame, Prompt


def probes(tile: int) -> dict[str, Prompt]:
    """Return drawn pictures with questions about them, by name: one and many tiles, several pictures, frames, none.

    `tile` is the side of a tile in pixels; the page is two tiles wide.
    """
    circle, square = _shape("ellipse", "red"), _shape("rectangle", "blue")
    moving = [_shape("ellipse", "green", shift) for shift in (-36, 0, 36)]
    return {
        "a shape": Prompt.user(circle, "Describe this image in one sentence."),
        "a line of text": Prompt.user(_text(128, 128, ["Total 47.30"]), "What is written in the image?"),
        "a page": Prompt.user(_text(2 * tile, tile, _LINES), "What is written in the image?"),
        "a gradient": Prompt.user(_gradient(300, 200), "Describe this image."),
        "noise": Prompt.user(_noise(200, 260), "What is this?"),
        "blank": Prompt.user(_frame(Image.new("RGB", (128, 128), "gray")), "What is written in the image?"),
        "two pictures": Prompt.user("First ", circle, " then ", square, " Which is round?"),
        "frames": Prompt.user(*moving, "In which direction does it move?", split=False),
        "no picture": Prompt.user("What is the capital of France?", system="Answer briefly."),
    }


_LINES = ["Invoice 2024-117", "Paper, A4      12.50", "Ink, black     31.00", "Total          43.50", "Thank you!"]


def _frame(image: Image.Image) -> Frame:
    return Frame(image.tobytes(), *image.size)


def _shape(kind: str, color: str, shift: int = 0) -> Frame:
    image = Image.new("RGB", (128, 128), "white")
    getattr(ImageDraw.Draw(image), kind)((44 + shift, 44, 84 + shift, 84), fill=color)
    return _frame(image)


def _text(width: int, height: int, lines: Sequence[str]) -> Frame:
    image = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(20)
    for row, line in enumerate(lines):
        draw.text((8, 12 + 32 * row), line, fill="black", font=font)
    return _frame(image)


def _gradient(width: int, height: int) -> Frame:
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    channels: list[Any] = [x + 0 * y, y + 0 * x, (1 + np.sin(9 * x * y)) / 2]
    return _frame(Image.fromarray((np.stack(channels, -1) * 255).astype(np.uint8)))


def _noise(width: int, height: int) -> Frame:
    return _frame(Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)))
