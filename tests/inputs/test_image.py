"""inputs/image.py: unusual pictures give the right pixels, or an error that says what is wrong."""

import gc
import io
import struct
import weakref
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, features

from smolcli.errors import InputError
from smolcli.inputs.image import Picture
from smolcli.options import Input
from tests.inputs.pictures import (
    OPTIONS,
    chunk,
    corner,
    encoded,
    failure,
    is_upright,
    near,
    noise,
    notices,
    pixels,
    png,
    read,
    rotated_exif,
)


def tiff(width: int, height: int, bits: int, photometric: int, data: bytes, compression: int = 1) -> bytes:
    """Make a TIFF of one gray strip."""
    tags = {256: width, 257: height, 258: bits, 259: compression, 262: photometric, 273: 200, 277: 1, 278: height}
    tags[279] = len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4 if value > 65535 else 3, 1, value) for tag, value in tags.items())
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries).ljust(200, b"\0") + data


def test_16_bit_gray_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert pixels(encoded(Image.fromarray(values)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_is_drawn_on_white() -> None:
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
    """The top-left pixel of the stored picture, 2 x 3, is red; EXIF's table says where it is shown."""
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
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    assert pixels(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))[0, 0].tolist() == [255, 0, 0]


def test_one_pixel_and_a_long_strip() -> None:
    assert pixels(encoded(Image.new("RGB", (1, 1), "blue"))).tolist() == [[[0, 0, 255]]]
    assert pixels(encoded(Image.new("L", (20000, 10)))).shape == (10, 20000, 3)


def bomb(side: int) -> bytes:
    """Make a PNG of a few hundred bytes whose header says `side` x `side` pixels."""
    return png(side, side, 8, 2, bytes(1000))


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (bomb(60_000), "too-large", "60000 x 60000 pixels"),
        (b"This is a letter, not a picture.\n" * 20, "unsupported", "is not a picture"),
        (encoded(noise(200, 200))[:9000], "truncated", "cut short"),
        (encoded(noise(200, 200), "JPEG")[:3000], "truncated", "cut short"),
        (b"\x89PNG\r\n\x1a\n", "unsupported", "begins as PNG and is cut short"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "unsupported", "is a PDF; smolcli ocr reads it"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported", "is not a picture"),
        (b"DDS " + struct.pack("<7I", 124, 0x1007, 4, 4, 0, 0, 0) + bytes(96), "truncated", "damaged"),
    ],
    ids=["bomb", "text", "png cut", "jpeg cut", "png head", "pdf", "postscript", "dds of no kind"],
)
def test_unreadable_pictures_have_error_kinds(data: bytes, kind: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read(data, OPTIONS)
    assert caught.value.kind == kind


def test_pixel_limit_is_an_option() -> None:
    with pytest.raises(InputError, match="raise --max-pixels"):
        read(encoded(Image.new("RGB", (11, 10))), Input(max_pixels=109))
    assert pixels(encoded(Image.new("RGB", (11, 10))), Input(max_pixels=110)).shape == (10, 11, 3)


def test_same_pixels_in_two_formats_are_the_same_frame() -> None:
    image = noise(20, 10)
    assert read(encoded(image), OPTIONS) == read(encoded(image, "BMP"), OPTIONS)


# ---- pixels compared with an independent computation ---------------------------------------------------


def test_cmyk_matches_its_formula() -> None:
    """Each ink darkens its channel, and black all of them. JPEG stores inks inverted, as Adobe does."""
    inks = (10, 200, 60, 40)
    expected = [255 * (1 - ink / 255) * (1 - 40 / 255) for ink in inks[:3]]
    image = Image.new("CMYK", (16, 16), inks)
    jpeg = encoded(image, "JPEG", quality=100)
    assert b"Adobe" in jpeg
    assert near(pixels(jpeg), expected, 2)
    assert near(pixels(encoded(image, "TIFF")), expected)


def test_ycck_of_adobe() -> None:
    """The first three channels are YCbCr with the inks for R, G and B, as the Adobe marker's last byte says."""
    luma, blue, red, black = 150, 120, 140, 220  # as they are stored in the file
    jpeg = bytearray(encoded(Image.new("CMYK", (16, 16), (105, 135, 115, 35)), "JPEG", quality=100, subsampling=0))
    jpeg[jpeg.index(b"Adobe") + 11] = 2
    inks = np.array([
        luma + 1.402 * (red - 128),
        luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
        luma + 1.772 * (blue - 128),
    ])  # fmt: skip
    assert near(pixels(bytes(jpeg)), (255 - inks) * black / 255, 2)


def test_16_bit_rgb_keeps_the_high_byte() -> None:
    values = [0, 255, 256, 40000, 65535, 128 * 256 + 7]
    shown = pixels(png(2, 1, 16, 2, b"\0" + struct.pack(">6H", *values)))
    assert shown.reshape(-1).tolist() == [value >> 8 for value in values]


@pytest.mark.parametrize(
    ("bits", "photometric", "data", "expected"),
    [
        (16, 1, struct.pack("<2H", 0, 65535), [0, 255]),
        (16, 0, struct.pack("<2H", 0, 65535), [255, 0]),
        (16, 1, struct.pack("<2H", 257, 32896), [1, 128]),
        (12, 1, b"\x00\x0f\xff", [0, 255]),
        (8, 0, b"\x00\xf0", [255, 15]),
    ],
)
def test_gray_tiff_of_each_depth_and_polarity(bits: int, photometric: int, data: bytes, expected: list[int]) -> None:
    assert pixels(tiff(2, 1, bits, photometric, data))[0, :, 0].tolist() == expected


def test_16_bit_gray_with_a_transparent_value() -> None:
    data = png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 257, 514), chunk(b"tRNS", struct.pack(">H", 257)))
    assert pixels(data)[0, :, 0].tolist() == [255, 2]


def test_gray_with_alpha() -> None:
    values = np.array([[[0, 0], [100, 128], [9, 255]]], np.uint8)
    assert near(pixels(encoded(Image.fromarray(values)))[0, :, 0], [255, 100 * 128 / 255 + 127, 9])


def test_lab_matches_its_formula() -> None:
    """L*a*b* of D50 to XYZ, adapted to D65 after Bradford, to sRGB."""
    stored = [(136, 148, 98), (200, 110, 170), (255, 128, 128), (0, 128, 128)]
    image = Image.new("LAB", (len(stored), 1))
    image.putdata(stored)
    lab = np.array(stored) * [100 / 255, 1, 1] - [0, 128, 128]
    y = (lab[:, 0] + 16) / 116
    f = np.stack([y + lab[:, 1] / 500, y, y - lab[:, 2] / 200], 1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    to_linear = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]  # sRGB from D50
    linear = np.clip(xyz @ np.transpose(to_linear), 0, 1)
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert near(pixels(encoded(image, "TIFF"))[0], expected, 2)


def test_ycbcr_tiff_matches_its_formula() -> None:
    luma, blue, red = 110, 118, 190
    image = Image.new("YCbCr", (16, 16), (luma, blue, red))
    expected = [luma + 1.402 * (red - 128), luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128), luma - 17.72]
    assert near(pixels(encoded(image, "TIFF", compression="jpeg", quality=100)), expected, 3)


@pytest.mark.parametrize(("format", "more"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "group4"})])
def test_one_bit_pictures(format: str, more: dict[str, str]) -> None:
    bits = (np.arange(64 * 9).reshape(9, 64) % 7 < 3).astype(np.uint8)
    image = Image.fromarray(bits * 255).convert("1")
    assert (pixels(encoded(image, format, **more))[..., 1] == bits * 255).all()


# ---- orientation and animation ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "more"),
    [
        ("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
        pytest.param("AVIF", {}, marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")),
    ],
)  # fmt: skip
def test_orientation_is_applied_once_in_each_format(format: str, more: dict[str, str]) -> None:
    assert is_upright(pixels(encoded(corner(), format, exif=rotated_exif(), **more)))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_damaged_exif_does_not_damage_the_picture(format: str) -> None:
    assert near(pixels(encoded(Image.new("RGB", (8, 8), "red"), format, exif=b"Exif\0\0rubbish")), [255, 0, 0], 2)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert near(pixels(data), [255, 0, 0], 2)


# ---- truncated files -----------------------------------------------------------------------

FORMATS_TO_CUT = {
    "png": lambda: encoded(noise()),
    "interlaced gif": lambda: encoded(noise(), "GIF", interlace=1),
    "gif": lambda: encoded(noise(), "GIF"),
    "jpeg": lambda: encoded(noise(), "JPEG"),
    "progressive jpeg": lambda: encoded(noise(), "JPEG", progressive=True),
    "webp": lambda: encoded(noise(), "WEBP"),
    "lossless webp": lambda: encoded(noise(), "WEBP", lossless=True),
    "tiff": lambda: encoded(noise(), "TIFF"),
    "lzw tiff": lambda: encoded(noise(), "TIFF", compression="tiff_lzw"),
    "deflate tiff": lambda: encoded(noise(), "TIFF", compression="tiff_adobe_deflate"),
    "jpeg tiff": lambda: encoded(noise(), "TIFF", compression="jpeg"),
    "bmp": lambda: encoded(noise(), "BMP"),
    "jpeg 2000": lambda: encoded(noise(), "JPEG2000"),
}


@pytest.mark.parametrize("make", FORMATS_TO_CUT.values(), ids=FORMATS_TO_CUT)
def test_truncated_file_is_an_error(make: Callable[[], bytes]) -> None:
    whole = make()
    for part in range(1, 11):
        assert failure(whole[: len(whole) * part // 11])[0] in ("truncated", "unsupported")


@pytest.mark.parametrize("make", FORMATS_TO_CUT.values(), ids=FORMATS_TO_CUT)
def test_file_without_its_last_bytes_is_an_error_or_complete(make: Callable[[], bytes]) -> None:
    """In PNG, GIF and JPEG all pixels are stored before the last bytes."""
    whole = make()
    for missing in range(1, 40):
        try:
            shown = pixels(whole[:-missing])
        except InputError:
            continue
        assert (shown == pixels(whole)).all()


@pytest.mark.parametrize("make", [FORMATS_TO_CUT["png"], FORMATS_TO_CUT["jpeg"], FORMATS_TO_CUT["progressive jpeg"]])
def test_file_with_zeros_at_its_end_is_an_error(make: Callable[[], bytes]) -> None:
    """Some programs create a file in its full length before they download it, so that the rest is zeros."""
    whole = make()
    for part in range(1, 11):
        received = len(whole) * part // 11
        assert failure(whole[:received] + bytes(len(whole) - received))[0] == "truncated"


def test_png_with_a_wrong_bit_is_an_error() -> None:
    data = bytearray(encoded(noise()))
    data[len(data) // 2] ^= 4
    assert failure(bytes(data)) == ("truncated", "is damaged (a checksum is wrong); get a whole copy")


# ---- decompression bombs, refused by their number of pixels before decoding -------------------------------


def gif_bomb() -> bytes:
    sides = struct.pack("<HH", 60000, 60000)
    return b"GIF89a" + sides + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + sides + b"\0\2\2\x4c\1\0;"


def webp_bomb() -> bytes:
    """In a lossless WebP, width - 1 and height - 1 are 14 bits each, after the signature byte."""
    data = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True)
    at = data.index(b"VP8L") + 9
    rest = int.from_bytes(data[at : at + 4], "little") >> 28 << 28
    return data[:at] + (rest | 16382 << 14 | 16382).to_bytes(4, "little") + data[at + 4 :]


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (gif_bomb(), 60000),
        (tiff(60000, 60000, 8, 1, bytes(100), compression=8), 60000),
        (webp_bomb(), 16383),
    ],
    ids=["gif", "tiff", "webp"],
)
def test_small_files_of_huge_pictures_are_too_large(data: bytes, size: int) -> None:
    assert len(data) < 20_000
    kind, message = failure(data)
    assert kind == "too-large" and message.startswith(f"has {size} x {size} pixels, over the limit of 200,000,000; ")


@pytest.mark.parametrize(
    "words",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))),
        b"".join(chunk(b"zTXt", b"%d\0\0" % number + zlib.compress(bytes(1_000_000))) for number in range(80)),
    ],
    ids=["zTXt", "iTXt", "iCCP", "many"],
)
def test_large_metadata_in_a_png_is_skipped(words: bytes) -> None:
    assert pixels(png(1, 1, 8, 2, b"\0\1\2\3", words)).tolist() == [[[1, 2, 3]]]


# ---- files with several pictures that are no pages ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (0x000000, []),  # undefined: a gain map, or another copy
        (0x010001, []),  # a large thumbnail
        (0x020002, ["picture 1 of 2 in the file was looked at"]),  # the other view of a stereo camera
        (0x020003, ["picture 1 of 2 in the file was looked at"]),  # another angle
    ],
)
def test_other_pictures_of_a_multi_picture_jpeg(kind: int, told: list[str]) -> None:
    """Types of CIPA DC-007, table 4. The second entry of 16 bytes begins with its attribute."""
    second = Image.new("RGB", (16, 16), "blue")
    data = bytearray(encoded(Image.new("RGB", (16, 16), "red"), "MPO", save_all=True, append_images=[second]))
    entries = data.index(struct.pack("<HHI", 0xB002, 7, 32)) + 8
    header = data.index(b"MPF\0") + 4
    at = header + int.from_bytes(data[entries : entries + 4], "little") + 16
    data[at : at + 4] = struct.pack("<I", kind)
    assert near(pixels(bytes(data))[0, 0], [255, 0, 0], 2)
    assert notices(bytes(data)) == told


def test_floats_of_a_pfm() -> None:
    assert pixels(b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.5, 2.5))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "ICO"])
def test_a_picture_that_is_done_is_freed_at_once(format: str) -> None:
    """Its file's bytes would pile up over many pictures, if only the garbage collector freed them."""
    picture = Picture(encoded(noise(), format), OPTIONS)
    picture.page(0)
    reference = weakref.ref(picture)
    gc.disable()
    try:
        del picture
        assert reference() is None
    finally:
        gc.enable()


def test_transparent_entries_of_a_palette() -> None:
    """A TGA of two pixels: opaque red, and green that is transparent, so that the white ground shows."""
    palette = bytes((0, 0, 255, 255, 0, 255, 0, 0))  # blue, green, red, alpha
    tga = struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 0, 2, 32, 0, 0, 2, 1, 8, 0x28) + palette + bytes((0, 1))
    assert near(pixels(tga), [[[255, 0, 0], [255, 255, 255]]])
