"""Makes pictures for tests, and compares what is read from them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from smolcli.errors import InputError
from smolcli.inputs.image import Picture
from smolcli.options import Input
from smolcli.types import Frame

OPTIONS = Input()


def encoded(image: Image.Image, format: str = "PNG", **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()


def read(data: bytes, options: Input = OPTIONS) -> Frame:
    """Decode the first page of a picture file."""
    return Picture(data, options).page(0)


def notices(data: bytes) -> list[str]:
    """Return what the user is told when the first page of a picture file is decoded."""
    picture = Picture(data, OPTIONS)
    picture.page(0)
    return [*picture.notices, *picture.faults]


def pixels(data: bytes, options: Input = OPTIONS) -> np.ndarray:
    frame = read(data, options)
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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colors: int, rows: bytes, *more: bytes) -> bytes:
    """Make a PNG of raw rows, each with its filter byte; `colors` is the color type of IHDR."""
    header = struct.pack(">IIBBBBB", width, height, depth, colors, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
