"""A picture's bytes to an upright RGB frame: EXIF turned, transparency on white, 16 bits scaled to 8."""

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

from smolcli.errors import InputError
from smolcli.options import Input
from smolcli.types import Frame

# Pictures of pixels only: Pillow would give EPS to Ghostscript and WMF to the system, both able to run programs. ICO
# is decoded whole while it is opened, before its size is known.
FORMATS = (
    "PNG", "JPEG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF", "QOI", "SGI", "PCX",
    "DDS",
)  # fmt: skip
PLUGINS = {  # the kinds that need a library of the extra `formats`: its module and its package
    "HEIC": ("pillow_heif", "pillow-heif"),
    "JPEG XL": ("pillow_jxl", "pillow-jxl-plugin"),
}
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\1\0": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
}
HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
AVIF_BRANDS = frozenset((b"avif", b"avis"))
PNG_WORDS = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP"))
JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width : height
JXL_DEPTHS = {1: "u1", 2: "u2", 4: "f4"}  # by bytes a sample; what the decoder gives has the machine's own order
JXL_HEADER = 64  # bytes at the start of a codestream that hold its sizes, with room to spare
Image.MAX_IMAGE_PIXELS = None  # the limit is ours, --max-pixels, and it is an error, not a warning


def read(data: bytes, options: Input) -> tuple[Frame, ...]:
    """The one picture in `data`; the first frame of an animation.

    Raises InputError: unsupported (not a picture, or its library is not here), too-large (--max-pixels), truncated.
    """
    kind = kind_of(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (_decoded(data, kind, options.max_pixels),)
    except UnidentifiedImageError:
        raise _unknown(kind, data) from None
    except InputError:
        raise
    except MemoryError:
        raise InputError("does not fit in memory", "make it smaller", kind="too-large") from None
    except Exception as error:  # what Pillow's decoders raise on damaged data is not one class
        raise InputError(f"is damaged or cut short ({error})", "get a whole copy", kind="truncated") from error


def _unknown(kind: str, data: bytes) -> InputError:
    if not kind and (data[4:8] == b"ftyp" or data[8:12] == b"AVI " or data.startswith(b"\x1aE\xdf\xa3")):  # or Matroska
        return InputError("is a video", "smolcli video-summarize says what happens in it", kind="unsupported")
    if not kind:
        return InputError("is not a picture that can be read", "convert it to PNG or JPEG", kind="unsupported")
    what = f"begins as {kind} and is cut short, damaged or of a rare sort"
    return InputError(what, "get a whole copy or convert it to PNG or JPEG", kind="unsupported")


def kind_of(data: bytes) -> str:
    """The kind that the first bytes announce, as a person calls it; "" where they are no signature known here.

    >>> kind_of(b"\\x00\\x00\\x00\\x18ftypheic\\x00\\x00\\x00\\x00mif1heic")
    'HEIC'
    """
    if data[4:8] == b"ftyp":
        brands = {data[at : at + 4] for at in range(8, min(int.from_bytes(data[:4], "big"), 256), 4)}
        if brands & AVIF_BRANDS:
            return "AVIF"
        return "HEIC" if brands & HEIC_BRANDS else ""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((kind for signature, kind in SIGNATURES.items() if data.startswith(signature)), "")


def _decoded(data: bytes, kind: str, max_pixels: int) -> Frame:
    if kind == "ICO":  # else TGA, which has no signature, takes some icons for its own
        raise InputError("is an icon (ICO)", "convert it to PNG or JPEG", kind="unsupported")
    if kind == "JPEG XL":
        return _jpeg_xl(data, max_pixels)
    if kind == "PNG":
        _check_sums(data)
    if kind == "JPEG":
        _check_end(data)
    try:
        return _opened(data, kind, max_pixels)
    except ValueError:
        if kind != "PNG":
            raise
        # Pillow refuses texts and colour profiles that unpack to megabytes; the pixels do not need them.
        return _opened(_without_words(data), kind, max_pixels)


def _opened(data: bytes, kind: str, max_pixels: int) -> Frame:
    formats: tuple[str, ...] = FORMATS
    if kind == "HEIC":
        _plugin(kind).register_heif_opener()
        formats = ("HEIF",)
    if kind == "AVIF" and not features.check("avif"):
        raise InputError("is AVIF, and this Pillow was built without it", "pip install -U pillow", kind="unsupported")
    with Image.open(io.BytesIO(data), formats=formats) as image:
        return _frame(image, max_pixels)


def _plugin(kind: str) -> ModuleType:
    module, package = PLUGINS[kind]
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"is {kind}, and the library {package} is not installed",
            "pip install 'smolcli[formats]'",
            kind="unsupported",
        ) from None


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises InputError, too-large, over --max-pixels."""
    if width * height > max_pixels:
        raise InputError(
            f"has {width} x {height} pixels, over the limit of {max_pixels:,}",
            "make it smaller or raise --max-pixels",
            kind="too-large",
        )


def _frame(image: Image.Image, max_pixels: int) -> Frame:
    """The first frame of an opened picture; its orientation has been applied already where it is HEIC."""
    check_size(*image.size, max_pixels)
    image.load()
    upright = _upright(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and upright.mode.startswith("I;16"):
        upright = _deep_tiff(upright, image.tag_v2)
    rgb = eight_bit_rgb(upright)
    return Frame(rgb.tobytes(), rgb.width, rgb.height)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF that is no EXIF: the picture itself is whole
        return image


# ---- pixels ----------------------------------------------------------------------------------------


def eight_bit_rgb(image: Image.Image) -> Image.Image:
    """Any picture as RGB of 8 bits a channel, what is transparent on white."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return _eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return image.convert("RGB")


def _deep_tiff(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """What Pillow leaves undone in grey of 12 and 16 bits: 12 bits are spread over 16, white that is zero is turned."""
    values: np.ndarray = np.asarray(image).astype(np.uint16)
    if tags.get(258) == (12,):
        values = values << 4 | values >> 8
    return Image.fromarray(65535 - values if tags.get(262) == 0 else values)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits: the high byte of 16-bit values; other ranges stretched to 0..255.

    Pillow's own convert() clips at 255, which turns such a picture white.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and values.min() >= 0 and 255 < values.max() <= 65535):
        scaled = _high_bytes(values)
        if isinstance(clear := image.info.get("transparency"), int):
            scaled[values == clear] = 255
        return Image.fromarray(scaled)
    reals = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(reals.min()), float(reals.max())
    if image.mode == "I" and low >= 0 and high <= 255:
        return Image.fromarray(reals.astype(np.uint8))
    return Image.fromarray(np.rint((reals - low) / max(high - low, 1e-12) * 255).astype(np.uint8))


def _high_bytes(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, rounded."""
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


# ---- whole files: what the decoders would fill with grey or black ----------------------------------


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each whole chunk of a PNG, where it begins and where it ends."""
    at = 8
    while at + 12 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if (end := at + 12 + length) > len(png):
            return
        yield name, at, end
        at = end


def _check_sums(png: bytes) -> None:
    """Pillow takes pixel data without its checksums, and the zeros of an unfinished download for black."""
    view = memoryview(png)
    for name, start, end in _chunks(png):
        if name == b"IDAT" and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise InputError("is damaged (a checksum is wrong)", "get a whole copy", kind="truncated")


def _without_words(png: bytes) -> bytes:
    kept = [png[start:end] for name, start, end in _chunks(png) if name not in PNG_WORDS]
    return b"".join([png[:8], *kept])


def _check_end(jpeg: bytes) -> None:
    """Pillow takes the zeros of an unfinished download for grey: there must be an end after the first scan begins."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] != b"\xda":
        padded = jpeg[at + 1 : at + 2] == b"\xff"
        at += 1 if padded else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    if jpeg.find(b"\xff\xd9", at) < 0:
        raise InputError("is cut short (it has no end)", "get a whole copy", kind="truncated")


# ---- JPEG XL: its plugin decodes while it opens, gives the last frame of an animation, and takes 16-bit
# ---- grey with transparency for 8-bit, so its decoder is called here, after a look at the header ---


def _jpeg_xl(data: bytes, max_pixels: int) -> Frame:
    decoder = _plugin("JPEG XL").Decoder
    width, height, animated = _jpeg_xl_header(_codestream(data))
    check_size(width, height, max_pixels)
    if animated:
        raise InputError("is an animated JPEG XL", "convert its first frame to PNG", kind="unsupported")
    is_jpeg, info, pixels, _, _ = decoder()(data)
    if is_jpeg:  # a JPEG in a smaller coat: the very bytes of the JPEG, orientation in its EXIF
        return _opened(bytes(pixels), "JPEG", max_pixels)
    bands = 1 if info.mode in ("I;16", "F", "F;16") else len(info.mode)
    values = np.frombuffer(pixels, JXL_DEPTHS[len(pixels) // (info.width * info.height * bands)])
    shaped = values.reshape(info.height, info.width, bands)
    if shaped.dtype == np.uint16:
        shaped = _high_bytes(shaped)
    elif shaped.dtype == np.float32:
        shaped = np.rint(np.clip(np.nan_to_num(shaped), 0, 1) * 255).astype(np.uint8)
    rgb = eight_bit_rgb(Image.fromarray(shaped.squeeze(2) if bands == 1 else shaped))
    return Frame(rgb.tobytes(), rgb.width, rgb.height)


def _codestream(data: bytes) -> bytes:
    """The first bytes of the picture's own data, which may lie in a container of boxes."""
    if data.startswith(b"\xff\x0a"):
        return data[:JXL_HEADER]
    found, at = b"", 0
    while at + 16 <= len(data) and len(found) < JXL_HEADER:
        size, name, long = struct.unpack_from(">I4sQ", data, at)
        head, size = (16, long) if size == 1 else (8, size or len(data) - at)
        body = at + head + (4 if name == b"jxlp" else 0)  # a part has a number first
        if name in (b"jxlc", b"jxlp"):
            found += data[body : min(at + size, body + JXL_HEADER)]
        at += max(size, head)
    return found


def _jpeg_xl_header(codestream: bytes) -> tuple[int, int, bool]:
    """Width and height in pixels, and whether it is an animation (ISO/IEC 18181-1, SizeHeader and ImageMetadata)."""
    rest = int.from_bytes(codestream[2:JXL_HEADER], "little")

    def take(bits: int) -> int:
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
        size()  # the size it should be shown at
    has_preview = take(1)
    return width, height, not has_preview and bool(take(1))
