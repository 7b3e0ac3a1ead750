"""inputs/video.py and its decoders: the right frames, each with its number drawn into it, or an error.

The clips are made with the ffmpeg of the package imageio-ffmpeg; no other one is needed.
"""

from __future__ import annotations

import gc
import io
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from av.container import InputContainer
from PIL import Image

from smolcli.errors import InputError
from smolcli.inputs import video
from smolcli.inputs.decoders.pyav import PyAv
from smolcli.inputs.video import Video, cuts
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


def run(*arguments: str | Path, given: bytes = b"") -> bytes:
    done = subprocess.run([FFMPEG, "-y", "-loglevel", "error", *arguments], input=given, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("clips")

    @cache
    def made(name: str) -> Path:
        recipe = CLIPS[name]
        path = folder / f"{name}.{recipe.suffix}"
        if name == "edit-list":
            run(*recipe.options, "-i", made("h264"), "-c", "copy", path)
        elif name == "live":
            path.write_bytes(run(*raw(recipe), *recipe.options, "-f", "webm", "-", given=raw_pixels(recipe)))
        elif recipe.rotation:
            plain = folder / f"{name}-plain.mp4"
            run(*raw(recipe), *recipe.options, plain, given=raw_pixels(recipe))
            run("-display_rotation", str(90 * recipe.rotation), "-i", plain, "-c", "copy", path)
        else:
            run(*raw(recipe), *recipe.options, path, given=raw_pixels(recipe))
        return path

    return made


def raw(recipe: Recipe) -> list[str]:
    width, height = recipe.size[:: -1 if recipe.rotation % 2 else 1]
    return ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(RATE), "-i", "-"]


def raw_pixels(recipe: Recipe) -> bytes:
    return b"".join(np.rot90(draw_number(number, recipe.size), -recipe.rotation).tobytes() for number in range(COUNT))


@pytest.fixture(scope="session")
def ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the ffmpeg of the package imageio-ffmpeg on the PATH."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").symlink_to(FFMPEG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


def read_numbers(opened: Video) -> list[tuple[int, float | None]]:
    """Return the numbers drawn into the sampled frames, and their times."""
    return [(number_of(frame), frame.time) for _, frame in opened.pictures(range(len(opened.times)))]


def failure(source: str | Path | bytes, decoder: str = "av", most: int = MAX_PIXELS) -> tuple[str, str]:
    """Return the kind and the message of the error that opening a video raises."""
    with pytest.raises(InputError) as caught:
        Video(source if isinstance(source, bytes) else str(source), Sampling(decoder=decoder), most)
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("decoder", ["av", "ffmpeg", "decord"])
def test_right_frames_of_each_clip_and_decoder(
    decoder: str, name: str, clip: Clip, ffmpeg: None, request: pytest.FixtureRequest
) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
        if name in NOT_DECORD:
            request.applymarker(pytest.mark.xfail(reason="decord decodes other frames, or none", strict=True))
    recipe = CLIPS[name]
    shown = recipe.shown
    unit = 1 / RATE
    expected = [(number, (recipe.moments[number] - recipe.moments[shown[0]]) * unit) for number in shown]
    for sampling in (Sampling(frames=COUNT, decoder=decoder), Sampling(frames=7, decoder=decoder)):
        opened = Video(str(clip(name)), sampling, MAX_PIXELS)
        assert opened.size == recipe.size
        assert opened.notices == () and opened.audio is False
        assert opened.duration == pytest.approx(expected[-1][1] + unit, abs=unit + 0.001)
        wanted = expected
        if sampling.frames == 7:
            ends = [time for _, time in expected]
            moments = [ends[-1] * place / 6 for place in range(7)]
            wanted = [expected[np.searchsorted(ends, moment + 0.001, "right") - 1] for moment in moments]
        got = read_numbers(opened)
        assert [number for number, _ in got] == [number for number, _ in wanted]
        assert [time for _, time in got] == pytest.approx([time for _, time in wanted], abs=0.001)
        assert opened.times == tuple(time for _, time in got)
        assert opened.faults == []


def test_bytes_are_decoded_like_files(clip: Clip, ffmpeg: None) -> None:
    for name in ("h264", "vp9", "gif"):
        for decoder in ("av", "ffmpeg"):
            opened = Video(clip(name).read_bytes(), Sampling(frames=3, decoder=decoder), MAX_PIXELS)
            assert [number for number, _ in read_numbers(opened)] == [0, 29, 59], (name, decoder)


def test_frames_of_one_span_at_a_time(clip: Clip) -> None:
    opened = Video(str(clip("hevc-open")), Sampling(segment=0.5, frames=3), MAX_PIXELS)
    assert [(span.first, span.stop) for span in opened.spans] == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 15)]
    for span in reversed(opened.spans):
        for number, frame in opened.pictures(range(span.first, span.stop)):
            assert number_of(frame) == round(opened.times[number] * RATE)
    assert [number for number, _ in opened.pictures([1, 1, 4])] == [1, 1, 4]


def test_frame_of_two_spans_has_two_numbers(tmp_path: Path) -> None:
    pictures = [Image.fromarray(draw_number(number)) for number in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 4000, 100])
    opened = Video(str(tmp_path / "a.gif"), Sampling(segment=1.0), MAX_PIXELS)
    assert opened.times == (0.0, 0.1, 0.1, 0.1, 4.1)
    assert [number for number, _ in read_numbers(opened)] == [0, 1, 1, 1, 2]


def test_frame_durations_of_animations(tmp_path: Path) -> None:
    pictures = [Image.fromarray(draw_number(number)) for number in range(4)]
    for name, more in (("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=[0, 50, 300, 20], **more)
        opened = Video(str(tmp_path / name), Sampling(frames=9), MAX_PIXELS)
        assert opened.times == pytest.approx((0.0, 0.1, 0.15, 0.45)), name  # 0 counts as 0.1 s
        assert opened.duration == pytest.approx(0.47)
        assert [number for number, _ in read_numbers(opened)] == [0, 1, 2, 3]


def test_transparent_animations_are_drawn_on_white(tmp_path: Path) -> None:
    clear, dot = Image.new("RGBA", (8, 8), (0, 0, 0, 0)), Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    dot.putpixel((3, 3), (0, 0, 255, 255))
    clear.save(tmp_path / "a.webp", save_all=True, append_images=[dot], duration=100, lossless=True)
    frames = [array(frame) for _, frame in Video(str(tmp_path / "a.webp"), Sampling(), MAX_PIXELS).pictures([0, 1])]
    assert frames[0].min() == 255 and frames[1][3, 3].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "concat:x.mp4", "img%03d.mp4", "http:x", "fête 日本.mp4", "a.png", "b.txt"]
)
def test_file_name_is_not_interpreted(
    name: str, clip: Clip, ffmpeg: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip("h264"), name)
    for decoder in ("av", "ffmpeg"):
        assert [number for number, _ in read_numbers(Video(name, Sampling(frames=2, decoder=decoder), MAX_PIXELS))] == [
            0,
            59,
        ]


def test_file_name_that_is_not_utf8(clip: Clip, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")
    try:
        shutil.copy(clip("h264"), name)
    except OSError:
        pytest.skip("the file system takes only UTF-8")
    assert len(Video(name, Sampling(frames=2), MAX_PIXELS).times) == 2


def test_untagged_hd_is_decoded_as_bt709(tmp_path: Path) -> None:
    pixels = np.zeros((720, 64, 3), np.uint8)
    pixels[:] = (200, 40, 90)
    matrix = ("-vf", "scale=out_color_matrix=bt709", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-colorspace", "unknown")
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x720", "-i", "-")
    run(*raw, *matrix, "-bsf:v", "h264_metadata=matrix_coefficients=2", tmp_path / "a.mp4", given=pixels.tobytes())
    [(_, frame)] = Video(str(tmp_path / "a.mp4"), Sampling(), MAX_PIXELS).pictures([0])
    assert np.abs(array(frame).astype(int) - (200, 40, 90)).max() <= 4


def test_frame_size_changes_within_a_video(clip: Clip, ffmpeg: None, tmp_path: Path) -> None:
    small = tmp_path / "small.ts"
    run("-i", clip("h264"), "-vf", "scale=80:48", "-output_ts_offset", "3", *H264, small)
    (tmp_path / "both.ts").write_bytes(clip("h264-ts").read_bytes() + small.read_bytes())
    opened = Video(str(tmp_path / "both.ts"), Sampling(frames=200), MAX_PIXELS)
    assert [frame.width for _, frame in opened.pictures([0, 59, 60, 119])] == [160, 160, 80, 80]


def test_joined_recordings_are_read_in_sequence(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "twice.ts").write_bytes(2 * clip("h264-ts").read_bytes())
    opened = Video(str(tmp_path / "twice.ts"), Sampling(frames=200), MAX_PIXELS)
    assert [number for number, _ in read_numbers(opened)] == [*range(60), *range(60)]
    assert opened.duration == pytest.approx(4.8)


def test_longest_video_stream_is_read_and_not_a_cover_or_sound(clip: Clip, tmp_path: Path) -> None:
    Image.fromarray(draw_number(99)).save(tmp_path / "cover.png")
    sound = ("-f", "lavfi", "-i", "anullsrc=r=8000")
    both = ("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-c:v", "copy", "-c:a", "aac", "-t", "2.4")
    run("-t", "0.4", "-i", clip("h264"), "-i", clip("h264-varying"), "-i", tmp_path / "cover.png", *sound, *both,
        "-disposition:v:2", "attached_pic", tmp_path / "a.mp4")  # fmt: skip
    opened = Video(str(tmp_path / "a.mp4"), Sampling(frames=100), MAX_PIXELS)
    assert opened.audio is True and opened.notices == ()
    assert [number for number, _ in read_numbers(opened)][:30] == list(range(30))


# ---- scenes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a video of three clips of 1.6 s, 1.2 s and 2 s; in the last is a flash of two frames."""
    path = tmp_path_factory.mktemp("scenes") / "joined.mp4"
    flash = "drawbox=color=white:t=fill:enable='between(n,20,21)'"
    first, second = "testsrc2=s=320x180:d=1.6[a]", "mandelbrot=s=320x180,trim=duration=1.2,negate[b]"
    third = f"smptebars=s=320x180:d=2,{flash}[c]"
    run(
        "-filter_complex",
        f"{first};{second};{third};[a][b][c]concat=n=3",
        "-r",
        "25",
        "-c:v",
        "libx264",
        "-pix_fmt",
        "yuv420p",
        path,
    )
    return path


@pytest.mark.parametrize("decoder", ["av", "ffmpeg", "decord"])
def test_scenes_begin_at_cuts(decoder: str, joined: Path, ffmpeg: None) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    opened = Video(str(joined), Sampling(scene=True, decoder=decoder, frames=1), MAX_PIXELS)
    assert [span.start for span in opened.spans] == pytest.approx([0.0, 1.6, 2.8])
    later = Video(str(joined), Sampling(scene=True, decoder=decoder, frames=1, start=0.5, end=2.0), MAX_PIXELS)
    assert [span.start for span in later.spans] == pytest.approx([0.5, 1.6])


def test_scenes_match_ffmpeg(joined: Path) -> None:
    told = subprocess.run(
        [FFMPEG, "-i", joined, "-vf", f"select='gt(scene,{video.MIN_CUT_SCORE})',showinfo", "-f", "null", "-"],
        capture_output=True,
        text=True,
    ).stderr
    theirs = [float(part.split()[0]) for part in told.split("pts_time:")[1:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "MIN_SCENE", 0.0)
        spans = Video(str(joined), Sampling(scene=True), MAX_PIXELS).spans
    assert [span.start for span in spans[1:]] == pytest.approx(theirs)
    assert len(theirs) > 2  # the flash is among them


def test_scenes_of_an_animation(tmp_path: Path) -> None:
    pictures = [Image.new("L", (90, 60), grey) for grey in (0, 0, 255, 255)]
    pictures[1].putpixel((0, 0), 9)
    pictures[3].putpixel((0, 0), 9)
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=1000)
    spans = Video(str(tmp_path / "a.gif"), Sampling(scene=True), MAX_PIXELS).spans
    assert [(span.start, span.end) for span in spans] == [(0.0, 2.0), (2.0, 4.0)]


def test_flicker_is_one_scene() -> None:
    flicker = [(number / 10, np.full((4, 4), 255 * (number % 2), np.uint8)) for number in range(50)]
    assert len(cuts(iter(flicker))) == 0


# ---- unreadable videos -------------------------------------------------------------------------------------


def test_files_that_are_no_videos(clip: Clip, ffmpeg: None, tmp_path: Path) -> None:
    assert failure(b"") == ("empty", "is empty; give a video")
    assert failure(tmp_path / "none.mp4")[0] == "missing"
    assert failure(tmp_path)[0] == "unreadable"
    (tmp_path / "text.mp4").write_text("only words\n" * 500)
    (tmp_path / "list.mp4").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip('h264-ts')}\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "noise.mp4").write_bytes(random.Random(5).randbytes(50_000))
    for decoder in ("av", "ffmpeg"):
        for name in ("text.mp4", "list.mp4", "noise.mp4"):
            assert failure(tmp_path / name, decoder) == (
                "unsupported",
                "is not a video that can be read; see with ffprobe what it is",
            ), name
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF"):
        still = io.BytesIO()
        Image.fromarray(draw_number(1)).save(still, kind)
        assert failure(still.getvalue()) == ("unsupported", "is a still picture; smolcli caption or ask reads it")


@pytest.mark.parametrize("suffix", ["m4a", "mp3", "ogg", "wav"])
def test_audio_only(suffix: str, ffmpeg: None, tmp_path: Path) -> None:
    run("-f", "lavfi", "-i", "anullsrc=r=8000", "-t", "0.5", tmp_path / f"a.{suffix}")
    for decoder in ("av", "ffmpeg"):
        kind, message = failure(tmp_path / f"a.{suffix}", decoder)
        assert kind == "unsupported" and message.startswith("is audio only"), decoder


def test_mp4_without_index(clip: Clip, ffmpeg: None) -> None:
    data = clip("h264").read_bytes()
    for decoder in ("av", "ffmpeg"):
        kind, message = failure(data[: data.index(b"moov") - 10], decoder)
        assert kind == "truncated" and "is cut short or still being written (its index is missing)" in message


@pytest.mark.parametrize("name", ["gif", "apng"])
def test_truncated_animation_is_read_up_to_its_end(name: str, clip: Clip) -> None:
    data = clip(name).read_bytes()
    opened = Video(data[: len(data) * 6 // 10], Sampling(frames=100), MAX_PIXELS)
    numbers = [number for number, _ in read_numbers(opened)]
    assert 20 < len(numbers) < 50 and numbers == list(range(len(numbers)))
    assert opened.notices == (f"is cut short: {len(numbers)} frames can be read",)


def test_truncated_webp_is_an_error(clip: Clip) -> None:
    assert failure(clip("webp").read_bytes()[:-50])[0] == "truncated"


@pytest.mark.parametrize("name", ["faststart", "vp9", "h264-ts", "h264-mkv", "mpeg4-avi"])
def test_truncated_video_is_read_up_to_its_end(name: str, clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "fast.mp4"
    if name == "faststart":
        run("-i", clip("h264"), "-c", "copy", "-movflags", "faststart", path)
    data = path.read_bytes() if name == "faststart" else clip(name).read_bytes()
    start = max(data.find(b"mdat"), data.find(b"movi"), 0)
    opened = Video(data[: start + (len(data) - start) * 6 // 10], Sampling(frames=100), MAX_PIXELS)
    count = len(opened.times)
    assert 15 < count < 50
    whole = range(count - 8)  # those at the end may be damaged
    assert [number_of(frame) for _, frame in opened.pictures(whole)] == list(whole)
    assert len(list(opened.pictures(range(count)))) == count
    assert opened.duration < 2
    if name == "h264-ts":  # its header has no duration
        assert opened.notices == ()
    else:
        [notice] = opened.notices
        assert notice.startswith("is cut short: ") and notice.endswith(" can be read")
    if name == "faststart":
        assert notice == f"is cut short: {len(opened.times)} of 60 frames can be read"


def test_longer_sound_is_not_a_truncated_video(clip: Clip, tmp_path: Path) -> None:
    sound = ("-f", "lavfi", "-i", "anullsrc=r=8000", "-t", "5")
    run("-i", clip("vp9"), *sound, "-c:v", "copy", "-c:a", "libopus", tmp_path / "a.webm")
    opened = Video(str(tmp_path / "a.webm"), Sampling(), MAX_PIXELS)
    assert opened.notices == () and opened.duration == pytest.approx(2.4)


def test_video_of_one_frame(clip: Clip, ffmpeg: None, tmp_path: Path) -> None:
    run("-i", clip("h264"), "-frames:v", "1", *H264, tmp_path / "a.mp4")
    for decoder in ("av", "ffmpeg"):
        opened = Video(str(tmp_path / "a.mp4"), Sampling(decoder=decoder, scene=True, segment=1), MAX_PIXELS)
        assert read_numbers(opened) == [(0, 0.0)]
        assert opened.duration <= 0.04


def patch_boxes(data: bytes, *changes: tuple[bytes, int, bytes]) -> bytes:
    """Replace bytes at an offset after the name of each box."""
    for name, offset, new in changes:
        at = data.index(name) + 4 + offset
        data = data[:at] + new + data[at + len(new) :]
    return data


def test_wrong_duration_in_the_header_is_ignored(clip: Clip) -> None:
    data = clip("h264").read_bytes()
    for length in (b"\0\0\0\0", b"\x7f\xff\xff\xff"):
        changes = ((b"mvhd", 16, length), (b"tkhd", 20, length), (b"mdhd", 16, length))
        opened = Video(patch_boxes(data, *changes), Sampling(frames=3), MAX_PIXELS)
        assert [number for number, _ in read_numbers(opened)] == [0, 29, 59]
        assert opened.duration == pytest.approx(2.4) and opened.notices == ()


def test_frames_cut_by_an_edit_list_are_not_missing(clip: Clip) -> None:
    second_second = (1000).to_bytes(4, "big") + (1024 + 25 * 512).to_bytes(4, "big")
    opened = Video(patch_boxes(clip("h264").read_bytes(), (b"elst", 8, second_second)), Sampling(frames=99), MAX_PIXELS)
    assert [number for number, _ in read_numbers(opened)] == list(range(25, 50))
    assert opened.notices == () and opened.duration == pytest.approx(1)


def test_unsupported_codec(clip: Clip, ffmpeg: None) -> None:
    data = clip("h264").read_bytes().replace(b"avc1", b"zzzz")
    for decoder in ("av", "ffmpeg"):
        kind, message = failure(data, decoder)
        assert kind == "unsupported" and message.startswith("has video of a codec that cannot be read here (zzzz)")


def test_file_that_grows_is_an_error(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(clip("h264-ts"), tmp_path / "a.ts")

    def grow(self: PyAv, *more: object) -> str:
        with open(tmp_path / "a.ts", "ab") as file:
            file.write(bytes(188))
        return ""

    monkeypatch.setattr(PyAv, "_describe_missing", grow)
    assert failure(tmp_path / "a.ts") == ("changed", "is still being written; try again when it is complete")


def test_too_many_pixels(clip: Clip, tmp_path: Path) -> None:
    assert failure(clip("h264"), most=160 * 96 - 1)[0] == "too-large"
    assert failure(clip("gif"), most=160 * 96 - 1)[0] == "too-large"
    kind, message = failure(patch_boxes(clip("vp9").read_bytes()), most=1000)
    assert kind == "too-large" and "160 x 96 pixels" in message


def test_video_of_two_lines(ffmpeg: None, tmp_path: Path) -> None:
    given = bytes(100_000 * 2 * 3)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "100000x2", "-i", "-")
    run(*raw, "-c:v", "ffv1", tmp_path / "a.mkv", given=given)
    for decoder in ("av", "ffmpeg"):
        opened = Video(str(tmp_path / "a.mkv"), Sampling(decoder=decoder, scene=True), MAX_PIXELS)
        assert opened.size == (100_000, 2)
        assert [frame.width for _, frame in opened.pictures([0])] == [100_000]


def test_damaged_frames_are_faults_and_the_nearest_is_shown(clip: Clip) -> None:
    data = bytearray(clip("h264").read_bytes())
    start = data.index(b"mdat")
    end = data.index(b"moov")
    middle = (start + end) // 2
    data[middle : middle + 200] = random.Random(1).randbytes(200)
    opened = Video(bytes(data), Sampling(frames=100), MAX_PIXELS)
    assert len(read_all(opened)) == 60
    assert opened.faults and all(fault.startswith("the frame at 00:0") for fault in opened.faults)


def read_all(opened: Video) -> list[Frame]:
    return [frame for _, frame in opened.pictures(range(len(opened.times)))]


@pytest.mark.parametrize("name", ["h264", "vp9", "gif"])
def test_randomly_damaged_files_are_read_or_an_input_error(name: str, clip: Clip) -> None:
    whole = clip(name).read_bytes()
    chance = random.Random(11)
    for _ in range(30):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 5, 50))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            opened = Video(bytes(data), Sampling(frames=5), MAX_PIXELS)
            assert 1 <= len(read_all(opened)) <= 5
        except InputError:
            pass


def test_no_file_or_thread_stays_open(clip: Clip, tmp_path: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    (tmp_path / "text.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))

    def counts() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def use() -> None:
        opened = Video(str(clip("h264")), Sampling(frames=3), MAX_PIXELS)
        next(opened.pictures([0, 1, 2]))  # not iterated to the end
        failure(tmp_path / "text.mp4")

    use()
    gc.collect()
    before = counts()
    for _ in range(50):
        use()
    gc.collect()
    assert counts() <= before


def test_decoder_is_freed_without_the_garbage_collector(clip: Clip) -> None:
    """A long video is opened anew for each of its spans, and a decoder that stays in memory keeps its buffers."""
    opened = Video(str(clip("h264")), Sampling(frames=6), MAX_PIXELS)
    gc.collect()
    gc.disable()
    try:
        assert (
            len(list(opened.pictures([0, 1]))) == 2
        )  # not all frames, after which a decoder would free its buffers by itself
        assert not [obj for obj in gc.get_objects() if isinstance(obj, InputContainer)]
    finally:
        gc.enable()


def test_missing_ffmpeg_program(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    kind, message = failure(clip("h264"), "ffmpeg")
    assert kind == "unsupported" and message.endswith("install ffmpeg, or leave out --decoder")
