"""inputs/decoders/ffmpeg_log.py: what ffmpeg 4.4, 5.1 and 9.0 print of a file."""

from __future__ import annotations

import pytest

from smolcli.inputs.decoders.ffmpeg_log import VideoLine, parse_copied, parse_header
from smolcli.inputs.decoders.video_color import VideoColor

PHONE = b"""\
Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'a: Video.mp4':
  Metadata:
    title           : Stream #0:9: Video: h264, yuv420p, 1x1
  Duration: 01:02:03.50, start: -0.023220, bitrate: 17 kb/s
    Stream #0:0(und): Audio: aac (LC) (mp4a / 0x6134706D), 44100 Hz, mono, fltp, 69 kb/s (default)
    Stream #0:1(eng): Video: hevc (Main 10) (hev1 / 0x31766568), yuv420p10le(tv, bt2020nc/bt2020/arib-std-b67, progressive), 3840x2160, 17 kb/s, 25 fps, 25 tbr, 12800 tbn, 25 tbc (default)
    Stream #0:2: Video: mjpeg (Baseline), yuvj420p(pc, bt470bg/unknown/unknown), 160x120 [SAR 72:72 DAR 4:3], 90k tbr, 90k tbn (attached pic)
""".splitlines()  # noqa: E501
WEB = b"""\
Input #0, matroska,webm, from 'a.webm':
  Duration: N/A, start: 0.000000, bitrate: N/A
  Stream #0:0[0x1](und): Video: vp9 (Profile 0), yuv420p(tv, bt709, progressive), 1280x720, SAR 1:1 DAR 16:9, 10 fps, 1k tbn
    Metadata:
      alpha_mode      : 1
""".splitlines()  # noqa: E501


def test_header_of_a_phone() -> None:
    header = parse_header(PHONE)
    assert (header.container, header.duration, header.start) == ("mov,mp4,m4a,3gp,3g2,mj2", 3723.5, -0.02322)
    assert header.has_audio
    video, cover = header.videos
    assert (video.number, video.size, video.is_default, video.is_cover) == (1, (3840, 2160), True, False)
    assert video.color == VideoColor("hlg", "bt2020") and video.input_matrix == "bt2020"
    assert video.codec_names == ["hevc"]
    assert (cover.number, cover.is_cover) == (2, True)


def test_header_of_a_transparent_webm_without_duration() -> None:
    header = parse_header(WEB)
    assert (header.duration, header.start, header.has_audio) == (0.0, 0.0, False)
    [video] = header.videos
    assert video.alpha_mode and video.color == VideoColor(None, "bt709", has_alpha=True)


@pytest.mark.parametrize(
    ("pixel_format", "has_alpha"),
    [
        (b"argb", True),
        (b"yuva444p10le", True),
        (b"gbrap", True),
        (b"pal8", True),
        (b"yuv420p", False),
        (b"gbrp", False),
    ],
)
def test_transparency_by_the_pixel_format(pixel_format: bytes, has_alpha: bool) -> None:
    assert VideoLine(0, b"", pixel_format=pixel_format).color.has_alpha == has_alpha


def test_packets_that_are_copied() -> None:
    lines = [
        b"#tb 0: 1/1000\n",
        b"#dimensions 0: 2x2\n",
        b"#tb 1: 1/50\n",
        b"0, 0, 40, 20, 999, 0x1, S=1\n",
        b"1, 0, 5, 5, 9, 0x2\n",
    ]
    assert parse_copied(lines) == {0: [(0.04, 0.06)], 1: [(0.1, 0.2)]}
