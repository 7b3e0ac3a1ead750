"""inputs/image.py: every odd picture becomes the right pixels or an error that says what it is."""

import io
import struct
import zlib

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
    [frame] = read(data, options).frames
    return np.frombuffer(frame.rgb, np.uint8).reshape(frame.height, frame.width, 3)


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert pixels(encoded(Image.fromarray(values)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparent_is_flattened_on_white() -> None:
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    half.putpixel((1, 0), (255, 0, 0, 128))
    assert pixels(encoded(half)).tolist() == [[[255, 255, 255], [255, 127, 127]]]


def test_palette_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image, transparency=0)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (2, 1)), (6, (0, 2)), (8, (1, 0)), (2, (0, 1))])
def test_exif_orientation_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    """A 2 x 3 picture whose stored top-left pixel is red; EXIF's table says where it must show."""
    image = Image.new("RGB", (2, 3), "white")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = pixels(encoded(image, exif=exif))
    assert shown.shape[:2] == ((2, 3) if orientation in (6, 8) else (3, 2))
    assert shown[corner].tolist() == [255, 0, 0]


def test_cmyk_jpeg_and_animated_gif() -> None:
    red = pixels(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))[8, 8]
    assert red[0] > 220
    assert red[1] < 40
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert pixels(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))[0, 0].tolist() == [255, 0, 0]


def test_one_pixel_and_a_long_strip() -> None:
    assert pixels(encoded(Image.new("RGB", (1, 1), "blue"))).tolist() == [[[0, 0, 255]]]
    assert pixels(encoded(Image.new("L", (20000, 10)))).shape == (10, 20000, 3)


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes whose header promises side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (bomb(60_000), "too-large", "60000 x 60000 pixels"),
        (b"This is a letter, not a picture.\n" * 20, "unsupported", "is not a picture"),
        (encoded(Image.effect_noise((200, 200), 50).convert("RGB"))[:9000], "truncated", "cut short"),
        (encoded(Image.effect_noise((200, 200), 50).convert("RGB"), "JPEG")[:3000], "truncated", "cut short"),
        (b"\x89PNG\r\n\x1a\n", "unsupported", "is not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported", "is not a picture"),
        (b"DDS " + struct.pack("<7I", 124, 0x1007, 4, 4, 0, 0, 0) + bytes(96), "truncated", "damaged"),
    ],
    ids=["bomb", "text", "png cut", "jpeg cut", "png head", "postscript", "dds of no kind"],
)
def test_what_cannot_be_read_is_an_error_with_its_kind(data: bytes, kind: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read(data, OPTIONS)
    assert caught.value.kind == kind


def test_the_limit_is_an_option() -> None:
    with pytest.raises(InputError, match="raise --max-pixels"):
        read(encoded(Image.new("RGB", (11, 10))), Input(max_pixels=109))
    assert pixels(encoded(Image.new("RGB", (11, 10))), Input(max_pixels=110)).shape == (10, 11, 3)


@pytest.mark.parametrize("part", range(1, 11))
def test_a_png_cut_anywhere_is_an_error(part: int) -> None:
    whole = encoded(Image.effect_noise((64, 64), 60).convert("RGB"))
    with pytest.raises(InputError):
        read(whole[: len(whole) * part // 11], OPTIONS)


def test_the_same_pixels_are_the_same_frame_whatever_the_file() -> None:
    image = Image.effect_noise((20, 10), 60).convert("RGB")
    png, bmp = read(encoded(image), OPTIONS), read(encoded(image, "BMP"), OPTIONS)
    assert png.frames == bmp.frames
    assert png.sha256 != bmp.sha256
