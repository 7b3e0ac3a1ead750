"""Videos in the engine, decoded prompt by prompt, also where a decoder fails; and video-summarize as a whole."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolcli.backends.echo import Echo
from smolcli.engine.protocol import Work
from smolcli.errors import ErrorKind
from smolcli.executors.base import RunSpec
from smolcli.executors.local import LocalExecutor
from smolcli.inputs.video import Video
from smolcli.models.files import ModelFiles
from smolcli.options import Batch, Generate, Input, Model
from smolcli.records.record_id import Identity
from smolcli.records.sink import RecordSink
from smolcli.tasks.video_summarize import VideoSummarize
from smolcli.types import Frame, Item, Record
from tests.http_server import Server, says

FILM = Path(__file__).parents[2] / "docs" / "samples" / "film.mp4"
Pictures = Callable[[Video, Sequence[int]], Iterator[tuple[int, Frame]]]


def animation(count: int = 4, side: int = 8, milliseconds: int = 1000) -> bytes:
    """A GIF whose first frame is black; each frame is brighter than the one before."""
    pictures = [Image.new("L", (side, side), 20 * number) for number in range(count)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return buffer.getvalue()


class CollectingSink(RecordSink):
    """Keeps the records and the reported progress of each video; `then` is called after each record and note."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.parts: list[tuple[int, int, int]] = []
        self.then: Callable[[str], None] = lambda event: None

    def notice(self, message: str) -> None:
        """Nobody reads what is told of the run."""

    def write_record(self, record: Record) -> bool:
        self.records.append(record)
        self.then("a record")
        return True

    def note_restart(self, kind: ErrorKind, path: str) -> None: ...

    def show_video_progress(self, path: str, done: int, of: int, frames: int) -> None:
        self.parts.append((done, of, frames))
        if done:
            self.then("a note")

    def show_page_progress(self, path: str, page: int, of: int) -> None: ...


class Breaking(Echo):
    """Makes the decoder in its process fail as the model's name says, for videos of more than 4 frames."""

    def __init__(self, files: ModelFiles, options: Model) -> None:
        super().__init__(files, options)
        whole: Pictures = Video.pictures

        def pictures(video: Video, numbers: Sequence[int]) -> Iterator[tuple[int, Frame]]:
            if len(video.times) > 4 and files.name == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            if len(video.times) > 4 and files.name == "hang":
                os.read(os.pipe()[0], 1)  # nobody writes there
            if len(video.times) > 4 and files.name == "fault":
                raise ZeroDivisionError("a fault of ours")
            video.faults.append("a frame is damaged")
            return whole(video, numbers)

        Video.pictures = pictures  # type: ignore[method-assign,assignment]


class Brightness(Echo):
    """Replies with the brightness of each frame."""

    @staticmethod
    def reply_words(prompt: object) -> list[str]:
        frames = getattr(prompt, "frames", [])
        return [str(round(float(np.frombuffer(frame.rgb, np.uint8).mean()) / 20)) for frame in frames] or ["all"]


def records(backend: str, *videos: bytes, model: str = "", timeout: float = 60.0, **task: object) -> CollectingSink:
    summarize, sink = VideoSummarize(**task), CollectingSink()  # type: ignore[arg-type]
    work = Work(f"{__name__}:{backend}", ModelFiles(model), Model(), Input(), Generate(), sampling=summarize.sampling)
    batch = Batch(timeout=timeout)
    identity = Identity("video-summarize", model, backend)
    LocalExecutor(RunSpec(summarize, identity, work, batch), sink).run(
        Item.of(f"{number}.gif", data) for number, data in enumerate(videos)
    )
    return sink


def test_every_note_is_about_the_frames_of_its_segment() -> None:
    sink = records("Brightness", animation(12), segment=3.0, frames=3)
    [record] = sink.records
    assert [part["text"] for part in record.data["segments"]] == ["0 1 2", "3 4 5", "6 7 8", "9 10 11"]
    assert [part["frames"] for part in record.data["segments"]][1] == [3, 4, 5]
    assert record.text.splitlines()[0] == "all"
    assert sink.parts == [(0, 4, 12), (1, 4, 12), (2, 4, 12), (3, 4, 12), (0, 1, 12)]
    assert record.tokens.image == 12


def test_records_come_in_the_order_of_the_videos_whichever_is_done_first() -> None:
    """A video of one segment is done before one of many; its record waits."""
    sink = records("Brightness", animation(12), animation(2), animation(9), animation(2), segment=3.0)
    assert [record.path for record in sink.records] == ["0.gif", "1.gif", "2.gif", "3.gif"]


@pytest.mark.parametrize("when", ["a note", "a record"])
def test_a_stop_ends_with_the_video_that_is_under_way(when: str) -> None:
    """Also where a later one has failed by then, or has a note already."""
    summarize, sink = VideoSummarize(segment=3.0), CollectingSink()
    work = Work(f"{__name__}:Breaking", ModelFiles("fault"), Model(), Input(), Generate(), sampling=summarize.sampling)
    executor = LocalExecutor(RunSpec(summarize, Identity("video-summarize", "", ""), work), sink)
    sink.then = lambda event: executor.stop() if event == when else None
    videos = (animation(4), animation(20), animation(2), animation(2))
    executor.run(Item.of(f"{number}.gif", data) for number, data in enumerate(videos))
    assert [record.path for record in sink.records][:1] == ["0.gif"] and executor.is_idle


@pytest.mark.parametrize(("how", "kind"), [("crash", "crash"), ("hang", "timeout"), ("fault", "fault")])
def test_a_video_whose_decoder_fails_fails_alone(how: str, kind: str) -> None:
    sink = records("Breaking", animation(2), animation(6), animation(3), model=how, timeout=3.0)
    assert [record.error and record.error.kind for record in sink.records] == [None, kind, None]
    assert sink.records[0].notices == ("a frame is damaged",)


def smolcli(*args: object, stdin: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "smolcli", "video-summarize", *map(str, args)], input=stdin, capture_output=True
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_built_in_model_summarizes_the_sample_film() -> None:
    code, out, _ = smolcli(FILM, "--scene", "-m", "nano")
    assert code == 0
    assert out.splitlines()[2:] == [
        "[00:00-00:04] a red circle moves to the right",
        "[00:04-00:08] a blue square moves up",
        "[00:08-00:12] a purple heart moves to the left",
    ]


@pytest.mark.slow
def test_both_backends_give_the_same_summary() -> None:
    options = (FILM, "--scene", "-m", "nano", "-f", "json")
    torch, llamacpp = (json.loads(smolcli(*options, "-b", backend)[1]) for backend in ("torch", "llamacpp"))
    assert (torch["text"], torch["data"], torch["tokens"]) == (llamacpp["text"], llamacpp["data"], llamacpp["tokens"])


def test_a_directory_standard_input_and_resuming(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, data in {
        "1.gif": animation(), "2.mp4": b"no video at all", "3.gif": animation(1), "4.gif": animation(3),
        "5.png": animation(), "6.mp4": b"",
    }.items():  # fmt: skip
        (tmp_path / "in" / name).write_bytes(data)
    results = tmp_path / "out.jsonl"
    options = ("-b", "echo", "-o", results, "--resume")
    code, _, errors = smolcli(tmp_path / "in", *options)
    by_name = {Path(record["path"]).name: record for record in map(json.loads, results.read_text().splitlines())}
    assert code == 5
    assert {name: record["error"] and record["error"]["kind"] for name, record in by_name.items()} == {
        "1.gif": None, "2.mp4": "unsupported", "3.gif": "unsupported", "4.gif": None, "6.mp4": "empty",
    }  # fmt: skip
    assert "2.mp4: " in errors and "3.gif: is a still picture" in errors
    before = results.read_bytes()
    assert smolcli(tmp_path / "in", *options)[0] == 5
    assert results.read_bytes() == before
    code, out, _ = smolcli("-", "-b", "echo", "-f", "jsonl", stdin=animation())
    assert code == 0 and json.loads(out)["sha256"] == by_name["1.gif"]["sha256"]


def test_a_dry_run_needs_no_model(tmp_path: Path) -> None:
    code, out, _ = smolcli(FILM, "--segment", "6", "--frames", "2", "--dry-run", "-f", "jsonl", "-m", "nano")
    plan = json.loads(out)
    assert code == 0
    assert [part["frames"] for part in plan["segments"]] == [[0, 5.96], [6, 11.96]]
    assert [(part["start"], part["end"]) for part in plan["segments"]] == [(0, 6), (6, 12)]
    code, out, errors = smolcli(FILM, tmp_path / "none.mp4", "--dry-run", "-m", "nano")
    assert code == 5 and "12.0 s, 13 frames, 1 segment" in out and "none.mp4: no such file" in errors


def test_the_contact_sheet_shows_each_frame_with_its_timestamp(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    code, out, _ = smolcli(FILM, "--frames", "3", "--contact-sheet", sheet, "-b", "echo", "-f", "md")
    assert code == 0 and f"![frames](<{sheet}>)" in out
    picture = Image.open(sheet).convert("RGB")
    width = picture.width // 3
    centres: list[Any] = [picture.getpixel((width * column + 20, 20)) for column in range(3)]
    for color, background in zip(centres, ((255, 255, 255), (170, 170, 170), (248, 240, 200)), strict=True):
        assert np.abs(np.subtract(color, background)).max() < 20


def test_the_contact_sheet_of_a_video_that_has_its_record_and_over_the_input_itself(tmp_path: Path) -> None:
    clip, sheet, results = tmp_path / "a.gif", tmp_path / "sheet.jpg", tmp_path / "out.jsonl"
    clip.write_bytes(animation())
    for _ in range(2):
        sheet.unlink(missing_ok=True)
        assert smolcli(clip, "-b", "echo", "--contact-sheet", sheet, "-o", results, "--resume")[0] == 0
        with Image.open(sheet) as picture:
            assert picture.format == "JPEG"
    assert len(results.read_text().splitlines()) == 1
    before = clip.read_bytes()
    (tmp_path / "b.webp").write_bytes(before)
    assert smolcli(tmp_path / "b.webp", "-b", "echo", "--contact-sheet", tmp_path / "b.webp")[0] == 2
    assert (tmp_path / "b.webp").read_bytes() == before


def test_a_contact_sheet_on_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    """A limit of one kilobyte for each file stands in for the full disk."""
    program = """
import resource, sys
from pathlib import Path
from smolcli.inputs import contact_sheet
from smolcli.options import Input, Sampling
from smolcli.types import Item
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
contact_sheet.write(Item.of(sys.argv[1]), Sampling(), Input(), False, Path(sys.argv[2]))
"""
    done = subprocess.run([sys.executable, "-c", program, FILM, tmp_path / "s.jpg"], capture_output=True)
    assert done.returncode and b"s.jpg: cannot be written (File too large)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_dry_runs_that_fail_and_their_exit_codes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert smolcli(tmp_path / "empty", "--dry-run", "-m", "nano")[0] == 4
    assert smolcli(FILM, "--dry-run", "-m", "nano", "--question", "Why? " * 2000)[0] == 6
    assert smolcli(FILM, "--dry-run", "-m", "nano", "--watch", tmp_path)[0] == 2
    assert smolcli(FILM, "--dry-run", "-m", "nano", "--contact-sheet", tmp_path / "s.png")[0] == 0
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.format == "PNG"


def test_a_named_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["sh", "-c", f"cat {FILM} > {tmp_path}/pipe"])
    code, out, _ = smolcli(tmp_path / "pipe", "-b", "echo", "-f", "json")
    writer.wait()
    assert code == 0 and json.loads(out)["data"]["duration"] == 12


@pytest.mark.parametrize(
    "words",
    [
        ("--contact-sheet", "sheet.jpg", FILM, FILM), ("--contact-sheet", "sheet.txt", FILM),
        ("--contact-sheet", "/nowhere/sheet.jpg", FILM), ("--frames", "0", FILM), ("--fps", "0", FILM),
        ("--segment", "-1", FILM), ("--start", "1:2:3:4", FILM), ("--start", "abc", FILM),
        ("--frames", "2", "--fps", "1", FILM), ("--decoder", "none", FILM), ("-f", "srt", FILM, FILM),
    ],
)  # fmt: skip
def test_options_that_exclude_each_other_or_have_bad_values(words: tuple[object, ...]) -> None:
    code, out, errors = smolcli(*words, "-b", "echo")
    assert (code, out, len(errors.splitlines())) == (2, "", 1)


def test_a_video_given_to_another_command_is_named_as_one() -> None:
    done = subprocess.run([sys.executable, "-m", "smolcli", "caption", FILM, "-b", "echo"], capture_output=True)
    assert done.returncode == 6 and b"is a video; smolcli video-summarize" in done.stderr


def test_subtitles_of_pictures_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smolcli", "caption", FILM, "-b", "echo", "-f", "srt"], capture_output=True
    )
    assert done.returncode == 2 and b"srt is for video-summarize" in done.stderr


def test_ignored_sound_is_reported_with_verbose_alone(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    inputs = ("-f", "lavfi", "-i", "testsrc=d=1:s=64x48", "-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg4")
    subprocess.run([ffmpeg, "-v", "error", *inputs, tmp_path / "a.mp4"], check=True)
    assert "its sound is not heard" in smolcli(tmp_path / "a.mp4", "-b", "echo", "-v")[2]
    assert "sound" not in smolcli(tmp_path / "a.mp4", "-b", "echo")[2]


def test_a_video_at_a_url(server: Server) -> None:
    server.answers["/film"] = says(200, FILM.read_bytes())
    code, out, _ = smolcli(f"{server.url}/film", "-b", "echo", "-f", "jsonl", "--frames", "2")
    record = json.loads(out)
    assert (code, record["data"]["segments"][0]["frames"]) == (0, [0, 11.96])
    assert record["sha256"] == hashlib.sha256(FILM.read_bytes()).hexdigest()


def test_a_truncated_file_is_answered_with_a_notice_that_it_is_partial(tmp_path: Path) -> None:
    buffer = io.BytesIO(animation(40, side=64))
    (tmp_path / "cut.gif").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    code, out, errors = smolcli(tmp_path / "cut.gif", "-b", "echo", "-f", "jsonl")
    assert code == 0
    [notice] = json.loads(out)["notices"]
    assert "is cut short" in notice and f"cut.gif: {notice}" in errors
