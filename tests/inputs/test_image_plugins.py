"""inputs/image.py: HEIC and JPEG XL, with the libraries of the extra `formats`."""

import base64
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolcli.options import Input
from tests.inputs.pictures import corner, encoded, failure, is_upright, near, noise, notices, pixels, rotated_exif


def ftyp(*brands: bytes) -> bytes:
    return struct.pack(">I4s4sI", 12 + 4 * len(brands), b"ftyp", brands[0], 0) + b"".join(brands[1:]) + bytes(64)


@pytest.mark.parametrize(
    ("data", "module", "kind", "package"),
    [
        (ftyp(b"heic", b"mif1", b"heic"), "pillow_heif", "HEIC", "pillow-heif"),
        (ftyp(b"heix", b"mif1"), "pillow_heif", "HEIC", "pillow-heif"),
        (ftyp(b"hevc", b"msf1"), "pillow_heif", "HEIC", "pillow-heif"),
        (ftyp(b"mif1", b"miaf", b"heic"), "pillow_heif", "HEIC", "pillow-heif"),
        (ftyp(b"msf1", b"hevc"), "pillow_heif", "HEIC", "pillow-heif"),
        (b"\xff\x0a" + bytes(64), "pillow_jxl", "JPEG XL", "pillow-jxl-plugin"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "pillow_jxl", "JPEG XL", "pillow-jxl-plugin"),
    ],
)
def test_missing_plugin_is_named(
    monkeypatch: pytest.MonkeyPatch, data: bytes, module: str, kind: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    expected = f"is {kind}, and the library {package} is not installed; pip install 'smolcli[formats]'"
    assert failure(data) == ("unsupported", expected)


def test_other_iso_media_files_are_no_pictures() -> None:
    assert failure(ftyp(b"isom", b"mp42", b"avc1")) == (
        "unsupported",
        "is a video; smolcli video-summarize says what happens in it",
    )
    assert failure(ftyp(b"mif1", b"avif"))[1].startswith("begins as AVIF and is cut short")


def test_plugins_are_imported_only_for_their_own_kinds() -> None:
    program = """
import io, sys
from PIL import Image
from smolcli.inputs.image import Picture
from smolcli.options import Input
for format in ("PNG", "JPEG", "WEBP"):
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, format)
    Picture(file.getvalue(), Input()).page(0)
print({"pillow_heif", "pillow_jxl"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def heic(image: Image.Image, **more: object) -> bytes:
    plugin = pytest.importorskip("pillow_heif")
    if not plugin.libheif_info()["HEIF"]:
        pytest.skip("this libheif cannot write HEIC")
    plugin.register_heif_opener()
    return encoded(image, "HEIF", **{"quality": -1, "chroma": 444, **more})


def test_heic_pixels_and_alpha() -> None:
    assert near(pixels(heic(corner())), np.asarray(corner()), 2)
    half = Image.new("RGBA", (64, 64), (255, 0, 0, 128))
    assert near(pixels(heic(half)), [255, 127, 127], 2)


def test_heic_orientation_is_applied_once() -> None:
    """HEIC is rotated by its `irot` box; phones write the same into EXIF, which alone has no effect."""
    both = heic(corner(), exif=rotated_exif().tobytes())
    assert b"irot" in both
    assert is_upright(pixels(both))
    alone = both.replace(b"irot", b"free")
    assert pixels(alone).shape == (48, 32, 3)


def test_too_large_heic_is_refused_before_decoding() -> None:
    data = heic(Image.new("RGB", (64, 64)))
    assert failure(data, Input(max_pixels=64 * 64 - 1))[0] == "too-large"
    at = data.index(b"ispe") + 8
    bomb = data[:at] + struct.pack(">II", 60000, 60000) + data[at + 8 :]
    assert failure(bomb)[1].startswith("has 60000 x 60000 pixels, over the limit")
    large = heic(Image.new("RGB", (1024, 1024)))
    at = large.index(b"ispe") + 8  # the header says a small picture, which the content is not
    kind, message = failure(large[:at] + struct.pack(">II", 64, 64) + large[at + 8 :], Input(max_pixels=5000))
    assert kind in ("truncated", "too-large") and "\n" not in message


def test_truncated_heic_is_an_error() -> None:
    whole = heic(noise())
    for part in range(1, 11):
        assert failure(whole[: len(whole) * part // 11])[0] in ("truncated", "unsupported")


# Made with cjxl 0.7, since the plugin's encoder cannot write these.
JXL_ROTATED = (  # corner() at a quarter of its size and 16 high, orientation 6 in the codestream
    "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAA1anhsY/8KA4AFAopLAggCAQB4AEsYixUA1IqKkZFRFwgBIJUqQM+/f1DYZGmOQYD/AQ=="
)
JXL_DEEP_ALPHA = (  # 16 x 8, 16-bit gray 40000; opaque on the left, alpha 32768 on the right
    "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAAA1anhsY/8KwfGjKC4ECAgQAHwASxiLFQDcRcYYLBl1gQMAAsArAtkFIM7f"
    "zUD05w78BA=="
)
JXL_ANIMATED = (  # 8 x 8, three frames
    "/wpBBAMIKC4JCAKSCQAAXABLGIsVwkkC5gUiANj//tAAAAAAAAAAAAgCkgkAAFgASxiLFcJJQV4gAgD99wMAAAAAAAAAAAgCkgUAVABLGIsVwklBXiAC"
    "APoDAAAAAAAAAAA="
)


def jxl(image: Image.Image, **more: object) -> bytes:
    pytest.importorskip("pillow_jxl")
    return encoded(image, "JXL", **{"lossless": True, **more})


def test_jpeg_xl_pixels() -> None:
    image = noise()
    assert (pixels(jxl(image)) == np.asarray(image)).all()
    assert (pixels(jxl(image, use_container=True)) == np.asarray(image)).all()
    assert pixels(jxl(Image.new("RGBA", (4, 4), (255, 0, 0, 0))))[0, 0].tolist() == [255, 255, 255]
    deep = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    assert near(pixels(jxl(deep))[0, :, 0], [0, 13, 188, 255])  # the plugin marks deep pictures as linear light
    real = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    assert near(pixels(jxl(real))[0, :, 0], [0, 188, 255])


def test_jpeg_xl_of_16_bit_gray_with_alpha() -> None:
    pytest.importorskip("pillow_jxl")
    shown = pixels(base64.b64decode(JXL_DEEP_ALPHA))
    assert shown.shape == (8, 16, 3)
    assert near(shown[:, :8], 40000 / 257) and near(shown[:, 8:], 40000 / 257 / 2 + 127.5)


def test_jpeg_xl_orientation_is_applied_once() -> None:
    """The orientation is that of the codestream; a repacked JPEG is rotated by its EXIF."""
    pytest.importorskip("pillow_jxl")
    shown = pixels(base64.b64decode(JXL_ROTATED))
    assert shown.shape == (8, 16, 3)
    red = np.argwhere(shown[..., 1] < 100)
    assert (red.min(0).tolist(), red.max(0).tolist()) == ([0, 12], [3, 15])


def test_jpeg_repacked_as_jpeg_xl(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    (tmp_path / "a.jpg").write_bytes(encoded(corner(), "JPEG", exif=rotated_exif(), quality=95))
    with Image.open(tmp_path / "a.jpg") as image:
        data = encoded(image, "JXL", lossless_jpeg=True)
    assert is_upright(pixels(data))
    assert (pixels(data) == pixels((tmp_path / "a.jpg").read_bytes())).all()


def test_animated_jpeg_xl_is_an_error() -> None:
    """The decoder would give its last frame."""
    pytest.importorskip("pillow_jxl")
    assert failure(base64.b64decode(JXL_ANIMATED)) == (
        "unsupported",
        "is an animated JPEG XL; convert its first frame to PNG",
    )


@pytest.mark.parametrize(
    "size",
    [(1, 1), (8, 8), (256, 256), (300, 200), (512, 512), (513, 7), (7, 1000), (1920, 1080), (640, 480), (9000, 3)],
)
@pytest.mark.parametrize("boxed", [False, True])
def test_size_of_a_jpeg_xl_is_checked_before_decoding(size: tuple[int, int], boxed: bool) -> None:
    """The data is cut after the header, so that decoding it would be another error."""
    width, height = size
    data = jxl(Image.new("L", size), effort=1, use_container=boxed)
    kind, message = failure(data[:100], Input(max_pixels=width * height - 1))
    assert (kind, message.split("; ")[0]) == (
        "too-large",
        f"has {width} x {height} pixels, over the limit of {width * height - 1:,}",
    )


def test_huge_jpeg_xl_is_too_large() -> None:
    pytest.importorskip("pillow_jxl")
    header = 0 | 3 << 1 | (2**30 - 1) << 3 | 1 << 33  # not small, 30 bits of height, as wide as high
    kind, message = failure(b"\xff\x0a" + header.to_bytes(8, "little"))
    assert kind == "too-large" and message.startswith("has 1073741824 x 1073741824 pixels")


def test_truncated_jpeg_xl_is_an_error() -> None:
    whole = jxl(noise())
    for part in range(1, 11):
        assert failure(whole[: len(whole) * part // 11])[0] == "truncated"
    assert failure(whole[:-1])[0] == "truncated"


def test_a_heic_of_several_pictures_says_which_was_looked_at() -> None:
    colors = [Image.new("RGB", (64, 64), color) for color in ("red", "lime", "blue")]
    data = heic(colors[0], save_all=True, append_images=colors[1:], primary_index=1)
    assert near(pixels(data)[0, 0], [0, 255, 0], 3)
    assert notices(data) == ["picture 2 of 3 in the file was looked at"]
    assert notices(heic(colors[0])) == []
