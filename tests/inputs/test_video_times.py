"""inputs/decoders: times count from the beginning of the file, and a video lasts until its last picture goes."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from smolcli.errors import InputError
from smolcli.inputs.video import Video
from smolcli.options import Sampling
from tests.inputs.clips import MAX_PIXELS, Clip, number_of, run

DECODERS = ["av", "ffmpeg", "decord"]
SOUND = ("-f", "lavfi", "-i", "anullsrc=r=8000")
Open = Callable[..., Video]


@pytest.fixture(params=DECODERS)
def open_video(request: pytest.FixtureRequest, ffmpeg: None) -> Open:
    """Open a video with each of the decoders."""
    if request.param == "decord":
        pytest.importorskip("decord")
    return lambda path, **options: Video(str(path), Sampling(decoder=request.param, **options), MAX_PIXELS)


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def late(request: pytest.FixtureRequest, clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a file with sound from 0 to 7.4 s, and 2.4 s of pictures that begin at 5 s."""
    path = tmp_path_factory.mktemp("late") / f"late.{request.param}"
    run("-itsoffset", "5", "-i", clip("h264"), *SOUND, "-t", "7.4", "-c:v", "copy", path)
    return path


def test_times_count_from_the_beginning_of_the_file(late: Path, open_video: Open) -> None:
    opened = open_video(late, segment=1.2, frames=2)
    assert opened.times == pytest.approx((5.0, 6.16, 6.2, 7.36), abs=0.002)
    assert [(span.start, span.end) for span in opened.spans] == [
        pytest.approx((5.0, 6.2), abs=0.002), pytest.approx((6.2, 7.4), abs=0.1)
    ]  # fmt: skip
    assert opened.duration == pytest.approx(7.4, abs=0.1) and opened.notices == ()
    later = open_video(late, start=6.0, frames=2)
    assert [number_of(frame) for _, frame in later.pictures([0, 1])] == [25, 59]


def test_before_the_first_picture_there_is_none(late: Path, open_video: Open) -> None:
    with pytest.raises(InputError, match=r"has no frame between 0 s and 3 s; its pictures are from 5\.0 s to 7\.\d s"):
        open_video(late, end=3.0)


def test_transport_stream_begins_with_its_first_time_stamp(clip: Clip, ffmpeg: None, tmp_path: Path) -> None:
    run("-i", clip("h264"), *SOUND, "-t", "2.4", "-c:v", "copy", "-output_ts_offset", "100", tmp_path / "a.ts")
    starts = [Video(str(tmp_path / "a.ts"), Sampling(decoder=name), MAX_PIXELS).times[0] for name in ("av", "ffmpeg")]
    assert starts[0] == pytest.approx(starts[1], abs=0.001) and 0 <= starts[0] < 0.2


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def slides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a video of three slides at 0, 2 and 4 s, the last of which is shown for 56 s."""
    path = tmp_path_factory.mktemp("slides") / f"slides.{request.param}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for time in (0, 2000, 4000):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode(None)]:
            packet.duration = 56_000 if packet.pts == 4000 else 2000
            container.mux(packet)
    return path


def test_last_picture_stands_still_for_as_long_as_the_file_says(slides: Path, open_video: Open) -> None:
    opened = open_video(slides, segment=20.0)
    assert opened.duration == pytest.approx(60.0, abs=0.011) and opened.notices == ()
    assert [span.start for span in opened.spans] == [0.0, 20.0, 40.0]
    assert opened.times == pytest.approx((0.0, 2.0, 4.0, 4.0, 4.0))


def test_last_duration_is_right_where_frames_are_out_of_order(ffmpeg: None, tmp_path: Path) -> None:
    """MP4 has the durations of frames in the order of decoding: here the last frame's would be 2 s, and it is 0.1 s."""
    frames = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=5", "-vf", "select='eq(n,0)+eq(n,20)+eq(n,40)'")
    run(*frames, "-fps_mode", "passthrough", "-c:v", "libx264", "-pix_fmt", "yuv420p", tmp_path / "a.mp4")
    for decoder in ("av", "ffmpeg"):
        opened = Video(str(tmp_path / "a.mp4"), Sampling(decoder=decoder), MAX_PIXELS)
        assert opened.duration == pytest.approx(4.1, abs=0.001), decoder


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_last_picture_stands_still_while_sound_goes_on(suffix: str, clip: Clip, ffmpeg: None, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    run("-i", clip("h264"), *SOUND, "-t", "6", "-c:v", "copy", "-c:a", "aac", path)
    for decoder in ("av", "ffmpeg"):
        opened = Video(str(path), Sampling(decoder=decoder, segment=3.0, frames=1), MAX_PIXELS)
        assert opened.duration == pytest.approx(6.0, abs=0.15) and opened.notices == ()
        assert [number_of(frame) for _, frame in opened.pictures([0, 1])] == [0, 59]


def test_whole_matroska_lasts_as_long_as_its_header_says(clip: Clip, ffmpeg: None) -> None:
    """Recorders of a still screen write no frame and no duration of a frame, but the right duration of the file."""
    whole = clip("h264-mkv").read_bytes()
    place = whole.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes, in milliseconds
    longer = whole[:place] + np.array(30_000, ">f8").tobytes() + whole[place + 8 :]
    for decoder in ("av", "ffmpeg"):
        opened = Video(longer, Sampling(decoder=decoder), MAX_PIXELS)
        assert opened.duration == pytest.approx(30) and opened.notices == ()
        cut = Video(longer[:-500], Sampling(decoder=decoder), MAX_PIXELS)
        assert cut.duration < 2.5 and cut.notices == ("is cut short: 00:01 of 00:30 can be read",)
