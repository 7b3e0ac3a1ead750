"""From a picture that Pillow has opened to a frame: upright, 8 bits a channel, sRGB, on a ground, not too large."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.alpha import flatten, ground_of
from smolcli.inputs.color import ColorCoding, is_srgb, to_srgb
from smolcli.types import Frame

# A picture of more pixels is reduced while it is decoded, or before anything else is made of it: no model sees so many.
# What is left has more than LONGEST_SEEN along its longest edge, the most that transformers' image processors take
# (backends/image_processor.py, MAX_IMAGE_SIZE), so that its tiles are nearly the same. Others stay as they are.
MAX_WHOLE_PIXELS = 2**26
LONGEST_SEEN = 4096
BAND_PIXELS = 2**20  # converted at a time, so that a conversion takes little memory beside the picture
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
TRANSPOSITIONS = {  # by the value of EXIF's tag Orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise InputError, too-large, for a picture of more than `max_pixels` pixels."""
    if width * height > max_pixels:
        raise InputError(
            f"has {width} x {height} pixels, over the limit of {max_pixels:,}",
            "make it smaller or raise --max-pixels",
            kind=ErrorKind.TOO_LARGE,
        )


def to_frame(
    image: Image.Image,
    max_pixels: int,
    coding: ColorCoding,
    notices: list[str],
    orientation: int | None = None,
    correct: Callable[[Image.Image], Image.Image] | None = None,
) -> Frame:
    """Decode an opened picture to a frame. `orientation` is EXIF's, by default the picture's own.

    `correct` mends what Pillow has decoded. Raises InputError, too-large, and what Pillow's decoders raise.
    """
    check_size(*image.size, max_pixels)
    reduction = _reduction(image.size)
    if reduction > 1:  # JPEG is decoded to a half, a quarter or an eighth; other formats take no notice
        image.draft(None, (max(1, image.width // reduction), max(1, image.height // reduction)))
    image.load()
    if orientation is None:
        orientation = _orientation_of(image)
    if correct is not None:
        image = correct(image)
    rgb = _to_rgb(_eight_bits(image), coding, _reduction(image.size), notices)
    if orientation in TRANSPOSITIONS:
        rgb = rgb.transpose(TRANSPOSITIONS[orientation])
    return Frame(rgb.tobytes(), rgb.width, rgb.height)


def eight_bit_rgb(image: Image.Image) -> Image.Image:
    """Convert any picture to RGB with 8 bits a channel; transparent pixels are drawn on a ground, see alpha.py."""
    return _to_rgb(_eight_bits(image), ColorCoding(), 1, [])


def _reduction(size: tuple[int, int]) -> int:
    """Return by how much a picture of `size` is to be divided along each side.

    >>> _reduction((40000, 4900)), _reduction((6000, 4000))
    (9, 1)
    """
    return 1 if size[0] * size[1] <= MAX_WHOLE_PIXELS else max(1, max(size) // LONGEST_SEEN)


def _orientation_of(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF does not damage the picture
        return 1


# ---- colors ---------------------------------------------------------------------------------------


def _to_rgb(image: Image.Image, coding: ColorCoding, reduction: int, notices: list[str]) -> Image.Image:
    """Convert a picture of 8 bits a channel to RGB in sRGB, a band of rows at a time, and reduce it."""
    if is_srgb(image, coding):
        return image.reduce(reduction) if reduction > 1 else image
    sample = to_srgb(image.resize(_at_most(image.size, 512), Image.Resampling.NEAREST), coding, notices)
    ground = ground_of(sample) if sample.mode == "RGBA" else None
    del sample
    reduced = Image.new("RGB", (-(-image.width // reduction), -(-image.height // reduction)))
    for top, band in _bands(image, reduction):
        rgb = to_srgb(band, coding, notices)
        rgb = flatten(rgb, ground) if rgb.mode == "RGBA" else rgb
        reduced.paste(rgb.reduce(reduction) if reduction > 1 else rgb, (0, top // reduction))
    return reduced


def _at_most(size: tuple[int, int], longest: int) -> tuple[int, int]:
    return min(size[0], longest), min(size[1], longest)


def _bands(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield the picture in bands of rows, each with its top; their heights are multiples of `multiple`."""
    rows = max(1, BAND_PIXELS // image.width // multiple) * multiple
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


# ---- gray of more than 8 bits ------------------------------------------------------------------------


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert gray of more than 8 bits to mode L, or LA where one value stands for transparency.

    16-bit values are scaled, other ranges are stretched to 0..255. Pillow's convert() clips at 255, which makes such a
    picture white.
    """
    if image.mode not in DEEP_MODES:
        return image
    transparent = image.info.get("transparency")
    transparent = transparent if image.mode.startswith("I;16") and isinstance(transparent, int) else None
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else _range_of(image)
    if image.mode == "I" and low >= 0 and high <= 65535:
        low, high = 0.0, 255.0 if high <= 255 else 65535.0
    gray = Image.new("L" if transparent is None else "LA", image.size)
    for top, band in _bands(image):
        values = np.asarray(band)
        scaled = _stretch(values, low, high)
        if transparent is not None:
            scaled = np.stack([scaled, np.where(values == transparent, 0, 255).astype(np.uint8)], -1)
        gray.paste(Image.fromarray(scaled), (0, top))
    return gray


def _range_of(image: Image.Image) -> tuple[float, float]:
    """Return the least and the largest value of a picture, where those that are not finite count as 0."""
    lows, highs = zip(*(_extremes(_finite(np.asarray(band))) for _, band in _bands(image)), strict=True)
    return min(lows), max(highs)


def _extremes(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale low..high to 0..255, rounded; any shape."""
    if values.dtype.kind == "u":
        return scale_16_to_8_bits(values)
    stretched: np.ndarray = np.rint((_finite(values) - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return stretched


def scale_16_to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale 0..65535 to 0..255, rounded; any shape."""
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
