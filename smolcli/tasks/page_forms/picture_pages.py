"""Pages of a PDF that show a picture: the JPEG as it is where PDF can hold it, else its pixels without loss.

bytes of a picture file -> image XObject -> page as large as the picture is at its resolution
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from pikepdf import Array, Dictionary, Name, Object, Page, Pdf
from PIL import Image

from smolcli.inputs import page as read
from smolcli.inputs.formats import jpeg
from smolcli.inputs.image import Picture
from smolcli.inputs.pixels import ORIENTATION
from smolcli.options import Input
from smolcli.types import Frame

POINTS = 72  # to the inch
A4_HEIGHT = 842  # points: the longest edge of a picture whose resolution is not known
MIN_DPI = 97  # 72 and 96 are what programs write that do not know the resolution
MAX_EDGE, MIN_EDGE = 14_400, 3  # points that a page may have: ISO 32000, annex C.2
COLOR_SPACES = {
    "L": (Name.DeviceGray, b"GRAY", 1),
    "RGB": (Name.DeviceRGB, b"RGB ", 3),
    "CMYK": (Name.DeviceCMYK, b"CMYK", 4),
}
# By EXIF's Orientation, the matrix that draws the unit square upright, in pages of width 1 and height 1.
UPRIGHT: dict[int, tuple[int, int, int, int, int, int]] = {
    1: (1, 0, 0, 1, 0, 0),
    2: (-1, 0, 0, 1, 1, 0),
    3: (-1, 0, 0, -1, 1, 1),
    4: (1, 0, 0, -1, 0, 1),
    5: (0, -1, -1, 0, 1, 1),
    6: (0, -1, 1, 0, 0, 1),
    7: (0, 1, 1, 0, 0, 0),
    8: (0, 1, -1, 0, 1, 0),
}
FIRST_SIDEWAYS = 5  # orientations from this one on have width and height exchanged
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive with Huffman codes, which DCTDecode has


def add_pictures(pdf: Pdf, data: bytes, pages: Sequence[read.Page], max_pixels: int) -> list[Page]:
    """Add a page for each page that was read of the picture file `data`, and return them. Raises InputError."""
    picture = Picture(data, Input(max_pixels=max_pixels))
    added = []
    for page in pages:
        image, orientation = _jpeg_image(pdf, data) or (_lossless_image(pdf, picture.page(page.number - 1)), 1)
        size = int(image.Width), int(image.Height)
        resolution = (page.dpi, page.dpi) if page.dpi > 0 else resolution_of(data, page.number - 1)
        width, height = _points(size if orientation < FIRST_SIDEWAYS else size[::-1], resolution)
        a, b, c, d, e, f = UPRIGHT[orientation]
        numbers = (a * width, b * height, c * width, d * height, e * width, f * height)
        content = "q " + " ".join(f"{number:.4f}" for number in numbers) + " cm /Im0 Do Q\n"
        pdf.add_blank_page(page_size=(width, height))
        added.append(pdf.pages[-1])
        added[-1].obj.Resources = Dictionary(XObject=Dictionary(Im0=image))
        added[-1].obj.Contents = pdf.make_stream(content.encode())
    return added


def _points(size: tuple[int, int], resolution: tuple[float, float] | None) -> tuple[float, float]:
    """Return the width and height of a page in points, from those of its picture in pixels."""
    longest = max(*size, 1)
    scales = [POINTS / dpi for dpi in resolution] if resolution else [A4_HEIGHT / longest] * 2
    points = [pixels * scale for pixels, scale in zip(size, scales, strict=True)]
    shrink = min(1.0, MAX_EDGE / max(points))
    width, height = (max(MIN_EDGE, edge * shrink) for edge in points)
    return width, height


def resolution_of(data: bytes, index: int) -> tuple[float, float] | None:
    """Return the dots to the inch across and down that a picture file says of its page `index`, from 0, held upright.

    None where it says nothing, or what programs write that do not know.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.seek(index)
            across, down = map(float, image.info["dpi"])
            is_sideways = image.getexif().get(ORIENTATION, 1) >= FIRST_SIDEWAYS
    except Exception:  # Pillow raises many classes, also for formats that it does not know
        return None
    if not all(MIN_DPI <= dpi < math.inf for dpi in (across, down)):
        return None
    return (down, across) if is_sideways else (across, down)


def _jpeg_image(pdf: Pdf, data: bytes) -> tuple[Object, int] | None:
    """Return the bytes of a JPEG file as an image, and EXIF's orientation; None if it is none that PDF can hold."""
    if not data.startswith(b"\xff\xd8\xff") or jpeg.END not in data or _frame_kind(data) not in JPEG_FRAMES:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            mode, size, info = image.mode, image.size, image.info
            orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises many classes for damaged data, which Picture turns into InputError
        return None
    if mode not in COLOR_SPACES:
        return None
    entries = _entries(size, _color_space(pdf, mode, info), 8) | {"Filter": Name.DCTDecode}
    if mode == "CMYK" and "adobe" in info:  # Adobe's programs store the complement
        entries["Decode"] = Array([1, 0] * 4)
    return pdf.make_stream(data, **entries), orientation if orientation in UPRIGHT else 1


def _frame_kind(data: bytes) -> int:
    """Return the code of the marker that begins the frame of a JPEG (ITU-T T.81, table B.1); 0 if there is none."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        code = data[at + 1]
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            return code
        at += 1 if code == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def _color_space(pdf: Pdf, mode: str, info: dict[str, Any]) -> Object:
    """Return the color space of a picture of Pillow: its ICC profile if it fits, else the device's."""
    device, signature, channels = COLOR_SPACES[mode]
    profile = info.get("icc_profile") or b""
    if profile[16:20] != signature:
        return device
    return Array([Name.ICCBased, pdf.make_stream(profile, N=channels, Alternate=device)])


def _lossless_image(pdf: Pdf, frame: Frame) -> Object:
    """Return the pixels of a frame: black and white, gray, or RGB."""
    pixels = np.frombuffer(frame.rgb, np.uint8).reshape(frame.height, frame.width, 3)
    size = frame.width, frame.height
    gray = pixels[:, :, 0]
    if not (np.array_equal(gray, pixels[:, :, 1]) and np.array_equal(gray, pixels[:, :, 2])):
        return _flate(pdf, pixels.reshape(frame.height, -1), _entries(size, Name.DeviceRGB, 8), 3, frame.width)
    if np.isin(gray, (0, 255)).all():
        return pdf.make_stream(np.packbits(gray > 0, axis=1).tobytes(), **_entries(size, Name.DeviceGray, 1))
    return _flate(pdf, gray, _entries(size, Name.DeviceGray, 8), 1, frame.width)


def _entries(size: tuple[int, int], color_space: Object, bits: int) -> dict[str, Any]:
    return {
        "Type": Name.XObject,
        "Subtype": Name.Image,
        "Width": size[0],
        "Height": size[1],
        "ColorSpace": color_space,
        "BitsPerComponent": bits,
    }


def _flate(pdf: Pdf, rows: np.ndarray, entries: dict[str, Any], channels: int, columns: int) -> Object:
    """Return rows of bytes compressed with PNG's filter Up, which predicts each byte by the one above it."""
    filtered = np.full((rows.shape[0], rows.shape[1] + 1), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    predictor = Dictionary(Predictor=15, Colors=channels, BitsPerComponent=8, Columns=columns)
    data = zlib.compress(filtered.tobytes(), 6)
    return pdf.make_stream(data, **entries, Filter=Name.FlateDecode, DecodeParms=predictor)
