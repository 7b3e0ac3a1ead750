"""inputs/formats/tiff.py: the pages of a TIFF, each once, and nothing that is no page."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from smolcli.inputs.formats.tiff import Directories
from smolcli.inputs.image import Picture
from tests.inputs.pictures import OPTIONS, encoded, failure, near, notices, pixels

COLORS = ("red", "lime", "blue")


def page(color: str, size: tuple[int, int] = (16, 8), **tags: int) -> Image.Image:
    """Make a page; `tags` are named as in the specification."""
    image = Image.new("RGB", size, color)
    image.encoderinfo = {"tiffinfo": _tags(**tags)}
    return image


def _tags(**tags: int) -> TiffImagePlugin.ImageFileDirectory_v2:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        directory[{"subfile": 254, "old_subfile": 255, "orientation": 274}[name]] = value
    return directory


def tiff(*pages: Image.Image, **more: object) -> bytes:
    first, *rest = pages
    return encoded(
        first, "TIFF", save_all=True, append_images=rest, **{"tiffinfo": first.encoderinfo["tiffinfo"], **more}
    )


def colors(data: bytes) -> list[list[int]]:
    picture = Picture(data, OPTIONS)
    return [list(picture.page(number).rgb[:3]) for number in range(picture.page_count)]


@pytest.mark.parametrize("more", [{}, {"compression": "tiff_lzw"}, {"big_tiff": True}], ids=["plain", "lzw", "big"])
def test_pages_come_in_order_and_in_any_order(more: dict[str, object]) -> None:
    data = tiff(*map(page, COLORS), **more)
    assert colors(data) == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    picture = Picture(data, OPTIONS)
    assert [frame.rgb[:3] for _, frame in picture.pictures([2, 0, 1])] == [b"\0\0\xff", b"\xff\0\0", b"\0\xff\0"]


def test_each_page_has_its_own_size_and_orientation() -> None:
    picture = Picture(tiff(page("red"), page("blue", (4, 2), orientation=6)), OPTIONS)
    assert [(frame.width, frame.height) for _, frame in picture.pictures([0, 1])] == [(16, 8), (2, 4)]


@pytest.mark.parametrize("tags", [{"subfile": 1}, {"subfile": 4}, {"subfile": 5}, {"old_subfile": 2}])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_reduced_copies_and_masks_are_no_pages(tags: dict[str, int], place: int) -> None:
    pages = [page("red"), page("blue")]
    pages.insert(place, page("white", (4, 2), **tags))
    assert colors(tiff(*pages)) == [[255, 0, 0], [0, 0, 255]]
    assert notices(tiff(*pages)) == []


def test_a_page_of_a_document_is_a_page() -> None:
    assert len(colors(tiff(page("red", subfile=2), page("blue", subfile=2)))) == 2


def test_reduced_copies_alone_are_told() -> None:
    data = tiff(page("red", subfile=1))
    assert near(pixels(data)[0, 0], [255, 0, 0]) and notices(data) == ["has only a reduced copy of a picture in it"]


def test_a_whole_picture_in_a_sub_directory_comes_before_its_reduced_copy() -> None:
    data = sub_directory_tiff((8, 4), (32, 16))
    shown = pixels(data)
    assert shown.shape == (16, 32, 3) and (shown == 200).all()


def sub_directory_tiff(small: tuple[int, int], large: tuple[int, int]) -> bytes:
    """Make a gray TIFF whose first directory is a reduced copy, with the picture in a sub-directory."""

    def directory(size: tuple[int, int], kind: int, data_at: int, children: int) -> bytes:
        entries = {254: kind, 256: size[0], 257: size[1], 258: 8, 259: 1, 262: 1, 273: data_at, 277: 1, 278: size[1]}
        entries[279] = size[0] * size[1]
        if children:
            entries[330] = children
        packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
        return struct.pack("<H", len(entries)) + packed + bytes(4)

    first = directory(small, 1, 400, 200)
    second = directory(large, 0, 400 + small[0] * small[1], 0)
    head = (b"II*\0" + struct.pack("<I", 8) + first).ljust(200, b"\0")
    return (head + second).ljust(400, b"\0") + b"\x10" * (small[0] * small[1]) + b"\xc8" * (large[0] * large[1])


def test_a_file_that_ends_before_its_last_page_says_so() -> None:
    data = tiff(*map(page, COLORS))
    directories = Directories(data)
    cut = data[: directories.main[2].offset]
    assert colors(cut) == [[255, 0, 0], [0, 255, 0]]
    assert notices(cut) == ["is cut short: 2 pages can be read"]


def test_directories_that_lead_back_end() -> None:
    data = bytearray(tiff(*map(page, COLORS)))
    last = Directories(bytes(data)).main[2].offset
    count = struct.unpack_from("<H", data, last)[0]
    struct.pack_into("<I", data, last + 2 + 12 * count, Directories(bytes(data)).main[0].offset)
    assert len(colors(bytes(data))) == 3


def test_sub_directories_that_lead_back_end() -> None:
    data = bytearray(sub_directory_tiff((8, 4), (32, 16)))
    struct.pack_into("<HHII", data, 200 + 2, 330, 4, 1, 200)
    directories = Directories(bytes(data))
    assert (len(directories.main), len(directories.sub)) == (1, 1)


def test_a_file_of_overlapping_directories_ends() -> None:
    """Each of a hundred thousand directories names a thousand others, in a file of a few hundred KB."""
    entry = struct.pack("<HHII", 330, 4, 1000, 8)
    data = b"II*\0" + struct.pack("<I", 8) + entry * 20_000
    assert len(Directories(data).sub) < 100_000


def test_a_file_of_many_directories_that_share_their_values_takes_little_memory() -> None:
    """Each of 4,000 directories, of 18 bytes each, names the same 1,024 others."""
    count = 4000
    values_at = 8 + 18 * count
    data = b"II*\0" + struct.pack("<I", 8)
    for number in range(1, count + 1):
        data += struct.pack("<HHHIII", 1, 330, 4, 1024, values_at, 8 + 18 * number if number < count else 0)
    directories = Directories(data + struct.pack("<1024I", *range(2**31, 2**31 + 1024)))
    assert directories.is_cut and sum(map(len, (d.tags.get(330, ()) for d in directories.main))) <= 2**21


def test_empty_directories_are_counted() -> None:
    data = b"II*\0" + struct.pack("<I", 8)
    data += b"".join(struct.pack("<HI", 0, 8 + 6 * number) for number in range(1, 1001)) + bytes(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smolcli.inputs.formats.tiff.MAX_ENTRIES", 100)
        directories = Directories(data)
    assert directories.is_cut and len(directories.main) == 100


def test_a_damaged_page_is_an_error_of_its_own() -> None:
    data = bytearray(tiff(*map(page, COLORS), compression="tiff_adobe_deflate"))
    at = Directories(bytes(data)).main[1].value(273)
    data[at : at + 8] = b"\xff" * 8
    picture = Picture(bytes(data), OPTIONS)
    assert picture.page(0).rgb[:3] == b"\xff\0\0" and picture.page(2).rgb[:3] == b"\0\0\xff"
    with pytest.raises(Exception, match="damaged or cut short"):
        picture.page(1)


def test_rubbish_is_an_error() -> None:
    assert failure(b"II*\0\xff\xff\xff\xff")[0] in ("unsupported", "truncated")
    assert failure(b"MM\0+" + bytes(30))[0] in ("unsupported", "truncated")


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_frames_of_an_animation_are_no_pages(format: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 100, 200)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames") == 3  # noqa: B009 - Pillow does not declare it
    assert Picture(data, OPTIONS).page_count == 1
