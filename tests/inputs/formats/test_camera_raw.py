"""inputs/formats/camera_raw.py: the largest preview of a raw file is looked at, and never a thumbnail in silence."""

import struct

import numpy as np
import pytest
from PIL import Image

from smolcli.inputs.image import Picture
from tests.inputs.pictures import OPTIONS, encoded, failure, near, notices, pixels, rotated_exif

NO_PREVIEW = "develop it to JPEG or TIFF with darktable-cli or the like"
CFA, RGB, SENSOR = 32803, 2, {254: 0, 256: 6000, 257: 4000, 258: 14, 259: 1, 262: 32803}
Tags = dict[int, int | bytes]


def jpeg(color: str, size: tuple[int, int], **more: object) -> bytes:
    return encoded(Image.new("RGB", size, color), "JPEG", **more)


def preview(data: bytes) -> Tags:
    """Make the tags of a directory whose one strip is a JPEG."""
    return {254: 1, 256: 9, 257: 9, 258: 8, 259: 7, 262: 6, 273: data}


def raw(main: list[Tags], sub: list[Tags], order: str = "<", magic: bytes = b"*\0", more: bytes = b"") -> bytes:
    """Make a TIFF of these directories; bytes are stored elsewhere, their length under STRIP_BYTES or JPEG_BYTES.

    `more` stands after the header.
    """
    start = 8 + len(more)
    blob, at = b"", start
    places, directories = [], [dict(tags) for tags in (*main, *sub)]
    if sub:
        directories[0][330] = 0
    for tags in directories:
        for tag, length in ((273, 279), (513, 514)):
            if isinstance(data := tags.get(tag), bytes):
                tags[tag], tags[length] = 5000 + len(blob), len(data)
                blob += data
    for tags in directories:
        places.append(at)
        at += 2 + 12 * len(tags) + 4
    if sub:
        directories[0][330] = places[len(main)]
        assert len(sub) == 1
    packed = b""
    for number, tags in enumerate(directories):
        following = places[number + 1] if number + 1 < len(main) else 0
        entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        packed += struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", following)
    head = (b"II" + magic if order == "<" else b"MM" + magic[::-1]) + struct.pack(f"{order}I", start)
    return (head + more + packed).ljust(5000, b"\0") + blob


THUMBNAIL: Tags = {254: 1, 256: 16, 257: 8, 258: 8, 259: 1, 262: RGB, 277: 3, 278: 8, 273: b"\x80" * 384}
SMALL, LARGE = jpeg("blue", (160, 120)), jpeg("lime", (640, 320))
LOSSLESS = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 17, 8, 4000, 6000, 3) + bytes(9)  # of the sensor
FILES = {
    "DNG": raw([{**THUMBNAIL, 50706: 1}], [preview(LARGE)]),
    "big-endian NEF": raw([{**THUMBNAIL}, dict(SENSOR)], [preview(LARGE)], ">"),
    "ARW": raw([{254: 1, 259: 6, 513: LARGE}, {254: 1, 259: 6, 513: SMALL}], [dict(SENSOR)]),
    "CR2": raw([{256: 9, 257: 9, 259: 6, 273: LARGE}, {259: 6, 273: LOSSLESS}], [], more=b"CR\x02\0\0\0\0\0"),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(100) + LARGE + bytes(1000),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(50) + SMALL + bytes(50) + LARGE + bytes(1000),
    "RW2": raw([{46: 1}], [], magic=b"U\0") + SMALL + LARGE + bytes(1000),
    "ORF": raw([{256: 9}], [], magic=b"RO") + LARGE + SMALL,
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_the_largest_preview_is_looked_at_with_a_notice(data: bytes) -> None:
    shown = pixels(data)
    assert shown.shape == (320, 640, 3) and near(shown[0, 0], [0, 255, 0], 4)
    assert notices(data) == ["is camera raw: its preview of 640 x 320 pixels was looked at"]
    assert Picture(data, OPTIONS).page_count == 1


def test_a_preview_that_is_no_jpeg() -> None:
    rows = np.full((300, 500, 3), (9, 99, 199), np.uint8).tobytes()
    large: Tags = {254: 1, 256: 500, 257: 300, 258: 8, 259: 1, 262: RGB, 277: 3, 278: 300, 273: rows}
    shown = pixels(raw([{**THUMBNAIL, 50706: 1}], [large]))
    assert shown.shape == (300, 500, 3) and shown[0, 0].tolist() == [9, 99, 199]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw([{**SENSOR, 50706: 1}], []), "with no preview in it"),
        (raw([{**THUMBNAIL, 50706: 1}], [dict(SENSOR)]), "with a preview of only 16 x 8 pixels in it"),
        (raw([{254: 1, 259: 6, 513: SMALL}], [dict(SENSOR)]), "with a preview of only 160 x 120 pixels in it"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(5000), "with no preview in it"),
        (b"FUJIFILMCCD-RAW 0201" + b"\xff\xd8\xff" * 30_000, "with no preview in it"),
        (b"FUJIFILMCCD-RAW 0201" + LOSSLESS + bytes(500), "with no preview in it"),
    ],
    ids=["sensor alone", "thumbnail", "JPEG thumbnail", "nothing", "signatures", "sensor's JPEG"],
)
def test_a_thumbnail_is_never_looked_at(data: bytes, says: str) -> None:
    assert failure(data) == ("unsupported", f"is camera raw {says}; {NO_PREVIEW}")


def test_the_orientation_of_the_raw_file_applies_to_a_preview_without_its_own() -> None:
    assert pixels(raw([{**THUMBNAIL, 50706: 1, 274: 6}], [preview(LARGE)])).shape == (640, 320, 3)
    rotated = jpeg("lime", (640, 320), exif=rotated_exif())
    assert pixels(raw([{**THUMBNAIL, 50706: 1, 274: 6}], [preview(rotated)])).shape == (640, 320, 3)
    assert pixels(raw([{**THUMBNAIL, 50706: 1, 274: 1}], [preview(rotated)])).shape == (640, 320, 3)
    assert pixels(raw([{274: 8}], [], magic=b"U\0") + LARGE).shape == (640, 320, 3)
    oriented = raw([{274: 3}], [])
    canon = FILES["CR3"][:24] + b"\0\0\0\x40CMT1" + oriented[:32] + bytes(20) + LARGE
    assert pixels(canon).shape == (320, 640, 3)


def test_a_raw_file_that_is_cut_short_is_an_error() -> None:
    whole = FILES["DNG"]
    for part in range(1, 12):
        assert failure(whole[: len(whole) * part // 12])[0] in ("unsupported", "truncated")


def test_directories_of_a_raw_file_that_lead_back_end() -> None:
    data = bytearray(FILES["DNG"])
    struct.pack_into("<I", data, 8 + 2 + 12 * 12, 8)
    assert failure(bytes(data[:4000]))[0] in ("unsupported", "truncated")
