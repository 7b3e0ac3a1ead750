"""A picture's bytes to an upright RGB frame: EXIF turned, transparency on white, 16 bits scaled to 8."""

from __future__ import annotations

import hashlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from smolcli.errors import InputError
from smolcli.options import Input
from smolcli.types import Frame, Media

# Pictures of pixels only: Pillow would give EPS to Ghostscript and WMF to the system, both able to run programs. ICO
# is decoded whole while it is opened, before its size is known.
FORMATS = (
    "PNG", "JPEG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF", "QOI", "SGI", "PCX",
    "DDS",
)  # fmt: skip
Image.MAX_IMAGE_PIXELS = None  # the limit is ours, --max-pixels, and it is an error, not a warning


def read(data: bytes, options: Input) -> Media:
    """The picture in `data`; the first frame of an animation.

    Raises InputError: unsupported (not a picture), too-large (--max-pixels), truncated.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return Media((_frame(image, options.max_pixels),), hashlib.sha256(data).hexdigest())
    except UnidentifiedImageError:
        raise InputError("is not a picture that can be read", "convert it to PNG or JPEG", kind="unsupported") from None
    except InputError:
        raise
    except MemoryError:
        raise InputError("does not fit in memory", "make it smaller", kind="too-large") from None
    except Exception as error:  # what Pillow's decoders raise on damaged data is not one class
        raise InputError(f"is damaged or cut short ({error})", "get a whole copy", kind="truncated") from error


def _frame(image: Image.Image, max_pixels: int) -> Frame:
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(
            f"has {width} x {height} pixels, over the limit of {max_pixels:,}",
            "make it smaller or raise --max-pixels",
            kind="too-large",
        )
    image.load()
    upright = ImageOps.exif_transpose(image)
    rgb = _rgb(upright)
    return Frame(rgb.tobytes(), rgb.width, rgb.height)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return _eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits: the high byte of 16-bit values; other ranges stretched to 0..255.

    Pillow's own convert() clips at 255, which turns such a picture white.
    """
    values = np.asarray(image, np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 65535 and (image.mode != "F"):
        scaled = values / 65535 * 255 if high > 255 or image.mode != "I" else values
    else:
        scaled = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
