"""Makes pictures for tests, and compares what is read from them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from smolcli.errors import InputError
from smolcli.inputs.image import read
from smolcli.options import Input

OPTIONS = Input()


def encoded(image: Image.Image, format: str = "PNG", **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()


def pixels(data: bytes, options: Input = OPTIONS) -> np.ndarray:
    [frame] = read(data, options)
    return np.frombuffer(frame.rgb, np.uint8).reshape(frame.height, frame.width, 3)


def near(pixels: np.ndarray, expected: object, by: int = 1) -> bool:
    return bool((np.abs(pixels.astype(int) - np.asarray(expected)) <= by).all())


def noise(width: int = 96, height: int = 64) -> Image.Image:
    values = np.random.default_rng(7).normal(128, 60, (height, width))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def failure(data: bytes, options: Input = OPTIONS) -> tuple[str, str]:
    """Return the kind and the message of the error that reading raises."""
    with pytest.raises(InputError) as caught:
        read(data, options)
    return caught.value.kind, str(caught.value)


def corner(width: int = 32, height: int = 48) -> Image.Image:
    """Make a white picture with a red square of 16 pixels at the top left."""
    image = Image.new("RGB", (width, height), "white")
    image.paste((255, 0, 0), (0, 0, 16, 16))
    return image


def rotated_exif() -> Image.Exif:
    """Make EXIF of orientation 6: what is stored at the top left is shown at the top right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def is_upright(shown: np.ndarray) -> bool:
    """Whether the pixels are `corner()` rotated by 90 degrees clockwise."""
    red = np.full((32, 48), False)
    red[:16, 32:] = True
    return shown.shape == (32, 48, 3) and bool(((shown[..., 1] < 100) == red).all())
