"""inputs/video.py and its decoders: damaged and truncated videos, and files that are no videos."""

from __future__ import annotations

import gc
import io
import os
import random
import shutil
from pathlib import Path

import pytest
from av.container import InputContainer
from PIL import Image

from smolcli.errors import InputError, UnavailableError
from smolcli.inputs.decoders.pyav.decoder import PyAv
from smolcli.inputs.video import Video
from smolcli.options import Sampling
from smolcli.types import Frame
from tests.helpers import SAMPLES
from tests.inputs.clips import H264, MAX_PIXELS, Clip, draw_number, failure, number_of, read_numbers, run


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


def test_mp4_cut_within_its_index() -> None:
    """FFmpeg opens it where the index ends before the first stream, or after that of the sound."""
    data = (SAMPLES / "film.mp4").read_bytes()
    start = data.index(b"moov") - 4
    for end in range(start, start + int.from_bytes(data[start : start + 4], "big") // 2, 61):
        kind, message = failure(data[:end])
        assert kind == "truncated" and "cut short" in message, end


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
    assert opened.notices == () and opened.duration == pytest.approx(5, abs=0.02)


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
    assert failure(clip("h264"), max_pixels=160 * 96 - 1)[0] == "too-large"
    assert failure(clip("gif"), max_pixels=160 * 96 - 1)[0] == "too-large"
    kind, message = failure(patch_boxes(clip("vp9").read_bytes()), max_pixels=1000)
    assert kind == "too-large" and "160 x 96 pixels" in message


def test_video_of_two_lines(ffmpeg: None, tmp_path: Path) -> None:
    stdin = bytes(100_000 * 2 * 3)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "100000x2", "-i", "-")
    run(*raw, "-c:v", "ffv1", tmp_path / "a.mkv", stdin=stdin)
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
        assert not [obj for obj in gc.get_objects() if issubclass(type(obj), InputContainer)]
    finally:
        gc.enable()


def test_missing_ffmpeg_program(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it shows in the run already, as on a node of a cluster; test_validate.py has the command."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match=r"needs the program ffmpeg, which is not installed; install ffmpeg$"):
        Video(str(clip("h264")), Sampling(decoder="ffmpeg"), MAX_PIXELS)
