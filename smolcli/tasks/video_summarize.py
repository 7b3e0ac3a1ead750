"""The task video-summarize: one prompt if the video fits the model's context, else a note a segment and a summary.

    segments -> notes -> summary of the notes; if they do not fit one prompt, first of groups of them

Prompts are sized without a tokenizer: a token is at least one byte of text, so text counts one token a byte; frames
count exactly, and notes count the tokens that the model generated for them.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from smolcli.errors import ErrorKind, InputError, UsageError
from smolcli.models.chat_template import require_plain_text, video_parts
from smolcli.options import Sampling, VideoOutput
from smolcli.records.record_id import id_options
from smolcli.tasks.base import Steps, Task
from smolcli.terminal.option_fields import opt
from smolcli.types import Answer, Media, ModelLimits, Prompt, Reply, Span, format_time

QUESTION = "What happens in this video?"
NOTES = "These are notes on what happens in a video, in the order of time.\n{notes}\n\n{ask}"
SUMMARY = "Summarize in a few sentences what happens in the video."
FRAME_MARKER_TOKENS = 3  # tokens that stand before and after the tokens of a frame
TURN_BYTES = 64  # upper bound of the chat template's text around one turn
NUMBER_BYTES = 80  # upper bound of a count of frames written in words
MIN_NOTES_TOKENS = 96  # a prompt must hold two notes, with their times and a few words each

_Notes = Generator[Sequence[Prompt], Sequence[Reply], "Note"]


@dataclass(frozen=True)
class Note:
    """The model's reply about one segment, from `start` to `end` in seconds.

    `tokens` counts those of `text`; `data` is the parsed object where a schema was asked for.
    """

    start: float
    end: float
    text: str
    tokens: int
    data: Any = None

    @property
    def line(self) -> str:
        """The note with its time span before it, as it stands in answers and in prompts."""
        return self._time_span + self.text

    @property
    def cost(self) -> int:
        """Upper bound of the tokens of the line and its line break."""
        return len(self._time_span) + self.tokens + 1

    def truncated_to(self, max_tokens: int) -> Note:
        """The note, its text cut off so that it costs at most `max_tokens`."""
        text_tokens = max(0, max_tokens - len(self._time_span) - 1)
        if self.tokens <= text_tokens:
            return self
        text = self.text.encode()[:text_tokens].decode("utf-8", "ignore")
        return replace(self, text=text, tokens=len(text.encode()))

    @property
    def _time_span(self) -> str:
        return f"[{format_time(self.start)}-{format_time(self.end)}] "


@dataclass(frozen=True)
class VideoSummarize(Sampling, Task):
    """Say what happens in each video, and when."""

    question: str | None = opt(
        None, "Ask this instead of what happens; @NAME is a saved prompt.", panel="Answer", short=True, saved=True,
        metavar="TEXT",
    )  # fmt: skip
    contact_sheet: Path | None = opt(
        None, "Write the frames that the model sees, with their times, as one picture.", metavar="FILE.jpg"
    )

    examples = (
        "smolcli video-summarize clip.mp4",
        "smolcli video-summarize lecture.mp4 --segment 60 -f srt -o lecture.srt",
        'smolcli video-summarize clips/ --question "Is there a car?" -f jsonl',
    )
    output_options = VideoOutput
    reads = noun = "video"
    example = "video.mp4"
    data_parts = ("summary", "duration", "segments", "frames", "contact_sheet")
    is_multiline = True

    def __post_init__(self) -> None:
        if self.question is not None and not self.question.strip():
            raise UsageError("the question is empty", 'leave --question out, or ask: --question "Does it rain?"')
        if self.frames is not None and self.fps is not None:
            raise UsageError("--frames and --fps both say how many frames", "leave out one of them")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise UsageError(f"--fps {self.fps} is no rate", "give frames a second, as --fps 0.5")
        if self.segment is not None and self.segment <= 0:
            raise UsageError("--segment 0 has no length", "give seconds, as --segment 30")
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError("--end is not after --start", "give times as 75 or 1:15")
        require_plain_text(self.question or "")

    @property
    def at_once(self) -> int:
        """0 (unknown) for segments and scenes; a whole video is one long prompt, and more slots would waste memory."""
        return 0 if self.segment is not None or self.scene else 1

    @property
    def id_options(self) -> dict[str, Any]:
        """The question and the choice of frames."""
        return {"question": self.question or QUESTION, **id_options(self.sampling)}

    @property
    def sheet(self) -> Path | None:
        """--contact-sheet."""
        return self.contact_sheet

    @property
    def sampling(self) -> Sampling:
        """Which frames are looked at."""
        return Sampling(**{option.name: getattr(self, option.name) for option in fields(Sampling)})

    def data_columns(self, fields: Sequence[tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
        """Those of the summary."""
        return [(name, ("summary", *keys)) for name, keys in super().data_columns(fields)]

    def steps(self, media: Media) -> Steps:
        spans = self.segments(media)
        replies = yield [self._prompt(media, span, draft=len(spans) > 1) for span in spans]
        answered = [pair for pair in zip(spans, replies, strict=True) if pair[1].finish.fault is None]
        notes = [
            Note(span.start, span.end, reply.text, reply.finish.tokens.new, reply.data) for span, reply in answered
        ]
        summary = notes[0] if len(notes) == 1 else (yield from self._summarize(notes, media))
        segments = [
            {
                "start": note.start,
                "end": note.end,
                "text": note.text if note.data is None else note.data,
                "frames": [frame.time for frame in media.frames[span.first : span.stop]],
            }
            for note, (span, _) in zip(notes, answered, strict=True)
        ]
        data: dict[str, Any] = {
            "summary": summary.text if summary.data is None else summary.data,
            "duration": media.duration,
            "segments": segments,
            "frames": len({frame.time for frame in media.frames}),  # two segments may share a frame
        }
        if self.contact_sheet is not None:
            data["contact_sheet"] = str(self.contact_sheet)
        lines = [note.line for note in notes] if len(notes) > 1 else []
        return Answer("\n\n".join([summary.text, *(["\n".join(lines)] if lines else [])]), data)

    def segments(self, media: Media) -> list[Span]:
        """The spans of a video, each split into as few segments as fit the model's context.

        Raises InputError of kind too-long if the question leaves no space for one frame, or for two notes.
        """
        parts = [part for span in media.spans for part in self._split(span, media)]
        assert media.limits is not None
        if len(parts) > 1 and media.limits.understands_text and self._notes_tokens(media.limits) < MIN_NOTES_TOKENS:
            raise _too_long("notes", media.limits)
        return parts

    def tokens(self, media: Media, span: Span) -> int:
        """Upper bound of the tokens of the prompt about one segment."""
        assert media.limits is not None
        [turn] = self._prompt(media, span, draft=True).turns
        texts = sum(len(part.encode()) for part in turn.parts if isinstance(part, str))
        return TURN_BYTES + texts + (span.stop - span.first) * (media.limits.tile_tokens + FRAME_MARKER_TOKENS)

    def _prompt(self, media: Media, span: Span, draft: bool) -> Prompt:
        parts = video_parts(media.frames[span.first : span.stop], media.duration)
        return Prompt.user(*parts, self.question or QUESTION, split=False, draft=draft)

    def _split(self, span: Span, media: Media) -> list[Span]:
        """Splits a span into equal segments; its last frames cost most, since their times are longest in text."""
        assert media.limits is not None
        frame_count = span.stop - span.first
        first_cost = self.tokens(media, replace(span, first=span.stop - 1))
        if first_cost > media.limits.prompt:
            raise _too_long("frames", media.limits)
        two_frames = replace(span, first=max(span.first, span.stop - 2))
        next_cost = self.tokens(media, two_frames) - first_cost if frame_count > 1 else 1
        max_frames = 1 + (media.limits.prompt - first_cost - NUMBER_BYTES) // next_cost
        segment_count = math.ceil(frame_count / max(1, max_frames))
        firsts = [span.first + frame_count * number // segment_count for number in range(segment_count + 1)]
        times = [media.frames[first].time or 0.0 for first in firsts[1:-1]]
        return [
            Span(*edges) for edges in zip([span.start, *times], [*times, span.end], firsts, firsts[1:], strict=False)
        ]

    def _notes_tokens(self, limits: ModelLimits) -> int:
        """How many tokens of notes one prompt can hold."""
        return limits.prompt - TURN_BYTES - len(NOTES.encode()) - len(self._question_about_notes.encode())

    @property
    def _question_about_notes(self) -> str:
        return self.question or SUMMARY

    def _summarize(self, notes: Sequence[Note], media: Media) -> _Notes:
        """Makes one note of many: of each group that fits a prompt, then of the notes on the groups, and so on.

        A model that does not understand text gets no prompt: its notes are joined.
        """
        assert media.limits is not None
        if not media.limits.understands_text:
            joined = "; ".join(text for text, _ in groupby(note.text for note in notes))
            return Note(notes[0].start, notes[-1].end, joined, 0)
        groups = _groups(notes, self._notes_tokens(media.limits))
        texts = ["\n".join(note.line for note in group) for group in groups]
        questions = [NOTES.format(notes=text, ask=self._question_about_notes) for text in texts]
        replies = yield [Prompt.user(question, draft=len(groups) > 1) for question in questions]
        summaries = [
            Note(group[0].start, group[-1].end, reply.text, reply.finish.tokens.new, reply.data)
            for group, reply in zip(groups, replies, strict=True)
            if reply.finish.fault is None
        ]
        return summaries[0] if len(summaries) == 1 else (yield from self._summarize(summaries, media))


def _too_long(content: str, limits: ModelLimits) -> InputError:
    message = f"the question and the reply leave no space for {content} in the context of {limits.context} tokens"
    return InputError(message, "shorten it, or lower --max-tokens", kind=ErrorKind.TOO_LONG)


def _groups(notes: Sequence[Note], max_tokens: int) -> list[list[Note]]:
    """Groups neighbouring notes so that each group has at most `max_tokens` and at least two notes.

    Two, so that every round of summaries leaves fewer notes.
    """
    groups: list[list[Note]] = []
    for note in (note.truncated_to(max_tokens // 2) for note in notes):
        if groups and sum(other.cost for other in groups[-1]) + note.cost <= max_tokens:
            groups[-1].append(note)
        else:
            groups.append([note])
    return groups
