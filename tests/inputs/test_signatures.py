"""inputs/signatures.py: kinds of files by their first bytes, against files that Pillow and FFmpeg write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from smolcli.inputs.image import FORMATS
from smolcli.inputs.signatures import begins_as, is_pdf
from tests.inputs.pictures import failure

NOT_KNOWN = {"TGA"}  # it has no signature
MODES = {"PPM": "RGB", "SGI": "L", "PCX": "L", "GIF": "P", "ICO": "RGBA", "MPO": "RGB"}


@pytest.mark.parametrize("format", sorted({*FORMATS, "ICO", "MPO"} - NOT_KNOWN))
def test_a_picture_of_each_format_is_known_without_its_suffix(tmp_path: Path, format: str) -> None:
    Image.new(MODES.get(format, "RGB"), (40, 30)).save(tmp_path / "file", "BMP" if format == "DIB" else format)
    assert begins_as(str(tmp_path / "file"), "image")
    assert begins_as(str(tmp_path / "file"), "video") == (format == "GIF")


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "F"])
def test_netpbm_pictures_of_every_kind(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "file", "PPM")
    assert begins_as(str(tmp_path / "file"), "image")


@pytest.mark.parametrize("muxer", ["mp4", "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "asf", "flv", "ogg",
                                   "yuv4mpegpipe", "mxf"])  # fmt: skip
def test_a_video_of_each_container_is_known_without_its_suffix(tmp_path: Path, muxer: str) -> None:
    av = pytest.importorskip("av")
    codec = {"webm": "libvpx", "ogg": "libtheora", "yuv4mpegpipe": "wrapped_avframe", "flv": "flv"}.get(
        muxer, "mpeg2video" if muxer in ("mpegts", "mpeg", "mxf") else "mpeg4"
    )
    if codec not in av.codecs_available or muxer not in av.formats_available:
        pytest.skip(f"{muxer} cannot be written here")
    with av.open(str(tmp_path / "file"), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48))).reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert begins_as(str(tmp_path / "file"), "video")
    assert not begins_as(str(tmp_path / "file"), "image")
    assert failure((tmp_path / "file").read_bytes())[1].startswith("is a video; smolcli video-summarize")


@pytest.mark.parametrize(
    "data",
    [b"", b"P", b"words\n", b"Pictures of 2024\n", b"BMW\n1 2 3 4 5 6", b"%PDF-1.7\n", b"PK\3\4", b"\x7fELF",
     b"ID3\4", b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom", b"OggS" + bytes(24) + b"\1vorbis",
     b"\n\n\nwords", b"{\"a\": 1}", b"#!/bin/sh\n"],
)  # fmt: skip
def test_other_files_are_neither(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert not begins_as(str(tmp_path / "file"), "image")
    assert not begins_as(str(tmp_path / "file"), "video")


def test_what_is_no_plain_file_or_cannot_be_read_is_neither(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing", "/dev/zero", "a\0b"):
        assert not begins_as(str(path), "image")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"%PDF-1.4\n", True),
        (b"junk of a mail server\r\n\r\n" + b"%PDF-2.0\n", True),
        (bytes(1019) + b"%PDF-", True),
        (bytes(1020) + b"%PDF-", False),
        (b"%PDF", False),
        (b"%!PS-Adobe-3.0\n", False),
        (b"\xff\xd8\xff\xe1 a photo of %PDF-1.4", False),
        (b"", False),
    ],
)
def test_pdfs_are_known_by_their_first_kilobyte(data: bytes, expected: bool, tmp_path: Path) -> None:
    assert is_pdf(data + bytes(5000)) == expected
    path = tmp_path / "a.unknown"
    path.write_bytes(data)
    assert begins_as(str(path), "document") == (len(data) < 1000 and (expected or data[:3] == b"\xff\xd8\xff"))
    assert not begins_as(str(path), "video")
