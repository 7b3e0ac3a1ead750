"""Opens a picture file of any kind and decodes its pages to frames, one at a time."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, features

from smolcli import registry
from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.color import ColorCoding
from smolcli.inputs.formats import bmff, camera_raw, icon, jpeg, jpeg_xl, png, tiff
from smolcli.inputs.formats.tiff import Directories, Directory
from smolcli.inputs.pages import Pages
from smolcli.inputs.pixels import ORIENTATION, to_frame
from smolcli.inputs.signatures import CAMERA_RAW, HEAD_BYTES, is_pdf, is_video, kind_of
from smolcli.options import Input
from smolcli.types import Frame, FrameRef, Media, pluralize

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
Page = Callable[["Picture"], Frame]  # decodes one page of an open picture
MPO_ENTRIES = 0xB002  # tag of CIPA DC-007
OWN_PICTURES = ("Baseline", "Multi-Frame")  # types in a Multi-Picture JPEG; others are smaller or made of the first
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is a warning; ours is --max-pixels, and an error


def read(data: bytes, options: Input) -> Iterator[Frame]:
    """Decode every page of a picture file, one after another. Raises InputError as Picture does."""
    picture = Picture(data, options)
    return (picture.page(number) for number in range(picture.page_count))


class Picture:
    """A picture file that is open; it holds the bytes of the file, and no pixels. Its pages are a FrameSource.

    `notices` are messages for the user; `faults` are those that came up while pages were decoded.

        picture = Picture(data, options)
        frames = [picture.page(number) for number in range(picture.page_count)]

    The constructor and `page` raise InputError: unsupported (not a picture, or its library is not installed), too-large
    (over --max-pixels), truncated.
    """

    def __init__(self, data: bytes, options: Input) -> None:
        self.notices: list[str] = []
        self.faults: list[str] = []
        self.remarks: Sequence[str] = ()
        self.held = len(data)  # bytes of memory
        self._data, self._kind, self._max_pixels = data, kind_of(data), options.max_pixels
        self._tiff: Image.Image | None = None
        with self._errors():
            self._pages = self._find_pages()
        self._chosen = list(range(len(self._pages)))

    @property
    def page_count(self) -> int:
        """How many pages there are: several only in a TIFF, since frames of an animation are none."""
        return len(self._pages)

    def page(self, number: int) -> Frame:
        """Decode a page; the first is number 0."""
        with self._errors():
            return self._pages[number](self)

    def choose(self, pages: Pages) -> None:
        """Choose the pages of `media`. Raises InputError where --pages names none that there is."""
        self._chosen, notice = pages.select(self.page_count)
        self.notices += [notice] if notice else []

    @property
    def media(self) -> Media:
        """The chosen pages, as a task sees them: their sizes are not known yet."""
        return Media(tuple(FrameRef(index, 0, 0) for index in self._chosen), notices=tuple(self.notices))

    def pictures(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Decode several pages, and yield each with its number."""
        for index in indices:
            yield index, self.page(index)

    def let_go(self) -> None:
        """Do nothing: no pixels are held."""

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what Pillow raises into InputError."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except UnidentifiedImageError:
            raise _not_readable(self._kind, self._data) from None
        except InputError:
            raise
        except MemoryError:
            raise InputError("does not fit in memory", "make it smaller", kind=ErrorKind.TOO_LARGE) from None
        except Exception as error:  # Pillow's decoders raise many classes for damaged data
            message = f"is damaged or cut short ({error})"
            raise InputError(message, "get a whole copy", kind=ErrorKind.TRUNCATED) from error

    # ---- pages ---------------------------------------------------------------------------------------

    # Pages are functions of the picture and do not hold it: in a reference cycle, the bytes of a file would stay in
    # memory until Python's garbage collector comes round, which is after many pictures.

    def _find_pages(self) -> list[Page]:
        if self._kind == CAMERA_RAW:
            return [self._preview_page(None)]
        if self._kind == "TIFF":
            with contextlib.suppress(struct.error):  # else Pillow says what is wrong
                return self._find_tiff_pages(Directories(self._data))
        return [lambda picture: picture._decode(picture._data, picture._kind)]

    def _find_tiff_pages(self, directories: Directories) -> list[Page]:
        if camera_raw.is_raw(self._data, directories):
            return [self._preview_page(directories)]
        numbers = [directory.number for directory in directories.main if directory.is_page]
        if directories.is_cut and numbers:
            self.notices.append(f"is cut short: {pluralize(len(numbers), 'page')} can be read")
        if numbers:
            return [partial(Picture._decode_tiff_page, number=number) for number in numbers if number is not None]
        whole = tiff.largest([directory for directory in directories.sub if directory.is_page])
        if whole is None:
            self.notices.append("has only a reduced copy of a picture in it")
            return [lambda picture: picture._decode(picture._data, "TIFF")]
        return [partial(Picture._decode_directory, directory=whole)]

    def _preview_page(self, directories: Directories | None) -> Page:
        """The largest preview of camera raw; `directories` are those of a TIFF."""
        preview = camera_raw.largest_preview(self._data, directories)
        orientation = camera_raw.orientation(self._data, directories)
        self.notices.append(
            f"is camera raw: its preview of {preview.width} x {preview.height} pixels was looked at"
        )  # fmt: skip
        if preview.directory is not None:
            return partial(Picture._decode_directory, directory=preview.directory, orientation=orientation)
        return lambda picture: picture._decode(picture._data[preview.start : preview.end], "JPEG", orientation)

    # ---- decoding ------------------------------------------------------------------------------------

    def _decode(self, data: bytes, kind: str, orientation: int | None = None) -> Frame:
        """Decode the bytes of one picture; `orientation` is EXIF's, for a picture that has none of its own."""
        if kind == "JPEG XL":
            return self._decode_jpeg_xl(data)
        if kind == "ICO":
            picture = icon.largest_picture(data, self._max_pixels)
            if isinstance(picture, bytes):
                return self._decode(picture, "PNG")
            return self._to_frame(picture, data, kind)
        if kind == "PNG":
            png.check_checksums(data)
        if kind == "JPEG":
            data, had_end = jpeg.with_end(data, self._max_pixels)
            if not had_end:
                self.faults.append(jpeg.NO_END_MARK)
        try:
            return self._decode_with_pillow(data, kind, orientation)
        except ValueError:
            if kind != "PNG":
                raise
            # Pillow refuses texts and color profiles that unpack to megabytes; the pixels are decoded without them.
            return self._decode_with_pillow(png.without_metadata(data), kind, orientation)

    def _decode_with_pillow(self, data: bytes, kind: str, orientation: int | None) -> Frame:
        formats: tuple[str, ...] = FORMATS
        if kind == "HEIC":
            _load_plugin(kind).register_heif_opener()
            formats = ("HEIF",)
        if kind == "AVIF" and not features.check("avif"):
            raise InputError(
                "is AVIF, and this Pillow was built without it",
                registry.install_command("pillow", "-U"),
                kind=ErrorKind.UNSUPPORTED,
            )
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if orientation is not None and ORIENTATION in image.getexif():
                orientation = None
            self._count_pictures(image)
            return self._to_frame(image, data, kind, orientation)

    def _decode_tiff_page(self, number: int) -> Frame:
        self._tiff = self._tiff or Image.open(io.BytesIO(self._data), formats=("TIFF",))
        self._tiff.seek(number)
        return self._to_frame(self._tiff, self._data, "TIFF")

    def _decode_directory(self, directory: Directory, orientation: int | None = None) -> Frame:
        """Decode a picture of a TIFF that Pillow cannot seek."""
        return self._to_frame(tiff.opened_at(self._data, directory), self._data, "TIFF", orientation)

    def _decode_jpeg_xl(self, data: bytes) -> Frame:
        decoded = jpeg_xl.decode(data, self._max_pixels, _load_plugin("JPEG XL").Decoder)
        if isinstance(decoded, bytes):
            return self._decode(decoded, "JPEG")
        return to_frame(decoded.image, self._max_pixels, ColorCoding(decoded.profile), self.faults)

    def _to_frame(self, image: Image.Image, data: bytes, kind: str, orientation: int | None = None) -> Frame:
        correct = None
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            correct = partial(tiff.correct_deep_gray, tags=image.tag_v2)
        return to_frame(image, self._max_pixels, _coding(image, data, kind), self.faults, orientation, correct)

    def _count_pictures(self, image: Image.Image) -> None:
        """Note that a file has pictures beside the one that is decoded, such as the other view of a stereo camera."""
        number, count = 1, 1
        if image.format == "HEIF":
            number, count = image.tell() + 1, getattr(image, "n_frames", 1)
        elif image.format == "MPO":
            entries = getattr(image, "mpinfo", {}).get(MPO_ENTRIES, ())
            types = [str(entry["Attribute"]["MPType"]) for entry in entries]
            count = sum(name.startswith(OWN_PICTURES) for name in types)
        if count > 1:
            self.faults.append(f"picture {number} of {count} in the file was looked at")


def _coding(image: Image.Image, data: bytes, kind: str) -> ColorCoding:
    """What a picture says of its colors, read by Pillow or from the bytes of the file."""
    profile = image.info.get("icc_profile") or b""
    if kind == "PNG":
        is_plain = profile or "srgb" in image.info
        return ColorCoding(profile, png.coding(data), None if is_plain else image.info.get("gamma"))
    if kind == "AVIF":
        return ColorCoding(profile, bmff.coding(data))
    if nclx := image.info.get("nclx_profile"):  # of HEIC
        return ColorCoding(profile, (nclx["color_primaries"], nclx["transfer_characteristics"]))
    return ColorCoding(profile, is_adobe_rgb=not profile and _is_adobe_rgb(image))


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether EXIF says so, as cameras do that are set to Adobe RGB: interoperability index R03 of DCF 2.0."""
    if "exif" not in image.info:
        return False
    try:
        return str(image.getexif().get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)) == "R03"
    except Exception:  # damaged EXIF does not damage the picture
        return False


def _not_readable(kind: str, data: bytes) -> InputError:
    if not kind and is_video(data[:HEAD_BYTES]):
        return InputError("is a video", "smolcli video-summarize says what happens in it", kind=ErrorKind.UNSUPPORTED)
    if is_pdf(data):
        return InputError("is a PDF", "smolcli ocr reads it", kind=ErrorKind.UNSUPPORTED)
    if not kind:
        return InputError("is not a picture that can be read", "convert it to PNG or JPEG", kind=ErrorKind.UNSUPPORTED)
    message = f"begins as {kind} and is cut short, damaged or of a rare sort"
    return InputError(message, "get a whole copy or convert it to PNG or JPEG", kind=ErrorKind.UNSUPPORTED)


def _load_plugin(kind: str) -> ModuleType:
    module, package = PLUGINS[kind]
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"is {kind}, and the library {package} is not installed",
            registry.install_command("smolcli[formats]"),
            kind=ErrorKind.UNSUPPORTED,
        ) from None
