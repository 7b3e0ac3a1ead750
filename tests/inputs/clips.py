"""Makes video clips whose frames have their numbers drawn into them, and reads the numbers back.

The clips are made with the ffmpeg of the package imageio-ffmpeg; no other one is needed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from smolcli.errors import InputError
from smolcli.inputs.video import Video
from smolcli.options import Sampling
from smolcli.types import Frame

Clip = Callable[[str], Path]  # makes the clip with a name, once
FFMPEG = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
COUNT, RATE = 60, 25
MAX_PIXELS = 10**7
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "20", "-bf", "3")
X265 = "keyint=20:min-keyint=20:open-gop=1:bframes=4:log-level=none"
# The time of each frame in frames: there is a long pause in the middle, and a short one every 7 frames.
VARYING = [n + 10 * (n >= 20) + n // 7 for n in range(COUNT)]


@dataclass(frozen=True)
class Recipe:
    """How a clip is made (options of ffmpeg, the suffix of the file), and what decoding it must give."""

    suffix: str
    options: tuple[str, ...]
    rotation: int = 0  # quarter turns by which the header says the frames must be rotated to be upright
    size: tuple[int, int] = (160, 96)
    moments: Sequence[int] = range(COUNT)
    shown: range = range(COUNT)


CLIPS = {
    "h264": Recipe("mp4", H264),
    "h264-varying": Recipe(
        "mp4",
        ("-vf", "setpts=(N+10*gte(N\\,20)+floor(N/7)+0.01)/25/TB", "-fps_mode", "passthrough", *H264),
        moments=VARYING,
    ),
    "h264-ts": Recipe("ts", H264),
    "h264-m2ts-open": Recipe("m2ts", (*H264, "-x264-params", "open-gop=1")),
    "h264-mkv": Recipe("mkv", H264),
    "h264-flv": Recipe("flv", H264),
    "h264-raw": Recipe("h264", H264),
    "h264-refresh": Recipe("mp4", (*H264, "-x264-params", "intra-refresh=1")),
    "hevc-open": Recipe("mp4", ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params", X265)),
    "hevc-10-bit": Recipe("mp4", ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", X265)),
    "h264-10-bit": Recipe("mp4", (*H264, "-pix_fmt", "yuv420p10le")),
    "vp8": Recipe("webm", ("-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "10", "-g", "20", "-b:v", "300k")),
    "vp9": Recipe("webm", ("-c:v", "libvpx-vp9", "-g", "20", "-cpu-used", "8", "-deadline", "realtime")),
    "av1": Recipe("mp4", ("-c:v", "libsvtav1", "-preset", "12", "-crf", "10", "-g", "20", "-pix_fmt", "yuv420p")),
    "mpeg4-avi": Recipe("avi", ("-c:v", "mpeg4", "-bf", "2", "-g", "20", "-q:v", "3")),
    "mpeg2-ps": Recipe("mpg", ("-c:v", "mpeg2video", "-bf", "2", "-g", "20", "-q:v", "3")),
    "prores": Recipe("mov", ("-c:v", "prores_ks")),
    "odd-size": Recipe("mp4", (*H264, "-pix_fmt", "yuv444p"), size=(319, 181)),
    "rotation-90": Recipe("mp4", H264, rotation=1),
    "rotation-180": Recipe("mp4", H264, rotation=2),
    "rotation-270": Recipe("mp4", H264, rotation=3),
    "fragments": Recipe("mp4", (*H264, "-movflags", "frag_keyframe+empty_moov")),
    "live": Recipe("webm", ("-c:v", "libvpx-vp9", "-g", "20", "-cpu-used", "8", "-deadline", "realtime", "-live", "1")),
    "edit-list": Recipe("mp4", ("-ss", "1"), shown=range(25, COUNT)),
    "gif": Recipe("gif", ("-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none")),
    "webp": Recipe("webp", ("-c:v", "libwebp_anim", "-lossless", "1")),
    "apng": Recipe("png", ("-f", "apng")),
}
# Clips that decord 0.6 decodes incorrectly or not at all.
NOT_DECORD = frozenset((
    "h264-ts", "h264-m2ts-open", "h264-raw", "h264-refresh", "hevc-open", "hevc-10-bit", "av1", "mpeg4-avi", "mpeg2-ps",
    "live", "edit-list",
))  # fmt: skip


def draw_number(number: int, size: tuple[int, int] = (160, 96)) -> np.ndarray:
    """Make a picture with the eight bits of a number as blocks, and a red corner at the upper left."""
    width, height = size
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[:16, :16] = (255, 0, 0)
    for bit in range(8):
        pixels[32:48, 16 + 16 * bit : 32 + 16 * bit] = 255 * (number >> bit & 1)
    return pixels


def array(frame: Frame) -> np.ndarray:
    return np.frombuffer(frame.rgb, np.uint8).reshape(frame.height, frame.width, 3)


def number_of(frame: Frame) -> int:
    """Return the number drawn into a frame, which must be upright."""
    pixels = array(frame).astype(int)
    assert np.abs(pixels[8, 8] - (255, 0, 0)).max() < 40, pixels[8, 8]
    return sum(int(pixels[40, 24 + 16 * bit].mean() > 128) << bit for bit in range(8))


def run(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run([FFMPEG, "-y", "-loglevel", "error", *arguments], input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def raw_options(recipe: Recipe) -> list[str]:
    width, height = recipe.size[:: -1 if recipe.rotation % 2 else 1]
    return ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(RATE), "-i", "-"]


def raw_pixels(recipe: Recipe) -> bytes:
    return b"".join(np.rot90(draw_number(number, recipe.size), -recipe.rotation).tobytes() for number in range(COUNT))


def read_numbers(opened: Video) -> list[tuple[int, float | None]]:
    """Return the numbers drawn into the sampled frames, and their times."""
    return [(number_of(frame), frame.time) for _, frame in opened.pictures(range(len(opened.times)))]


def failure(source: str | Path | bytes, decoder: str = "av", max_pixels: int = MAX_PIXELS) -> tuple[str, str]:
    """Return the kind and the message of the error that opening a video raises."""
    with pytest.raises(InputError) as caught:
        Video(source if isinstance(source, bytes) else str(source), Sampling(decoder=decoder), max_pixels)
    return caught.value.kind, str(caught.value)
