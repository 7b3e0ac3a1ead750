"""The size of a picture from its header, for plans: no pixels are decoded where the format allows that."""

from __future__ import annotations

import io
import warnings

from PIL import ExifTags, Image

from smolcli.inputs.image import FORMATS, read
from smolcli.inputs.pixels import check_size
from smolcli.inputs.signatures import kind_of
from smolcli.options import Input

# Kinds whose header says what `read` would give. The others are decoded: TIFF may hold several pictures of which
# another than the first is read, HEIC and JPEG XL need their plugins, and an icon is decoded while it is opened.
HEADER_KINDS = frozenset(("PNG", "JPEG", "GIF", "WebP", "AVIF", ""))
ROTATED = frozenset((5, 6, 7, 8))  # orientations of EXIF that turn the picture by a quarter


def read_sizes(data: bytes, options: Input) -> tuple[tuple[int, int], ...]:
    """Return width and height, upright, of each picture that image.read would give. Raises InputError as it does.

    A picture that is damaged behind its header is not found out.
    """
    if kind_of(data) in HEADER_KINDS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                size = _header_size(data)
        except Exception:  # also the decoder's own classes: `read` says what is wrong
            return _decoded_sizes(data, options)
        check_size(*size, options.max_pixels)
        return (size,)
    return _decoded_sizes(data, options)


def _header_size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        # Not image.getexif(): that of PNG decodes the pixels to look for EXIF behind them.
        is_rotated = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in ROTATED
        return (image.height, image.width) if is_rotated else image.size


def _decoded_sizes(data: bytes, options: Input) -> tuple[tuple[int, int], ...]:
    return tuple((frame.width, frame.height) for frame in read(data, options))
