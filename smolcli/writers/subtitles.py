"""The formats srt, vtt and chapters: a cue or a chapter for each segment of one video.

    record -> segments -> milliseconds and lines -> cues or chapters

Lines are not wrapped: players wrap them to their own width and font size, and would keep a line break put here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from smolcli.types import Record
from smolcli.writers.base import Writer
from smolcli.writers.columns import Segment, video_segments

# SubRip has no escapes. An invisible word joiner is put into what VLC's subsdec.c and ffmpeg's htmlsubtitles.c would
# take for a tag, a code of ASS or MicroDVD, or an arrow; ffmpeg's webvttdec.c uses backslashes for the same.
CODES = re.compile(r"<|\{(?=[\\\n]|.:)|\\(?=[NnHh{}])|--(?=>)")
JOINER = "\N{WORD JOINER}"

# A JSON object is one sentence. A full stop after one or two letters is that of "Dr.", after a leading number that of a
# list item; neither ends a sentence.
SENTENCE = re.compile(
    r"\{.*|.*?(?:(?:(?<!\b[^\W\d])(?<!\b[^\W\d]{2})(?<!^\d)(?<!^\d\d)\.|[!?\u2026])[\"'\u201d\u2019)\]]*(?=\s)"
    r"|[\u3002\uff01\uff1f]|\Z)"
)


def srt(segments: Sequence[Segment]) -> str:
    """Return a SubRip file: numbered cues with an empty line between them; a segment without text has no cue.

    >>> print(srt([Segment(0, 2.5, "A cat.")]), end="")
    1
    00:00:00,000 --> 00:00:02,500
    A cat.
    """
    cues = (f"{_timing(part, ',')}\n{_without_codes(text)}\n" for part in segments if (text := _lines(part)))
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, 1))


def vtt(segments: Sequence[Segment]) -> str:
    """Return a WebVTT file (https://www.w3.org/TR/webvtt1/); a segment without text has no cue.

    >>> print(vtt([Segment(0, 2.5, "1 < 2")]), end="")
    WEBVTT
    <BLANKLINE>
    00:00:00.000 --> 00:00:02.500
    1 &lt; 2
    """
    cues = (f"\n{_timing(part, '.')}\n{escape(text)}\n" for part in segments if (text := _lines(part)))
    return "WEBVTT\n" + "".join(cues)


def chapters(segments: Sequence[Segment]) -> str:
    r"""Return an FFmetadata 1 file (https://ffmpeg.org/ffmpeg-formats.html#Metadata-2) with a chapter a segment.

    The title of a chapter is the first sentence of the segment.

    >>> print(chapters([Segment(0, 2.5, "Cat #1 sits. It waits.")]), end="")
    ;FFMETADATA1
    [CHAPTER]
    TIMEBASE=1/1000
    START=0
    END=2500
    title=Cat \#1 sits.
    """
    if segments and _milliseconds(segments[0])[0] > 0:
        segments = [Segment(0, segments[0].start, ""), *segments]  # in an MP4 the first chapter always begins at 0
    content = ";FFMETADATA1\n"
    for segment in segments:
        start, end = _milliseconds(segment)
        title = re.sub(r"[=;#\\]", r"\\\g<0>", _title(segment.text))
        title += " " * title.endswith("\\")  # after any backslash ffmpeg takes the newline for escaped
        content += f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={title}\n"
    return content


class OneVideo(Writer):
    """The base class of formats that hold one video; without an answer the file is valid and has no cue or chapter."""

    def content(self, segments: Sequence[Segment]) -> str:
        """Return the whole file."""
        raise NotImplementedError

    def write(self, record: Record) -> None:
        self._write_content(video_segments(record))

    def close(self) -> None:
        if not self.has_written:
            self._write_content(())

    def _write_content(self, segments: Sequence[Segment]) -> None:
        self.stream.write(self.content(segments))
        self.stream.flush()
        self.has_written = True


class Srt(OneVideo):
    """SubRip subtitles."""

    def content(self, segments: Sequence[Segment]) -> str:
        return srt(segments)


class Vtt(OneVideo):
    """WebVTT subtitles."""

    def content(self, segments: Sequence[Segment]) -> str:
        return vtt(segments)


class Chapters(OneVideo):
    """Chapters in the form that ffmpeg adds to a video."""

    def content(self, segments: Sequence[Segment]) -> str:
        return chapters(segments)


def _milliseconds(segment: Segment) -> tuple[int, int]:
    """Return start and end, at least 1 ms apart, since players leave out a cue that lasts no time."""
    start = round(segment.start * 1000)
    return start, max(round(segment.end * 1000), start + 1)


def _timing(segment: Segment, decimal_mark: str) -> str:
    """Return the line with the times of a cue; `decimal_mark` stands before the milliseconds."""
    times = []
    for time in _milliseconds(segment):
        seconds, milliseconds = divmod(time, 1000)
        minutes, seconds = divmod(seconds, 60)
        times.append(f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{decimal_mark}{milliseconds:03}")
    return " --> ".join(times)


def _lines(segment: Segment) -> str:
    """Return the text without empty lines, because an empty line would end the cue."""
    return "\n".join(filter(None, map(str.strip, segment.text.splitlines())))


def _without_codes(text: str) -> str:
    """Return `text` with joiners inside formatting codes, so that a player shows it letter for letter."""
    return CODES.sub(lambda match: match[0] + JOINER, text)


def _title(text: str) -> str:
    r"""Return the first sentence on one line, since players show little of a title.

    >>> _title("Dr. Smith opens\nthe door. He goes in.")
    'Dr. Smith opens the door.'
    """
    return next(SENTENCE.finditer(" ".join(text.split())))[0]
