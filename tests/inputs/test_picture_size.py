"""inputs/picture_size.py: sizes from headers are those of the decoded pictures."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageFile

from smolcli.errors import InputError
from smolcli.inputs.image import FORMATS, read
from smolcli.inputs.picture_size import read_sizes
from smolcli.options import Input


def encoded(format: str, orientation: int = 1, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = Image.new("L" if format in ("SGI", "PCX") else "RGB", (40, 30), "white")
    if format in ("JPEG", "PNG", "WEBP", "AVIF"):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    picture.save(buffer, "BMP" if format == "DIB" else format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_the_size_that_decoding_gives(format: str) -> None:
    data = encoded(format)
    assert read_sizes(data, Input()) == tuple((frame.width, frame.height) for frame in read(data, Input()))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_exif_turns_the_size(format: str, orientation: int) -> None:
    data = encoded(format, orientation)
    assert read_sizes(data, Input()) == tuple((frame.width, frame.height) for frame in read(data, Input()))


def pages(*sizes: tuple[int, int]) -> bytes:
    """Make a TIFF of pages of these sizes, all turned by a quarter."""
    first, *rest = (Image.new("RGB", size) for size in sizes)
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=rest, tiffinfo={ExifTags.Base.Orientation: 6})
    return buffer.getvalue()


def test_pages_count_only_where_all_are_read() -> None:
    data = pages((40, 30), (20, 10))
    assert read_sizes(data, Input()) == ((30, 40),)
    assert read_sizes(data, Input(), every_page=True)[0] == (30, 40)
    decoded = tuple((frame.width, frame.height) for frame in read(data, Input()))
    assert read_sizes(data, Input(), every_page=True) == decoded


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM", "TIFF"])
def test_no_pixel_is_decoded(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    data = encoded(format)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    assert read_sizes(data, Input()) == ((40, 30),)


@pytest.mark.parametrize(
    ("data", "limit", "kind"), [(b"words", 10**6, "unsupported"), (encoded("PNG"), 1199, "too-large"),
                                (encoded("PNG")[:20], 10**6, "truncated")],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error(data: bytes, limit: int, kind: str) -> None:
    with pytest.raises(InputError) as caught:
        read_sizes(data, Input(max_pixels=limit))
    assert caught.value.kind == kind
