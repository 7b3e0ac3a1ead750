"""smolcli/writers/subtitles.py, and videos in md and sidecars: read back by ffmpeg, ffprobe and a Markdown parser."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import imageio_ffmpeg
import pytest
from markdown_it.token import Token

from smolcli import registry
from smolcli.types import Record
from smolcli.writers.base import Writer
from smolcli.writers.subtitles import Chapters, Srt, Vtt
from smolcli.writers.table import Markdown
from tests.helpers import BAD, MARKDOWN, RECORD, sidecars, written

Cue = tuple[str, str, str]
JOINER = "\u2060"
FAILED = replace(BAD, task="video-summarize", data=None)
PLAIN: list[Any] = [(0.0, 30.0, "A man enters."), (30.0, 75.9, "He sits down.\nA dog comes.")]


def video(segments: Sequence[tuple[float, float, Any]] = PLAIN, **data: Any) -> Record:
    made = [{"start": start, "end": end, "text": text, "frames": [start]} for start, end, text in segments]
    known = {"summary": "A man and a dog.", "duration": 75.9, "segments": made, "frames": len(made)}
    return replace(RECORD, path="a.mp4", task="video-summarize", text="as text", data={**known, **data})


def ffmpeg(*options: str, given: str | None = None) -> str:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "warning", "-y", *options]
    done = subprocess.run(command, input=given and given.encode(), capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode("utf-8").replace("\r\n", "\n")


def cues(writer: type[Writer], record: Record) -> list[Cue]:
    """Return begin, end and text of each cue that ffmpeg reads in the file of one video."""
    kind = "srt" if writer is Srt else "webvtt"
    srt = ffmpeg("-f", kind, "-i", "-", "-f", "srt", "-", given=written(writer, record))
    blocks = re.findall(r"\d+\n(.*) --> (.*)\n((?:.+\n)*)\n", srt)
    if kind == "webvtt":
        blocks = [(start, end, text.replace(r"\{{}", "{")) for start, end, text in blocks]  # a brace as ASS escapes it
    return [(start, end, text.replace(JOINER, "").rstrip("\n")) for start, end, text in blocks]


def test_the_files_letter_for_letter() -> None:
    assert written(Srt, video()) == (
        "1\n00:00:00,000 --> 00:00:30,000\nA man enters.\n\n"
        "2\n00:00:30,000 --> 00:01:15,900\nHe sits down.\nA dog comes.\n"
    )
    assert written(Vtt, video()) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:30.000\nA man enters.\n\n"
        "00:00:30.000 --> 00:01:15.900\nHe sits down.\nA dog comes.\n"
    )
    assert written(Chapters, video()) == (
        ";FFMETADATA1\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=30000\ntitle=A man enters.\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=30000\nEND=75900\ntitle=He sits down.\n"
    )


@pytest.mark.parametrize("writer", [Srt, Vtt])
def test_ffmpeg_reads_the_times(writer: type[Writer]) -> None:
    moments = [
        (0.0, 0.0004), (1.9996, 3.0), (2.0, 9.0), (5.0, 5.0), (59.9999, 61.0015), (3599.5, 3725.25),
        (400_000.0, 400_001.5),
    ]  # fmt: skip
    assert [(start, end) for start, end, _ in cues(writer, video([(*times, "text") for times in moments]))] == [
        ("00:00:00,000", "00:00:00,001"),
        ("00:00:02,000", "00:00:03,000"),
        ("00:00:02,000", "00:00:09,000"),
        ("00:00:05,000", "00:00:05,001"),
        ("00:01:00,000", "00:01:01,002"),
        ("00:59:59,500", "01:02:05,250"),
        ("111:06:40,000", "111:06:41,500"),
    ]


TEXTS = {
    "plain": ("A cat.", "A cat."),
    "emoji": ("ü🙂 👩‍👧 你好", "ü🙂 👩‍👧 你好"),
    "long": ("word " * 300, ("word " * 300).strip()),
    "empty lines": ("\n\none\r\n\r\n \t\n two \r\rthree\n", "one\ntwo\nthree"),
    "number": ("12\n\n13", "12\n13"),
    "arrow": ("a --> b\n00:00:00,000 --> 00:00:09,000\n--->", "a --> b\n00:00:00,000 --> 00:00:09,000\n--->"),
    "tags": ("<b>bold</b> <i>x < y > z</i> <div>", "<b>bold</b> <i>x < y > z</i> <div>"),
    "ampersand": ("R&B &amp; &lt;b&gt;", "R&B &amp; &lt;b&gt;"),
    "note": ("NOTE this\nWEBVTT\nSTYLE", "NOTE this\nWEBVTT\nSTYLE"),
    "nul": ("a\0b\ud83d", "ab?"),
    "object": ({"what": ["a cat", 1]}, '{"what":["a cat",1]}'),
}


@pytest.mark.parametrize("writer", [Srt, Vtt])
@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS)
def test_ffmpeg_reads_the_text(writer: type[Writer], text: Any, expected: str) -> None:
    read_cues = cues(writer, video([(0, 1, text), (1, 2, "next")]))
    assert read_cues == [("00:00:00,000", "00:00:01,000", expected), ("00:00:01,000", "00:00:02,000", "next")]


@pytest.mark.parametrize("writer", [Srt, Vtt])
def test_ffmpeg_reads_any_text(writer: type[Writer]) -> None:
    dice = random.Random(3)
    parts = [*"<>&-\"'=/!#;:.,| 1aé{}\\\r\n\t\ufeff", "\n\n", "<b>", "</i>", "<font color=red>", "-->", "&lt;", "{y:i}"]
    parts += [r"{\an8}", r"\N", r"\n", r"\h"]
    texts = ["x" + "".join(dice.choices(parts, k=8)) + "x" for _ in range(400)]
    read_cues = cues(writer, video([(n, n + 1, text) for n, text in enumerate(texts)]))
    for text, (_, _, read) in zip(texts, read_cues, strict=True):
        assert read == re.sub(r"\s*[\r\n]\s*", "\n", text)


@pytest.mark.parametrize("writer", [Srt, Vtt])
def test_a_segment_without_text_has_no_cue(writer: type[Writer]) -> None:
    assert [text for *_, text in cues(writer, video([(0, 1, "\n \0"), (1, 2, "a"), (2, 3, "")]))] == ["a"]
    assert "2\n00" not in written(Srt, video([(0, 1, ""), (1, 2, "a")]))


def test_webvtt_escapes_tags_and_arrows() -> None:
    lines = written(Vtt, video([(0, 1, "a --> <b>&amp;</b>")])).splitlines()
    assert lines[0] == "WEBVTT"
    assert lines[3] == "a --&gt; &lt;b&gt;&amp;amp;&lt;/b&gt;"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of ten seconds that has a title."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=5:d=10", "-c:v", "mpeg4")
    ffmpeg(*picture, "-metadata", "title=A clip", str(path))
    return path


def metadata(video: Path) -> str:
    return ffmpeg("-v", "error", "-i", str(video), "-f", "ffmetadata", "-")


def chaptered(clip: Path, record: Record, *options: str, kind: str = "mp4") -> list[tuple[float, float, str]]:
    """Return begin, end and title of the chapters that ffmpeg, and ffprobe if installed, find in a copy of the clip."""
    metadata_file, copy = clip.with_name("chapters"), clip.with_name(f"out.{kind}")
    metadata_file.write_bytes(written(Chapters, record).encode())
    ffmpeg("-i", str(clip), "-i", str(metadata_file), *(options or ("-map_metadata", "1")), "-c", "copy", str(copy))
    text = metadata(copy)
    read_chapters = []
    for base, start, end, title in re.findall(
        r"\[CHAPTER\]\nTIMEBASE=1/(\d+)\nSTART=(\d+)\nEND=(\d+)\ntitle=((?:\\[^\0]|[^\\\n])*)\n", text
    ):
        title = re.sub(r"\\([=;#\\\n])", r"\1", title)
        read_chapters.append((round(int(start) / int(base), 2), round(int(end) / int(base), 2), title))
    if shutil.which("ffprobe"):
        command = ["ffprobe", "-v", "error", "-show_chapters", "-of", "json", str(copy)]
        chapters = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["chapters"]
        times = [(round(float(chapter["start_time"]), 2), round(float(chapter["end_time"]), 2)) for chapter in chapters]
        assert read_chapters == [
            (*time, chapter["tags"]["title"]) for time, chapter in zip(times, chapters, strict=True)
        ]
    return read_chapters


TITLES = {
    "a=b; #c \\d\\": "a=b; #c \\d\\ ",  # with a space, or ffmpeg loses what follows
    ";comment": ";comment",
    "#\t[CHAPTER]\n[STREAM]": "# [CHAPTER] [STREAM]",
    "\"quoted\" 'so' 🙂ü": "\"quoted\" 'so' 🙂ü",
    "one\r\n\ntwo\\\nthree": "one two\\ three",
    "=": "=",
    "w" * 3000: "w" * 3000,
}


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_ffmpeg_puts_the_chapters_into_a_video(clip: Path, kind: str) -> None:
    segments = [(n, n + 1, text) for n, text in enumerate(TITLES)]
    expected = [(n, n + 1, title) for n, title in enumerate(TITLES.values())]
    assert chaptered(clip, video(segments), kind=kind) == expected
    assert chaptered(clip, video(segments), "-map_chapters", "1", kind=kind) == expected
    assert "title=A clip\n" in metadata(clip.with_name(f"out.{kind}"))


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_chapters_that_begin_late_or_last_no_time(clip: Path, kind: str) -> None:
    read_chapters = chaptered(clip, video([(2.5, 5, "late"), (5, 5, "short"), (5.5, 10, "")]), kind=kind)
    assert [(start, title) for start, _, title in read_chapters] == [(0, ""), (2.5, "late"), (5, "short"), (5.5, "")]
    assert chaptered(clip, video([]), kind=kind) == []


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Dr. Smith enters No. 5. He sits.", "Dr. Smith enters No. 5."),
        ("At 3.5 m she jumps! Then she rests.", "At 3.5 m she jumps!"),
        ('He says "Stop." They stop.', 'He says "Stop."'),
        ("12. A cat sits in room 5. It sleeps.", "12. A cat sits in room 5."),
        ("猫が座る。犬が来る。", "猫が座る。"),
        ("No stop at all", "No stop at all"),
        ("Who?\nNobody.", "Who?"),
        ({"a": "One. Two.", "b": 1}, r'{"a":"One. Two.","b":1}'),
        ("", ""),
    ],
)
def test_a_title_is_the_first_sentence(text: Any, title: str) -> None:
    assert written(Chapters, video([(0, 1, text)])).endswith(f"\ntitle={title}\n")


@pytest.mark.parametrize(("writer", "empty"), [(Srt, ""), (Vtt, "WEBVTT\n"), (Chapters, ";FFMETADATA1\n")])
def test_a_failed_record_leaves_a_valid_empty_file(writer: type[Writer], empty: str) -> None:
    assert written(writer, FAILED) == written(writer) == written(writer, video([])) == empty
    stream = io.StringIO()
    with pytest.raises(KeyError), writer(stream):
        raise KeyError
    assert stream.getvalue() == ""


def test_the_formats_are_in_the_registry() -> None:
    assert [registry.load(registry.WRITERS, name) for name in ("srt", "vtt", "chapters")] == [Srt, Vtt, Chapters]
    assert set(registry.NEEDS_SEGMENTS) <= {*registry.WRITERS, *registry.SIDECARS}


def rendered(*records: Record) -> list[Token]:
    return MARKDOWN.parse(written(Markdown, *records, is_multiline=True))


def shown(tokens: list[Token]) -> list[str]:
    """Return the text of each block, as a reader sees it."""
    inside = [token.children or [] for token in tokens if token.type == "inline"]
    return ["".join("\n" if "break" in child.type else child.content for child in children) for children in inside]


def test_markdown_of_a_video_is_its_summary_and_a_list() -> None:
    nested = "\n\n  He *sits*.\n- a dog\n\n- a cat\n"
    record = video([(0, 30, "A man."), (30, 3725.9, nested), (3726, 3727, ""), (3727, 3728, {"a": 1})])
    tokens = rendered(record, FAILED)
    opened = [token.tag for token in tokens if token.nesting == 1 and token.level < 2]
    assert opened == ["h2", "p", "ul", "li", "li", "li", "li", "h2", "p"]
    assert [token.level for token in tokens if token.tag == "ul"] == [0, 2, 2, 0]
    assert shown(tokens) == [
        "a.mp4", "A man and a dog.", "00:00-00:30 A man.", "00:30-1:02:05 He sits.", "a dog", "a cat",
        "1:02:06-1:02:07", '1:02:07-1:02:08 {"a":1}', "b.png", "error: no such file; check the path",
    ]  # fmt: skip
    assert "- **00:00-00:30** A man.\n" in written(
        Markdown, video([(0, 30, "A man."), (30, 31, "")]), is_multiline=True
    )


def test_markdown_of_one_segment_has_no_list() -> None:
    assert written(Markdown, video(PLAIN[:1]), is_multiline=True) == "## a.mp4\n\nA man and a dog.\n"
    assert shown(rendered(video(PLAIN[:1], summary={"who": "a man"}))) == ["a.mp4", '{"who":"a man"}']


@pytest.mark.parametrize(
    "sheet",
    ["sheet.jpg", "a b (1).jpg", "x)(.jpg", "<ü>.jpg", "100%41.jpg", "q?a=1&amp;b#c.jpg", "*a_b*\n\\.jpg", "![](u)"],
)
def test_the_contact_sheet_is_shown_whatever_its_name(sheet: str) -> None:
    tokens = rendered(video(contact_sheet=f"out/{sheet}"))
    [image] = [child for token in tokens for child in token.children or [] if child.type == "image"]
    address = str(image.attrs["src"])
    assert unquote(address) == f"out/{sheet}"
    assert not {"?", "#"} & {*address}
    assert image.content == "frames"
    assert [token.tag for token in tokens if token.nesting == 1 and token.level == 0] == ["h2", "p", "p", "ul"]


def test_sidecars_of_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").touch()
    writer = sidecars(".srt", ".vtt")
    writer.write(replace(FAILED, path="a.mp4"))
    assert os.listdir() == ["a.mp4"]
    writer.write(video([(0, 1, "ü🙂\ud83d")]))
    assert sorted(os.listdir()) == ["a.mp4", "a.srt", "a.vtt"]
    assert Path("a.srt").read_bytes().decode() == "1\n00:00:00,000 --> 00:00:01,000\nü🙂?\n"
    assert Path("a.vtt").read_bytes().decode() == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nü🙂?\n"
    writer.write(video())
    assert "ü" in Path("a.srt").read_text("utf-8")
    sidecars(".srt", if_exists="overwrite").write(video())
    assert Path("a.srt").read_text("utf-8") == written(Srt, video())
