"""inputs/picture_stream.py: several pictures in one pipe, as Pillow and PyAV write them."""

from __future__ import annotations

import io
import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smolcli.inputs.collect import InputCollector
from smolcli.inputs.load import SEVERAL_IN_A_ROW, load, open_pictures
from smolcli.inputs.picture_stream import has_several, split_pictures
from smolcli.options import Input
from smolcli.types import Item
from tests.helpers import png


def noise(mode: str = "RGB", size: tuple[int, int] = (90, 70)) -> Image.Image:
    """Pixels of any value, so that compressed data has every byte in it."""
    return Image.effect_noise(size, 90).convert(mode)


def encoded(format: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise(mode).save(buffer, format, **options)
    return buffer.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG with two whole JPEGs in its EXIF segment, one after the other."""
    inner = encoded("JPEG", quality=10) * 2
    jpeg = encoded("JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(inner) + 8) + b"Exif\0\0" + inner + jpeg[2:]


PICTURES = {
    "png": png((3, 2)), "large png": encoded("PNG"), "jpeg": encoded("JPEG"), "thumbnail": with_thumbnail(),
    "progressive": encoded("JPEG", progressive=True), "restarts": encoded("JPEG", restart_marker_rows=1),
    "gray": encoded("JPEG", "L"), "bmp": encoded("BMP"), "webp": encoded("WEBP"), "ppm": encoded("PPM"),
    "pgm": encoded("PPM", "L"), "pbm": encoded("PPM", "1"), "deep pgm": encoded("PPM", "I"),
    "comment": b"P6 # one\n# two\n2 1\n# three\n255\n" + b"3 4#\n\n", "digits": b"P4\n8 1\n" + b"9",
}  # fmt: skip


def split(data: bytes, limit: int = 10**9) -> list[bytes]:
    return [picture for picture, _ in split_pictures(io.BytesIO(data), limit)]


class Trickling(io.RawIOBase):
    """A pipe that has a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._rest, self._size = data, size

    def read(self, size: int = -1) -> bytes:
        first, self._rest = self._rest[: self._size], self._rest[self._size :]
        return first


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_one_kind_are_told_apart(name: str) -> None:
    assert split(PICTURES[name] * 3) == [PICTURES[name]] * 3


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_pictures_of_all_kinds_are_told_apart_however_they_arrive(size: int) -> None:
    """A byte at a time is a marker cut in two at every place."""
    parts = [data for data in PICTURES.values() if size > 1 or len(data) < 4000]
    pictures = split_pictures(Trickling(b"".join(parts), size), 10**9)  # type: ignore[arg-type]
    assert list(pictures) == [(part, number == len(parts)) for number, part in enumerate(parts, 1)]


@pytest.mark.parametrize("name", PICTURES)
def test_several_pictures_in_a_file_are_told(name: str, tmp_path: Path) -> None:
    path = tmp_path / "row"
    for data, expected in ((PICTURES[name], ()), (PICTURES[name] + png(), (SEVERAL_IN_A_ROW,))):
        path.write_bytes(data)
        item = Item.of(str(path))
        assert open_pictures(item, load(item)[0], Input()).media.notices == expected


@pytest.mark.parametrize("rest", [b"", b"\n", b"words", b"\0\0\0\x18ftypmp42", bytes(5000), b"\xff\xd9"])
def test_one_picture_stays_whole_with_what_follows_it(rest: bytes) -> None:
    for data in PICTURES.values():
        assert split(data + rest) == [data + rest] and not has_several(data + rest)


def test_what_follows_a_picture_in_a_pipe_and_is_none_is_told() -> None:
    """A film after a PNG, and a PNG after something else, are not passed over in silence."""
    for rest, notices in (
        (
            b"\0\0\0\x18ftypmp42" + bytes(40),
            ("52 bytes that follow the picture are no picture, and were not looked at",),
        ),
        (
            b"junk" + png(),
            (f"{4 + len(png()):,} bytes that follow the picture are no picture, and were not looked at",),
        ),
        (b"\n\0\0", ()),  # padding
    ):
        item = Item.of("-", png() + rest)
        assert open_pictures(item, load(item)[0], Input()).media.notices == notices
    photo = Item.of("-", encoded("JPEG") + b"\0\0\0\x18ftypmp42")  # as phones write it
    assert open_pictures(photo, load(photo)[0], Input()).media.notices == ()


def test_pictures_that_belong_together_stay_together() -> None:
    """An MPO file is several JPEGs in a row, as cameras write for depth and stereo."""
    buffer = io.BytesIO()
    noise().save(buffer, "MPO", save_all=True, append_images=[noise()])
    assert split(buffer.getvalue()) == [buffer.getvalue()]


@pytest.mark.parametrize("data", [b"", b"P", b"words", encoded("TIFF"), encoded("GIF", "P"), png()[:-9], b"P5\n1"])
def test_what_has_no_known_end_stays_whole(data: bytes) -> None:
    assert split(data) == [data]
    assert split(png() + data)[0] == (png() if data[:3] in (b"II*", b"GIF", b"\x89PN", b"P5\n") else png() + data)


def test_a_picture_that_is_cut_short_ends_the_row() -> None:
    assert split(png() + PICTURES["jpeg"][:-2]) == [png(), PICTURES["jpeg"][:-2]]


@pytest.mark.parametrize(
    "data", [PICTURES["jpeg"][:-2] + b"\xff" * 2**18, b"P5 " + b"1" * 5000 + b" 1 255\n"], ids=["fill bytes", "digits"]
)
def test_a_stream_made_to_take_long_stays_whole(data: bytes) -> None:
    """Where the time is quadratic, pytest ends it after some minutes."""
    assert split(data) == [data]


def test_no_picture_is_larger_than_the_limit() -> None:
    data = PICTURES["large png"]
    assert split(data * 2, limit=len(data)) == [data] * 2
    assert split(png() + data * 2, limit=1000) == [png(), data[:1001]]
    assert split(bytes(5000), limit=1000) == [bytes(1001)]


def test_each_picture_is_given_when_the_next_begins() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as pipe:
        items = InputCollector(Input(("-",)), stdin=pipe).items()
        os.write(write_end, png() + png()[:20])
        assert next(items).path == "-#1"
        os.write(write_end, png()[20:] + png((5, 5)))
        assert next(items).path == "-#2"
        os.close(write_end)
        [last] = items
    assert (last.path, last.sources[0].data) == ("-#3", png((5, 5)))


def test_a_video_and_a_single_picture_keep_their_name() -> None:
    for reads, data in (("video", png() * 2), ("image", png())):
        [item] = InputCollector(Input(("-",)), stdin=io.BytesIO(data), reads=reads).items()
        assert (item.path, item.sources[0].data, item.in_row) == ("-", data, False)


@pytest.mark.parametrize("codec", ["png", "mjpeg", "bmp", "ppm", "pgm"])
def test_what_ffmpeg_writes_to_a_pipe(codec: str) -> None:
    """The encoders of `ffmpeg -f image2pipe`, whose output is one packet after the other."""
    av = pytest.importorskip("av")
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.time_base = 64, 48, Fraction(1, 25)
    packets: list[bytes] = []
    context.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p", "bmp": "bgr24", "ppm": "rgb24", "pgm": "gray"}[codec]
    for _ in range(3):
        frame = av.VideoFrame.from_image(noise(size=(64, 48))).reformat(format=context.pix_fmt)
        packets += [bytes(packet) for packet in context.encode(frame)]
    assert split(b"".join(packets)) == packets and len(packets) == 3
