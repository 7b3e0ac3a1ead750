"""The size of a picture from its header, for plans: no pixels are decoded where the format allows that."""

from __future__ import annotations

import io
import warnings
from itertools import islice

from PIL import ExifTags, Image

from smolcli.inputs.formats import camera_raw, tiff
from smolcli.inputs.image import FORMATS, read
from smolcli.inputs.pixels import check_size
from smolcli.inputs.signatures import kind_of
from smolcli.options import Input

# Kinds whose header says what `read` would give. The others are decoded: HEIC and JPEG XL need their plugins, and an
# icon is decoded while it is opened.
HEADER_KINDS = frozenset(("PNG", "JPEG", "GIF", "WebP", "AVIF", ""))
ROTATED = frozenset((5, 6, 7, 8))  # orientations of EXIF that turn the picture by a quarter
Sizes = tuple[tuple[int, int], ...]  # width and height of each picture


def read_sizes(data: bytes, options: Input, every_page: bool = False) -> Sizes:
    """Return width and height, upright, of the first picture that image.read would give, or of all (`every_page`).

    A picture that is damaged behind its header is not found out. Raises InputError as image.read does.
    """
    count = None if every_page else 1
    sizes = _sizes_in_headers(data)[:count]
    for size in sizes:
        check_size(*size, options.max_pixels)
    return sizes or tuple((frame.width, frame.height) for frame in islice(read(data, options), count))


def _sizes_in_headers(data: bytes) -> Sizes:
    """Return the size of each picture by the headers; none where they do not say it."""
    kind = kind_of(data)
    try:
        if kind == "TIFF":
            return _page_sizes(data)
        if kind in HEADER_KINDS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return (_header_size(data),)
    except Exception:  # also the decoder's own classes: `read` says what is wrong
        pass
    return ()


def _header_size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        # Not image.getexif(): that of PNG decodes the pixels to look for EXIF behind them.
        return _upright(image.size, Image.Image.getexif(image).get(ExifTags.Base.Orientation))


def _page_sizes(data: bytes) -> Sizes:
    """Return the sizes of a TIFF's pages; none of camera raw, and where there are only copies. Raises struct.error."""
    directories = tiff.Directories(data)
    if camera_raw.is_raw(data, directories):
        return ()
    pages = (directory for directory in directories.main if directory.is_page)
    return tuple(_upright(page.size, page.value(tiff.ORIENTATION)) for page in pages)


def _upright(size: tuple[int, int], orientation: int | None) -> tuple[int, int]:
    return size[::-1] if orientation in ROTATED else size
