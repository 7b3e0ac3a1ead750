"""inputs/formats/icon.py: the largest picture of an icon, its size checked before it is decoded."""

import struct

import numpy as np
import pytest
from PIL import Image

from smolcli.options import Input
from tests.inputs.pictures import encoded, failure, near, noise, notices, pixels


def icon(*sizes: int, mode: str = "RGBA", **more: object) -> bytes:
    image = noise(64, 64).convert(mode)
    return encoded(image, "ICO", sizes=[(size, size) for size in sizes], **more)


@pytest.mark.parametrize("format", ["png", "bmp"])
def test_the_largest_picture_is_read(format: str) -> None:
    data = icon(16, 64, 32, bitmap_format=format)
    assert near(pixels(data), np.asarray(noise(64, 64)), 1)
    assert notices(data) == []


def test_transparent_parts_of_an_icon() -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (8, 8, 20, 20))
    for format in ("png", "bmp"):
        shown = pixels(encoded(image, "ICO", bitmap_format=format))
        assert shown[0, 0].tolist() == [0, 0, 0] and shown[10, 10].tolist() == [255, 255, 255]


def test_a_bomb_in_an_icon_is_too_large() -> None:
    assert failure(icon(64, bitmap_format="png"), Input(max_pixels=64 * 64 - 1))[0] == "too-large"
    assert failure(icon(64, bitmap_format="bmp"), Input(max_pixels=64 * 64 - 1))[0] == "too-large"
    head = struct.pack("<3H4B2HII", 0, 1, 1, 0, 0, 0, 0, 1, 32, 40, 22)
    bomb = head + struct.pack("<IiiHHIIiiII", 40, 60000, 120000, 1, 32, 0, 0, 0, 0, 0, 0)
    assert failure(bomb)[1].startswith("has 60000 x 60000 pixels, over the limit")


@pytest.mark.parametrize("kib", [70, 512, 1600])
def test_a_damaged_icon_is_not_taken_for_another_format(kib: int) -> None:
    """TGA has no signature, and its decoder would take some icons for TGA."""
    data = struct.pack("<3H4B2HII", 0, 1, 1, 0, 0, 0, 0, 1, 32, kib * 1024 + 100, 22) + bytes(range(256)) * kib * 4
    assert failure(data)[0] in ("too-large", "truncated", "unsupported")


@pytest.mark.parametrize("format", ["png", "bmp"])
def test_a_truncated_icon_is_an_error(format: str) -> None:
    whole = icon(48, bitmap_format=format)
    for part in range(1, 10):
        assert failure(whole[: len(whole) * part // 11])[0] in ("truncated", "unsupported")
    assert failure(struct.pack("<3H", 0, 1, 0))[0] == "truncated"
