"""--dry-run of video-summarize: which frames of each video a run would show the model, and how many tokens they take.

No model is loaded; the engine's process opens the videos.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TextIO

from smolcli.engine.protocol import Work
from smolcli.errors import InputError
from smolcli.process.child import stream
from smolcli.records.sink import RecordSink
from smolcli.tasks.video_summarize import VideoSummarize
from smolcli.types import Fault, Item, Media, format_time, pluralize
from smolcli.writers.json_lines import as_line


def show(
    task: VideoSummarize, items: Iterable[Item], work: Work, output: TextIO, as_json: bool, sink: RecordSink
) -> None:
    """Writes the plan of every video to `output`, as text or as one JSON object a line, and counts it in `sink`."""
    videos = list(items)
    for item, media in zip(videos, stream("smolcli.engine.server:plans", videos, work), strict=True):
        try:
            if isinstance(media, Fault):
                raise InputError(media.message, kind=media.kind)
            plan = plan_of(task, item.path, media)
        except InputError as error:
            sink.count_outcome(item.path, Fault(error.kind, str(error)), ())
            continue
        sink.count_outcome(item.path, None, media.notices)
        output.write(f"{as_line(plan)}\n" if as_json else _text(plan))
        output.flush()


def plan_of(task: VideoSummarize, path: str, media: Media) -> dict[str, Any]:
    """The plan of a video as JSON: its segments, times in seconds, and how many tokens their prompts take at most.

    Raises InputError of kind too-long if not even one frame fits the model's context.
    """
    spans = task.segments(media)
    assert media.limits is not None
    segments = [
        {
            "start": span.start,
            "end": span.end,
            "tokens": task.tokens(media, span),
            "frames": [frame.time for frame in media.frames[span.first : span.stop]],
        }
        for span in spans
    ]
    return {
        "path": path,
        "duration": media.duration,
        "frames": len({frame.time for frame in media.frames}),
        "context": media.limits.context,
        "reply": media.limits.reply,
        "segments": segments,
    }


def _text(plan: dict[str, Any]) -> str:
    segments = plan["segments"]
    most_tokens = max(segment["tokens"] for segment in segments)
    length = f"{plan['duration']:.1f} s, {pluralize(plan['frames'], 'frame')}, {pluralize(len(segments), 'segment')}"
    limits = f"prompts of at most {most_tokens} tokens and replies of {plan['reply']} in a context of {plan['context']}"
    lines = [f"{plan['path']}: {length}; {limits}"]
    for segment in segments:
        times = " ".join(f"{time:.2f}" for time in segment["frames"])
        span = f"[{format_time(segment['start'])}-{format_time(segment['end'])}]"
        lines.append(f"{span} at most {segment['tokens']} tokens, frames at {times}")
    return "\n".join(lines) + "\n"
