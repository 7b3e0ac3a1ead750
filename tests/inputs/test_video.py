"""inputs/video.py and its decoders: the right frames, each with its number drawn into it, and scenes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolcli.inputs import video
from smolcli.inputs.video import Video, find_cuts
from smolcli.options import Sampling
from tests.inputs.clips import (
    CLIPS,
    COUNT,
    FFMPEG,
    H264,
    MAX_PIXELS,
    NOT_DECORD,
    RATE,
    Clip,
    array,
    draw_number,
    number_of,
    read_numbers,
    run,
)

# Clips that stand for the others: each a container of its own, and frames out of order, rotated or at varying times.
FAST = ("h264-varying", "h264-ts", "hevc-open", "vp9", "rotation-90", "gif")
CLIPS_BY_SPEED = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CLIPS]


@pytest.mark.parametrize("name", CLIPS_BY_SPEED)
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
        sampled = expected
        if sampling.frames == 7:
            ends = [time for _, time in expected]
            moments = [ends[-1] * place / 6 for place in range(7)]
            sampled = [expected[np.searchsorted(ends, moment + 0.001, "right") - 1] for moment in moments]
        decoded = read_numbers(opened)
        assert [number for number, _ in decoded] == [number for number, _ in sampled]
        assert [time for _, time in decoded] == pytest.approx([time for _, time in sampled], abs=0.001)
        assert opened.times == tuple(time for _, time in decoded)
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
    for name in ("a.gif", "a.webp", "a.png"):
        pictures[0].save(
            tmp_path / name, save_all=True, append_images=pictures[1:], duration=[10, 50, 300, 20], lossless=True
        )
        opened = Video(str(tmp_path / name), Sampling(frames=9), MAX_PIXELS)
        assert opened.times == pytest.approx((0.0, 0.1, 0.15, 0.45)), name  # 10 ms count as 0.1 s
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
    run(*raw, *matrix, "-bsf:v", "h264_metadata=matrix_coefficients=2", tmp_path / "a.mp4", stdin=pixels.tobytes())
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
    assert opened.audio is True
    assert opened.notices == ("has 2 videos in it; the model sees that of 160 x 96 pixels (stream 1 of the file)",)
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
    log = subprocess.run(
        [FFMPEG, "-i", joined, "-vf", f"select='gt(scene,{video.MIN_CUT_SCORE})',showinfo", "-f", "null", "-"],
        capture_output=True,
        text=True,
    ).stderr
    theirs = [float(part.split()[0]) for part in log.split("pts_time:")[1:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "MIN_SCENE", 0.0)
        spans = Video(str(joined), Sampling(scene=True), MAX_PIXELS).spans
    assert [span.start for span in spans[1:]] == pytest.approx(theirs)
    assert len(theirs) > 2  # the flash is among them


def test_scenes_of_an_animation(tmp_path: Path) -> None:
    pictures = [Image.new("L", (90, 60), gray) for gray in (0, 0, 255, 255)]
    pictures[1].putpixel((0, 0), 9)
    pictures[3].putpixel((0, 0), 9)
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=1000)
    spans = Video(str(tmp_path / "a.gif"), Sampling(scene=True), MAX_PIXELS).spans
    assert [(span.start, span.end) for span in spans] == [(0.0, 2.0), (2.0, 4.0)]


def test_flicker_is_one_scene() -> None:
    flicker = [(number / 10, np.full((4, 4), 255 * (number % 2), np.uint8)) for number in range(50)]
    assert len(find_cuts(iter(flicker))) == 0
