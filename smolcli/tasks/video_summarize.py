"""The task video-summarize: one prompt for what fits the model's context, else a note on each stretch and a summary.

    stretches -> [note] -> summary of the notes, of groups of them first where they do not fit together

A token is a byte of text at least, so texts are counted by their bytes; pictures are counted exactly, and notes by the
tokens that they were made of.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from smolcli.errors import InputError, UsageError
from smolcli.models.chat_template import plain, video_parts
from smolcli.options import Sampling, opt
from smolcli.records.record_id import id_options
from smolcli.tasks.base import Task
from smolcli.types import Answer, Media, ModelLimits, Prompt, Reply, Span, Steps, format_time

QUESTION = "What happens in this video?"
NOTES = "These are notes on what happens in a video, in the order of time.\n{notes}\n\n{ask}"
SUMMARY = "Summarize in a few sentences what happens in the video."
PICTURE_MARKS = 3  # tokens around a picture
TURN_BYTES = 64  # of a conversation around its parts, at most
NUMBER_BYTES = 80  # of a number of frames in words, at most
LEAST_NOTES = 96  # tokens of notes that a prompt has room for: two with their times and some words

_Notes = Generator[Sequence[Prompt], Sequence[Reply], "Note"]


@dataclass(frozen=True)
class Note:
    """What was said of a stretch of a video, in seconds; `tokens` are those of `text`, `data` the object that it is."""

    start: float
    end: float
    text: str
    tokens: int
    data: Any = None

    @property
    def line(self) -> str:
        """The note under its time."""
        return self._stamp + self.text

    @property
    def cost(self) -> int:
        """Tokens of the line and its end, at most."""
        return len(self._stamp) + self.tokens + 1

    def within(self, most: int) -> Note:
        """The note, its text cut off where it would cost more than `most`."""
        room = max(0, most - len(self._stamp) - 1)
        if self.tokens <= room:
            return self
        text = self.text.encode()[:room].decode("utf-8", "ignore")
        return replace(self, text=text, tokens=len(text.encode()))

    @property
    def _stamp(self) -> str:
        return f"[{format_time(self.start)}-{format_time(self.end)}] "


@dataclass(frozen=True)
class VideoSummarize(Sampling, Task):
    """Say what happens in each video, and when."""

    question: str | None = opt(None, "Ask this instead of what happens.", metavar="TEXT")
    contact_sheet: Path | None = opt(
        None, "Write the frames looked at, with their times, as one picture.", metavar="FILE.jpg"
    )
    dry_run: bool = opt(False, "Show which frames would be looked at, and the tokens they are; no model runs.")

    reads = noun = "video"
    example = "video.mp4"
    blocks = True

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
        plain(self.question or "")

    @property
    def at_once(self) -> int:
        """Stretches and scenes are as many as there are; one prompt is long, and room for more would be memory lost."""
        return 0 if self.segment is not None or self.scene else 1

    @property
    def id_options(self) -> dict[str, Any]:
        """The question and the choice of frames."""
        return {"question": self.question or QUESTION, **id_options(self.sampling)}

    @property
    def is_plan(self) -> bool:
        """--dry-run."""
        return self.dry_run

    @property
    def sheet(self) -> Path | None:
        """--contact-sheet."""
        return self.contact_sheet

    @property
    def sampling(self) -> Sampling:
        """Which frames are looked at."""
        return Sampling(**{one.name: getattr(self, one.name) for one in fields(Sampling)})

    def steps(self, media: Media) -> Steps:
        spans = self.stretches(media)
        replies = yield [self._prompt(media, span, draft=len(spans) > 1) for span in spans]
        answered = [pair for pair in zip(spans, replies, strict=True) if pair[1].finish.fault is None]
        notes = [
            Note(span.start, span.end, reply.text, reply.finish.tokens.new, reply.data) for span, reply in answered
        ]
        last = notes[0] if len(notes) == 1 else (yield from self._summary(notes, media))
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
            "summary": last.text if last.data is None else last.data,
            "duration": media.duration,
            "segments": segments,
            "frames": len({frame.time for frame in media.frames}),  # one may be in two stretches
        }
        if self.contact_sheet is not None:
            data["contact_sheet"] = str(self.contact_sheet)
        lines = [note.line for note in notes] if len(notes) > 1 else []
        return Answer("\n\n".join([last.text, *(["\n".join(lines)] if lines else [])]), data)

    def stretches(self, media: Media) -> list[Span]:
        """The spans of a video, each cut into as few parts, of as many frames, as fit the context.

        Raises InputError of kind too-long where not even one frame fits beside the question, or two notes.
        """
        parts = [part for span in media.spans for part in self._parts(span, media)]
        assert media.limits is not None
        if len(parts) > 1 and media.limits.understands_text and self._notes_room(media.limits) < LEAST_NOTES:
            raise _too_long("notes", media.limits)
        return parts

    def tokens(self, media: Media, span: Span) -> int:
        """Of the prompt on a stretch of a video, at most."""
        assert media.limits is not None
        [turn] = self._prompt(media, span, draft=True).turns
        texts = sum(len(part.encode()) for part in turn.parts if isinstance(part, str))
        return TURN_BYTES + texts + (span.stop - span.first) * (media.limits.tile_tokens + PICTURE_MARKS)

    def _prompt(self, media: Media, span: Span, draft: bool) -> Prompt:
        parts = video_parts(media.frames[span.first : span.stop], media.duration)
        return Prompt.user(*parts, self.question or QUESTION, split=False, draft=draft)

    def _parts(self, span: Span, media: Media) -> list[Span]:
        """Equal parts of a span; frames cost most at its end, where their times are longest."""
        assert media.limits is not None
        count = span.stop - span.first
        one = self.tokens(media, replace(span, first=span.stop - 1))
        each = self.tokens(media, replace(span, first=max(span.first, span.stop - 2))) - one if count > 1 else 1
        most = 1 + (media.limits.prompt - one - NUMBER_BYTES) // each
        if one > media.limits.prompt:
            raise _too_long("frames", media.limits)
        pieces = math.ceil(count / max(1, most))
        firsts = [span.first + count * piece // pieces for piece in range(pieces + 1)]
        times = [media.frames[first].time or 0.0 for first in firsts[1:-1]]
        return [
            Span(*edges) for edges in zip([span.start, *times], [*times, span.end], firsts, firsts[1:], strict=False)
        ]

    def _notes_room(self, room: ModelLimits) -> int:
        """Tokens of the notes in one prompt."""
        return room.prompt - TURN_BYTES - len(NOTES.encode()) - len(self._ask_of_notes.encode())

    @property
    def _ask_of_notes(self) -> str:
        return self.question or SUMMARY

    def _summary(self, notes: Sequence[Note], media: Media) -> _Notes:
        """One note of many: of groups that fit a prompt, then of the notes on those.

        Of a model that reads no notes, what they say, one after the other.
        """
        assert media.limits is not None
        if not media.limits.understands_text:
            said = "; ".join(text for text, _ in groupby(note.text for note in notes))
            return Note(notes[0].start, notes[-1].end, said, 0)
        groups = _groups(notes, self._notes_room(media.limits))
        texts = ["\n".join(note.line for note in group) for group in groups]
        asked = [NOTES.format(notes=text, ask=self._ask_of_notes) for text in texts]
        replies = yield [Prompt.user(text, draft=len(groups) > 1) for text in asked]
        made = [
            Note(group[0].start, group[-1].end, reply.text, reply.finish.tokens.new, reply.data)
            for group, reply in zip(groups, replies, strict=True)
            if reply.finish.fault is None
        ]
        return made[0] if len(made) == 1 else (yield from self._summary(made, media))


def _too_long(what: str, room: ModelLimits) -> InputError:
    told = f"the question and the reply leave no room for {what} in the context of {room.context} tokens"
    return InputError(told, "shorten it, or lower --max-tokens", kind="too-long")


def _groups(notes: Sequence[Note], room: int) -> list[list[Note]]:
    """Neighbouring notes, as many as fit `room` tokens: two at least, so that there are ever fewer."""
    groups: list[list[Note]] = []
    for note in (one.within(room // 2) for one in notes):
        if groups and sum(one.cost for one in groups[-1]) + note.cost <= room:
            groups[-1].append(note)
        else:
            groups.append([note])
    return groups
