"""inputs/color.py and icc.py: what a picture shows is what a viewer that looks at its profile shows."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from smolcli.inputs.color import BROKEN_PROFILE
from tests.inputs import profiles
from tests.inputs.pictures import chunk, encoded, near, noise, notices, pixels, png

SWAPPED = profiles.rgb((profiles.SRGB[1], profiles.SRGB[2], profiles.SRGB[0]))  # what it calls red is green, and so on
# Linear light of P3's red, green and blue in the primaries of BT.709, clipped, as CSS Color 4 converts them.
P3_IN_SRGB = {
    (255, 0, 0): (255, 0, 0),
    (0, 255, 0): (0, 255, 0),
    (128, 128, 128): (128, 128, 128),
    (200, 100, 100): (215, 93, 97),
}


def plain(color: int | tuple[int, ...], mode: str = "RGB", format: str = "PNG", **more: Any) -> np.ndarray:
    """Return the first pixel of a picture of one color."""
    return pixels(encoded(Image.new(mode, (32, 32), color), format, **more))[0, 0]


@pytest.mark.parametrize(
    ("format", "more"),
    [
        ("PNG", {}), ("JPEG", {"quality": 100, "subsampling": 0}), ("WEBP", {"lossless": True}), ("TIFF", {}),
        pytest.param("AVIF", {"quality": 100}, marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF")),
    ],
)  # fmt: skip
def test_the_profile_is_used_in_each_format(format: str, more: dict[str, Any]) -> None:
    assert near(plain((255, 0, 0), format=format, icc_profile=SWAPPED, **more), [0, 255, 0], 4)


@pytest.mark.parametrize("stored", P3_IN_SRGB)
def test_display_p3(stored: tuple[int, int, int]) -> None:
    assert near(plain(stored, icc_profile=profiles.rgb(profiles.P3)), P3_IN_SRGB[stored], 3)


def test_the_profile_of_srgb_changes_nothing() -> None:
    """Whatever its name, and although its curve is given as an exponent."""
    from PIL import ImageCms

    image = noise()
    for profile in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),):
        assert (pixels(encoded(image, icc_profile=profile)) == np.asarray(image)).all()


def test_transparency_stays_what_it_was() -> None:
    assert near(plain((255, 0, 0, 128), "RGBA", icc_profile=SWAPPED), [127, 255, 127], 2)
    palette = Image.new("P", (4, 4))
    palette.putpalette([255, 0, 0, 9, 9, 9])
    assert near(pixels(encoded(palette, icc_profile=SWAPPED))[0, 0], [0, 255, 0], 2)


@pytest.mark.parametrize(
    ("exponent", "stored", "shown"), [(1.0, 55, 128), (1.0, 255, 255), (2.2, 128, 128), (1.8, 128, 145)]
)
def test_gray_with_a_profile(exponent: float, stored: int, shown: int) -> None:
    """Linear light of 55 / 255 is 0.5020 in sRGB; 128 / 255 to the power of 1.8 is 0.5676."""
    assert near(plain(stored, "L", icc_profile=profiles.gray(exponent)), [shown] * 3, 2)
    assert near(plain((stored, 255), "LA", icc_profile=profiles.gray(exponent)), [shown] * 3, 2)


def test_deep_gray_with_a_profile() -> None:
    image = Image.fromarray(np.full((4, 4), 55 * 257, np.uint16))
    assert near(pixels(encoded(image, icc_profile=profiles.gray(1.0)))[0, 0], [128] * 3, 2)


def test_gray_with_a_profile_for_colors() -> None:
    assert near(plain(55, "L", icc_profile=profiles.rgb(exponent=1.0)), [128] * 3, 2)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_inks_with_a_profile(format: str) -> None:
    """L* 54, a* 81, b* 70 of D50 is a red of about 255, 0, 0; where no ink is, there is paper."""
    red = profiles.inks((138, 209, 198))
    assert near(plain((255, 0, 0, 0), "CMYK", format, icc_profile=red), [255, 0, 0], 8)
    assert near(plain((0, 0, 0, 0), "CMYK", format, icc_profile=red), [255, 255, 255], 2)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b"rubbish"), ("RGB", SWAPPED[:200]), ("RGB", profiles.gray(1.0)), ("L", profiles.inks((0, 0, 0))),
        ("CMYK", SWAPPED),
    ],
    ids=["rubbish", "cut", "gray in colors", "inks in gray", "colors in inks"],
)  # fmt: skip
def test_a_profile_that_cannot_be_used_is_told_and_left_aside(mode: str, profile: bytes) -> None:
    image = Image.new(mode, (16, 16), 100)
    with_profile = encoded(image, "TIFF", icc_profile=profile)
    assert (pixels(with_profile) == pixels(encoded(image, "TIFF"))).all()
    assert notices(with_profile) == [BROKEN_PROFILE]


def test_no_profile_no_notice() -> None:
    assert notices(encoded(noise(), "JPEG")) == []


# ---- colors named by the format -----------------------------------------------------------------------


def png_with(stored: tuple[int, ...], *chunks: bytes) -> bytes:
    return png(1, 1, 8, 2, b"\0" + bytes(stored), *chunks)


def gamma(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        ([gamma(100000)], [128, 128, 128]),  # linear light
        ([gamma(45455)], [55, 55, 55]),
        ([gamma(100000), chunk(b"sRGB", b"\0")], [55, 55, 55]),
        ([gamma(100000), chunk(b"iCCP", b"p\0\0" + zlib.compress(profiles.rgb()))], [52, 52, 52]),  # an exponent of 2.2
    ],
    ids=["linear", "2.2", "sRGB wins", "profile wins"],
)
def test_gamma_of_png(chunks: list[bytes], shown: list[int]) -> None:
    assert near(pixels(png_with((55, 55, 55), *chunks))[0, 0], shown, 2)


# PQ codes of white at 203 cd/m2 and of BT.709's orange, 255, 128, 0, in BT.2020 (BT.2087, and BT.2100 table 4).
PQ_WHITE, PQ_ORANGE = (148, 148, 148), (139, 114, 70)


@pytest.mark.parametrize(
    ("stored", "codes", "shown"),
    [
        (PQ_WHITE, (9, 16), (255, 255, 255)),
        (PQ_ORANGE, (9, 16), (255, 128, 0)),
        ((191, 191, 191), (9, 18), (254, 254, 254)),
        ((255, 0, 0), (12, 13), (255, 0, 0)),
        ((200, 100, 100), (12, 13), (215, 93, 97)),
        ((9, 8, 7), (1, 13), (9, 8, 7)),
    ],
)
def test_codes_in_each_format(stored: tuple[int, ...], codes: tuple[int, int], shown: tuple[int, ...]) -> None:
    assert near(pixels(png_with(stored, chunk(b"cICP", bytes((*codes, 0, 1)))))[0, 0], shown, 6)
    for data in (avif(stored, codes), heic(stored, codes)):
        if data:
            assert near(pixels(data)[0, 0], shown, 9)


def avif(stored: tuple[int, ...], codes: tuple[int, int]) -> bytes:
    """Make an AVIF with these codes in its `colr` box; Pillow writes those of sRGB."""
    if not features.check("avif"):
        return b""
    data = encoded(Image.new("RGB", (64, 64), stored), "AVIF", quality=100, subsampling="4:4:4")
    return with_codes(data, codes)


def heic(stored: tuple[int, ...], codes: tuple[int, int]) -> bytes:
    plugin = pytest.importorskip("pillow_heif")
    if not plugin.libheif_info()["HEIF"]:
        return b""
    plugin.register_heif_opener()
    image = Image.new("RGB", (64, 64), stored)
    return encoded(image, "HEIF", quality=-1, chroma=444, color_primaries=codes[0], transfer_characteristics=codes[1])


def with_codes(data: bytes, codes: tuple[int, int]) -> bytes:
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", *codes) + data[at + 4 :]


def test_the_codes_of_another_picture_in_an_avif_do_not_count() -> None:
    """As those of a gain map, which stands before the primary picture here."""
    if not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    from smolcli.inputs.formats import bmff

    data = avif(PQ_WHITE, (9, 16))
    assert bmff.coding(data) == (9, 16)
    primary = data.index(b"pitm") + 8
    other = data[:primary] + struct.pack(">H", 77) + data[primary + 2 :]
    assert bmff.coding(other) is None
    for length in range(0, len(data), 7):
        bmff.coding(data[:length])


def test_damaged_boxes_name_no_codes() -> None:
    from smolcli.inputs.formats import bmff

    data = avif(PQ_WHITE, (9, 16)) or b"\0\0\0\x08meta"
    for byte in range(len(data[:400])):
        bmff.coding(data[:byte] + b"\xff\xff" + data[byte + 2 :])


def test_adobe_rgb_of_cameras() -> None:
    """Cameras embed no profile. Its green of 200 alone is outside of sRGB; a gray stays nearly the same.

    Linear light of 100, 200, 50 in Adobe RGB is 0.1276, 0.5861, 0.0278; by the matrices of its specification and of
    sRGB that is -0.0550, 0.5861, 0.0038, which is 0, 202, 12.
    """
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65535, 0xA005: {1: "R03"}}
    jpeg: dict[str, Any] = {"format": "JPEG", "quality": 100, "subsampling": 0, "exif": exif}
    assert near(plain((100, 200, 50), **jpeg), [0, 201, 12], 4)
    assert near(plain((128, 128, 128), **jpeg), [128, 128, 128], 2)
    assert near(plain((100, 200, 50), **jpeg, icc_profile=profiles.rgb()), [100, 200, 49], 4)
    exif[0x8769] = {0xA001: 1, 0xA005: {1: "R98"}}
    assert near(plain((100, 200, 50), **jpeg), [100, 200, 50], 2)
