"""Decodes a picture to an RGB frame: EXIF orientation applied, transparency on white, 16 bits scaled to 8."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, features

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.alpha import flatten
from smolcli.inputs.signatures import kind_of
from smolcli.options import Input
from smolcli.types import Frame

# The formats that Pillow may read, all of them rasters: it would give EPS to Ghostscript and WMF to the system, and
# both can run programs. ICO is left out because it is decoded completely while it is opened, before its size is known.
FORMATS = (
    "PNG", "JPEG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF", "QOI", "SGI", "PCX",
    "DDS",
)  # fmt: skip
PLUGINS = {  # kinds that need a library of the extra `formats`: its module and its package
    "HEIC": ("pillow_heif", "pillow-heif"),
    "JPEG XL": ("pillow_jxl", "pillow-jxl-plugin"),
}
PNG_METADATA = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP"))
JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width : height
JXL_SAMPLE_TYPES = {1: "u1", 2: "u2", 4: "f4"}  # NumPy types by bytes per sample, in the machine's byte order
JXL_HEADER = 64  # bytes at the start of a codestream, more than its sizes take
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is a warning; ours is --max-pixels, and an error


def read(data: bytes, options: Input) -> tuple[Frame, ...]:
    """Decode the picture in `data`, or the first frame of an animation, to a tuple of one frame.

    Raises InputError: unsupported (not a picture, or its library is not installed), too-large (over --max-pixels),
    truncated.
    """
    kind = kind_of(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (_decode(data, kind, options.max_pixels),)
    except UnidentifiedImageError:
        raise _not_readable(kind, data) from None
    except InputError:
        raise
    except MemoryError:
        raise InputError("does not fit in memory", "make it smaller", kind=ErrorKind.TOO_LARGE) from None
    except Exception as error:  # Pillow's decoders raise many classes for damaged data
        raise InputError(f"is damaged or cut short ({error})", "get a whole copy", kind=ErrorKind.TRUNCATED) from error


def _not_readable(kind: str, data: bytes) -> InputError:
    is_matroska = data.startswith(b"\x1aE\xdf\xa3")
    if not kind and (data[4:8] == b"ftyp" or data[8:12] == b"AVI " or is_matroska):
        return InputError("is a video", "smolcli video-summarize says what happens in it", kind=ErrorKind.UNSUPPORTED)
    if not kind:
        return InputError("is not a picture that can be read", "convert it to PNG or JPEG", kind=ErrorKind.UNSUPPORTED)
    message = f"begins as {kind} and is cut short, damaged or of a rare sort"
    return InputError(message, "get a whole copy or convert it to PNG or JPEG", kind=ErrorKind.UNSUPPORTED)


def _decode(data: bytes, kind: str, max_pixels: int) -> Frame:
    if kind == "ICO":  # TGA has no signature, and its decoder would take some icons for TGA
        raise InputError("is an icon (ICO)", "convert it to PNG or JPEG", kind=ErrorKind.UNSUPPORTED)
    if kind == "JPEG XL":
        return _decode_jpeg_xl(data, max_pixels)
    if kind == "PNG":
        _check_png_checksums(data)
    if kind == "JPEG":
        _check_jpeg_end(data)
    try:
        return _decode_with_pillow(data, kind, max_pixels)
    except ValueError:
        if kind != "PNG":
            raise
        # Pillow refuses texts and colour profiles that unpack to megabytes; the pixels can be decoded without them.
        return _decode_with_pillow(_without_metadata(data), kind, max_pixels)


def _decode_with_pillow(data: bytes, kind: str, max_pixels: int) -> Frame:
    formats: tuple[str, ...] = FORMATS
    if kind == "HEIC":
        _load_plugin(kind).register_heif_opener()
        formats = ("HEIF",)
    if kind == "AVIF" and not features.check("avif"):
        raise InputError(
            "is AVIF, and this Pillow was built without it", "pip install -U pillow", kind=ErrorKind.UNSUPPORTED
        )
    with Image.open(io.BytesIO(data), formats=formats) as image:
        return _to_frame(image, max_pixels)


def _load_plugin(kind: str) -> ModuleType:
    module, package = PLUGINS[kind]
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"is {kind}, and the library {package} is not installed",
            "pip install 'smolcli[formats]'",
            kind=ErrorKind.UNSUPPORTED,
        ) from None


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise InputError, too-large, for a picture of more than `max_pixels` pixels."""
    if width * height > max_pixels:
        raise InputError(
            f"has {width} x {height} pixels, over the limit of {max_pixels:,}",
            "make it smaller or raise --max-pixels",
            kind=ErrorKind.TOO_LARGE,
        )


def _to_frame(image: Image.Image, max_pixels: int) -> Frame:
    """Convert the first frame of an opened picture; the HEIC plugin has applied the orientation already."""
    check_size(*image.size, max_pixels)
    image.load()
    upright = _apply_orientation(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and upright.mode.startswith("I;16"):
        upright = _correct_deep_tiff(upright, image.tag_v2)
    rgb = eight_bit_rgb(upright)
    return Frame(rgb.tobytes(), rgb.width, rgb.height)


def _apply_orientation(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF does not damage the picture
        return image


# ---- pixels ----------------------------------------------------------------------------------------


def eight_bit_rgb(image: Image.Image) -> Image.Image:
    """Convert any picture to RGB with 8 bits per channel; transparent pixels are drawn on a ground, see alpha.py."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return _eight_bit_grey(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return flatten(image.convert("RGBA"))
    return image.convert("RGB")


def _correct_deep_tiff(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Do what Pillow leaves undone in grey of 12 and 16 bits: scale 12 bits to 16, and invert white-is-zero."""
    values: np.ndarray = np.asarray(image).astype(np.uint16)
    if tags.get(258) == (12,):  # BitsPerSample
        values = values << 4 | values >> 8
    is_white_zero = tags.get(262) == 0  # PhotometricInterpretation
    return Image.fromarray(65535 - values if is_white_zero else values)


def _eight_bit_grey(image: Image.Image) -> Image.Image:
    """Convert grey of more than 8 bits: 16-bit values are scaled, other ranges are stretched to 0..255.

    Pillow's convert() clips at 255, which makes such a picture white.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and values.min() >= 0 and 255 < values.max() <= 65535):
        scaled = _scale_16_to_8_bits(values)
        if isinstance(transparent := image.info.get("transparency"), int):
            scaled[values == transparent] = 255
        return Image.fromarray(scaled)
    reals = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(reals.min()), float(reals.max())
    if image.mode == "I" and low >= 0 and high <= 255:
        return Image.fromarray(reals.astype(np.uint8))
    return Image.fromarray(np.rint((reals - low) / max(high - low, 1e-12) * 255).astype(np.uint8))


def _scale_16_to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale 0..65535 to 0..255, rounded; any shape."""
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


# ---- incomplete files, whose missing pixels the decoders would fill with grey or black ---------------


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each complete chunk of a PNG."""
    start = 8
    while start + 12 <= len(png):
        length, name = struct.unpack_from(">I4s", png, start)
        if (end := start + 12 + length) > len(png):
            return
        yield name, start, end
        start = end


def _check_png_checksums(png: bytes) -> None:
    """Check the pixel data. Pillow does not, and reads the zeros of an unfinished download as black."""
    view = memoryview(png)
    for name, start, end in _chunks(png):
        if name == b"IDAT" and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise InputError("is damaged (a checksum is wrong)", "get a whole copy", kind=ErrorKind.TRUNCATED)


def _without_metadata(png: bytes) -> bytes:
    chunks = [png[start:end] for name, start, end in _chunks(png) if name not in PNG_METADATA]
    return b"".join([png[:8], *chunks])


def _check_jpeg_end(jpeg: bytes) -> None:
    """Check that an end marker follows the first scan. Pillow reads the zeros of an unfinished download as grey."""
    offset = 2
    while jpeg[offset : offset + 1] == b"\xff" and jpeg[offset + 1 : offset + 2] != b"\xda":
        is_padding = jpeg[offset + 1 : offset + 2] == b"\xff"
        offset += 1 if is_padding else 2 + int.from_bytes(jpeg[offset + 2 : offset + 4], "big")
    if jpeg.find(b"\xff\xd9", offset) < 0:
        raise InputError("is cut short (it has no end)", "get a whole copy", kind=ErrorKind.TRUNCATED)


# ---- JPEG XL. Its Pillow plugin decodes while it opens, gives the last frame of an animation, and reads 16-bit grey
# ---- with transparency as 8-bit. So the decoder is called here, after the header has been read. ------------------


def _decode_jpeg_xl(data: bytes, max_pixels: int) -> Frame:
    decoder = _load_plugin("JPEG XL").Decoder
    width, height, is_animated = _parse_jpeg_xl_header(_codestream(data))
    check_size(width, height, max_pixels)
    if is_animated:
        raise InputError("is an animated JPEG XL", "convert its first frame to PNG", kind=ErrorKind.UNSUPPORTED)
    is_jpeg, info, pixels, _, _ = decoder()(data)
    if is_jpeg:  # a repacked JPEG: `pixels` are its original bytes, with the orientation in its EXIF
        return _decode_with_pillow(bytes(pixels), "JPEG", max_pixels)
    bands = 1 if info.mode in ("I;16", "F", "F;16") else len(info.mode)
    values = np.frombuffer(pixels, JXL_SAMPLE_TYPES[len(pixels) // (info.width * info.height * bands)])
    shaped = values.reshape(info.height, info.width, bands)
    if shaped.dtype == np.uint16:
        shaped = _scale_16_to_8_bits(shaped)
    elif shaped.dtype == np.float32:
        shaped = np.rint(np.clip(np.nan_to_num(shaped), 0, 1) * 255).astype(np.uint8)
    rgb = eight_bit_rgb(Image.fromarray(shaped.squeeze(2) if bands == 1 else shaped))
    return Frame(rgb.tobytes(), rgb.width, rgb.height)


def _codestream(data: bytes) -> bytes:
    """Return the first bytes of the codestream, which may be in a container of boxes."""
    if data.startswith(b"\xff\x0a"):
        return data[:JXL_HEADER]
    codestream, offset = b"", 0
    while offset + 16 <= len(data) and len(codestream) < JXL_HEADER:
        size, name, long_size = struct.unpack_from(">I4sQ", data, offset)
        head, size = (16, long_size) if size == 1 else (8, size or len(data) - offset)
        body = offset + head + (4 if name == b"jxlp" else 0)  # a jxlp box begins with its number
        if name in (b"jxlc", b"jxlp"):
            codestream += data[body : min(offset + size, body + JXL_HEADER)]
        offset += max(size, head)
    return codestream


def _parse_jpeg_xl_header(codestream: bytes) -> tuple[int, int, bool]:
    """Return width and height in pixels, and whether it is an animation.

    ISO/IEC 18181-1, SizeHeader and ImageMetadata.
    """
    rest = int.from_bytes(codestream[2:JXL_HEADER], "little")

    def take(bits: int) -> int:  # the next bits as a number
        nonlocal rest
        value, rest = rest & ((1 << bits) - 1), rest >> bits
        return value

    def side(small: int) -> int:
        return 8 * (1 + take(5)) if small else 1 + take((9, 13, 18, 30)[take(2)])

    def size() -> tuple[int, int]:
        small = take(1)
        height = side(small)
        ratio = take(3)
        wide, high = JXL_RATIOS[ratio - 1]
        return (height * wide // high if ratio else side(small)), height

    width, height = size()
    all_default = take(1)
    if all_default or not take(1):
        return width, height, False
    take(3)  # the orientation, which the decoder applies
    if take(1):
        size()  # the intrinsic size, at which the picture should be shown
    has_preview = take(1)
    return width, height, not has_preview and bool(take(1))
