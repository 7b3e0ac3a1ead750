"""The formats srt, vtt and chapters: a cue or a chapter for each segment of one video.

    record -> stretches -> milliseconds and lines -> cues or chapters

Lines are not wrapped: players wrap to their own width and size of type, and a break put here would stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from smolcli.types import Record
from smolcli.writers.base import Writer
from smolcli.writers.columns import Stretch, stretches

# SubRip has no escapes: what VLC's subsdec.c and ffmpeg's htmlsubtitles.c take for a tag, a code of ASS or MicroDVD, or
# an arrow is parted by a word joiner, which is not seen. ffmpeg's webvttdec.c does so with backslashes.
CODES = re.compile(r"<|\{(?=[\\\n]|.:)|\\(?=[NnHh{}])|--(?=>)")
JOINER = "\N{WORD JOINER}"

# An object is kept whole. A stop after one or two letters is that of "Dr.", after a first number that of a list.
SENTENCE = re.compile(
    r"\{.*|.*?(?:(?:(?<!\b[^\W\d])(?<!\b[^\W\d]{2})(?<!^\d)(?<!^\d\d)\.|[!?\u2026])[\"'\u201d\u2019)\]]*(?=\s)"
    r"|[\u3002\uff01\uff1f]|\Z)"
)


def srt(segments: Sequence[Stretch]) -> str:
    """SubRip: numbered cues, an empty line between them; a segment without words has none.

    >>> print(srt([(0, 2.5, "A cat.")]), end="")
    1
    00:00:00,000 --> 00:00:02,500
    A cat.
    """
    cues = (f"{_timing(each, ',')}\n{_plain(text)}\n" for each in segments if (text := _lines(each)))
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, 1))


def vtt(segments: Sequence[Stretch]) -> str:
    """WebVTT as https://www.w3.org/TR/webvtt1/ has it; a segment without words has no cue.

    >>> print(vtt([(0, 2.5, "1 < 2")]), end="")
    WEBVTT
    <BLANKLINE>
    00:00:00.000 --> 00:00:02.500
    1 &lt; 2
    """
    cues = (f"\n{_timing(each, '.')}\n{escape(text)}\n" for each in segments if (text := _lines(each)))
    return "WEBVTT\n" + "".join(cues)


def chapters(segments: Sequence[Stretch]) -> str:
    r"""FFmetadata 1 as https://ffmpeg.org/ffmpeg-formats.html#Metadata-2 has it; a title is a first sentence.

    >>> print(chapters([(0, 2.5, "Cat #1 sits. It waits.")]), end="")
    ;FFMETADATA1
    [CHAPTER]
    TIMEBASE=1/1000
    START=0
    END=2500
    title=Cat \#1 sits.
    """
    if segments and _milliseconds(segments[0])[0] > 0:
        segments = [(0, segments[0][0], ""), *segments]  # in an MP4 the first chapter always begins at 0
    found = ";FFMETADATA1\n"
    for segment in segments:
        start, end = _milliseconds(segment)
        title = re.sub(r"[=;#\\]", r"\\\g<0>", _title(segment[2]))
        title += " " * title.endswith("\\")  # ffmpeg takes a newline for escaped after any backslash
        found += f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={title}\n"
    return found


class OneVideo(Writer):
    """The base of formats that hold one video; without an answer the file is valid, and empty."""

    def content(self, segments: Sequence[Stretch]) -> str:
        """The whole file."""
        raise NotImplementedError

    def write(self, record: Record) -> None:
        self._put(stretches(record))

    def close(self) -> None:
        if not self.begun:
            self._put(())

    def _put(self, segments: Sequence[Stretch]) -> None:
        self.stream.write(self.content(segments))
        self.stream.flush()
        self.begun = True


class Srt(OneVideo):
    """SubRip subtitles."""

    def content(self, segments: Sequence[Stretch]) -> str:
        return srt(segments)


class Vtt(OneVideo):
    """WebVTT subtitles."""

    def content(self, segments: Sequence[Stretch]) -> str:
        return vtt(segments)


class Chapters(OneVideo):
    """Chapters that ffmpeg puts into a video."""

    def content(self, segments: Sequence[Stretch]) -> str:
        return chapters(segments)


def _milliseconds(segment: Stretch) -> tuple[int, int]:
    """When it begins and ends; players leave out what lasts no time."""
    start = round(segment[0] * 1000)
    return start, max(round(segment[1] * 1000), start + 1)


def _timing(segment: Stretch, mark: str) -> str:
    """The line that says when a cue is shown; `mark` is before the milliseconds."""
    times = []
    for moment in _milliseconds(segment):
        seconds, thousandths = divmod(moment, 1000)
        minutes, seconds = divmod(seconds, 60)
        times.append(f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{mark}{thousandths:03}")
    return " --> ".join(times)


def _lines(segment: Stretch) -> str:
    """The text without its empty lines, each of which would end the cue."""
    return "\n".join(filter(None, map(str.strip, segment[2].splitlines())))


def _plain(text: str) -> str:
    """`text` so that a player shows it letter for letter."""
    return CODES.sub(lambda found: found[0] + JOINER, text)


def _title(text: str) -> str:
    r"""The first sentence on one line: players show little of a title.

    >>> _title("Dr. Smith opens\nthe door. He goes in.")
    'Dr. Smith opens the door.'
    """
    return next(SENTENCE.finditer(" ".join(text.split())))[0]
