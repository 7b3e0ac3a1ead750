"""inputs/decoders: which of several video streams is the video; and uncompressed video, which looks like a text."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from smolcli.inputs.decoders.streams import Stream, choose_stream
from smolcli.inputs.decoders.y4m import is_cut_y4m
from smolcli.inputs.video import Video
from smolcli.options import Sampling
from tests.inputs.clips import H264, MAX_PIXELS, Clip, draw_number, read_numbers, run

SMALL = Stream(0, 160, 96, 60, 2.4, is_default=False)


@pytest.mark.parametrize(
    "better",
    [
        Stream(1, 80, 48, 60, 2.4, is_default=True),
        Stream(1, 320, 192, 60, 2.4, is_default=False),
        Stream(1, 80, 48, 200, 8.0, is_default=False),
    ],
    ids=["default", "larger", "longer"],
)
def test_chosen_is_the_long_default_or_large_one(better: Stream) -> None:
    assert choose_stream([SMALL, better]) == choose_stream([better, SMALL]) == better


def test_thumbnails_and_unknown_codecs_are_not_chosen() -> None:
    still = Stream(0, 1920, 1080, 1, 60.0, is_default=True)
    unknown = Stream(2, 1920, 1080, 60, 2.4, is_default=True, is_decodable=False)
    assert choose_stream([still, SMALL, unknown]) == SMALL
    assert choose_stream([still]) == still


def test_thumbnail_in_front_is_passed_by_and_a_notice_says_what_is_looked_at(
    clip: Clip, ffmpeg: None, tmp_path: Path
) -> None:
    Image.fromarray(draw_number(99, (80, 48))).save(tmp_path / "a.jpg")
    run("-i", clip("h264"), "-vf", "scale=320:192", *H264, tmp_path / "large.mp4")
    files = ("-i", tmp_path / "a.jpg", "-i", clip("h264"), "-i", tmp_path / "large.mp4")
    maps = ("-map", "0", "-map", "1", "-map", "2", "-c", "copy")
    defaults = ("-disposition:v:0", "default", "-disposition:v:1", "default", "-disposition:v:2", "0")
    run(*files, *maps, *defaults, tmp_path / "a.mkv")
    for decoder in ("av", "ffmpeg"):
        opened = Video(str(tmp_path / "a.mkv"), Sampling(frames=2, decoder=decoder), MAX_PIXELS)
        assert opened.size == (160, 96), decoder
        assert [number for number, _ in read_numbers(opened)] == [0, 59], decoder
        notice = "has 3 videos in it; the model sees that of 160 x 96 pixels (stream 1 of the file)"
        assert opened.notices == (notice,), decoder


def test_cover_in_front_is_no_video(clip: Clip, ffmpeg: None, tmp_path: Path) -> None:
    Image.fromarray(draw_number(99)).save(tmp_path / "a.jpg")
    cover = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic")
    run("-i", tmp_path / "a.jpg", "-i", clip("h264"), *cover, tmp_path / "a.mp4")
    for decoder in ("av", "ffmpeg"):
        opened = Video(str(tmp_path / "a.mp4"), Sampling(frames=2, decoder=decoder), MAX_PIXELS)
        assert [number for number, _ in read_numbers(opened)] == [0, 59], decoder
        assert opened.notices == (), decoder


@pytest.mark.parametrize("decoder", ["av", "ffmpeg", "decord"])
def test_yuv4mpeg_without_a_zero_byte_is_a_video(decoder: str, clip: Clip, ffmpeg: None, tmp_path: Path) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    run("-i", clip("h264"), "-pix_fmt", "yuv420p", tmp_path / "a.y4m")
    assert b"\0" not in (tmp_path / "a.y4m").read_bytes()[:256]
    opened = Video(str(tmp_path / "a.y4m"), Sampling(frames=2, decoder=decoder), MAX_PIXELS)
    assert read_numbers(opened) == [(0, 0.0), (59, pytest.approx(2.36))]
    assert opened.duration == pytest.approx(2.4)


@pytest.mark.parametrize("decoder", ["av", "ffmpeg"])
def test_yuv4mpeg_that_is_cut_short_says_so(decoder: str, clip: Clip, ffmpeg: None, tmp_path: Path) -> None:
    path = tmp_path / "a.y4m"
    run("-i", clip("h264"), "-pix_fmt", "yuv420p", path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    opened = Video(str(path), Sampling(frames=2, decoder=decoder), MAX_PIXELS)
    assert read_numbers(opened)[-1][0] == 58
    assert opened.notices == ("is cut short: 59 frames can be read",)
    assert Video(whole, Sampling(frames=2, decoder=decoder), MAX_PIXELS).notices == ()


@pytest.mark.parametrize("format", ["yuv420p", "yuv411p", "yuv422p", "yuva444p", "gray16le", "yuv422p9le"])
def test_the_end_of_yuv4mpeg_is_known_in_each_format(format: str, tmp_path: Path) -> None:
    source = ("-f", "lavfi", "-i", "testsrc=d=1:s=65x49:r=2", "-strict", "-1")
    run(*source, "-pix_fmt", format, tmp_path / "a.y4m")
    whole = (tmp_path / "a.y4m").read_bytes()
    assert not is_cut_y4m(whole) and all(is_cut_y4m(whole[:-missing]) for missing in (1, 100, len(whole) // 2 - 30))
