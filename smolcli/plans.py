"""--dry-run: which frames of each video would be looked at, and the tokens they are; no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TextIO

from smolcli.child import stream
from smolcli.console import Console
from smolcli.errors import Exit
from smolcli.events import Work
from smolcli.tasks.video_summarize import VideoSummarize
from smolcli.types import Fault, Item, Media, clock


def show(
    task: VideoSummarize, items: Iterable[Item], work: Work, stdout: TextIO, as_json: bool, console: Console
) -> Exit:
    """Writes the plan of every video, as lines for people or as one JSON object a line."""
    listed = list(items)
    failed = 0
    for item, media in zip(listed, stream("smolcli.inside:plans", listed, work), strict=True):
        if isinstance(media, Fault):
            failed += 1
            console.error(f"{item.path}: {media.message}")
            continue
        for notice in media.notices:
            console.notice(f"{item.path}: {notice}")
        plan = plan_of(task, item.path, media)
        stdout.write(json.dumps(plan, ensure_ascii=False) + "\n" if as_json else _text(plan))
        stdout.flush()
    if not listed:
        return Exit.NO_INPUT
    return Exit.OK if not failed else Exit.ALL_FAILED if failed == len(listed) else Exit.SOME_FAILED


def plan_of(task: VideoSummarize, path: str, media: Media) -> dict[str, Any]:
    """A video's plan: its stretches with start, end, frames (all in seconds) and the most tokens of their prompts."""
    spans = task.stretches(media)
    assert media.room is not None
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
        "frames": len(media.frames),
        "context": media.room.context,
        "reply": media.room.reply,
        "segments": segments,
    }


def _text(plan: dict[str, Any]) -> str:
    segments = plan["segments"]
    most = max(segment["tokens"] for segment in segments)
    count = f"{len(segments)} segments" if len(segments) > 1 else "1 segment"
    length = f"{plan['duration']:.1f} s, {plan['frames']} frames, {count}"
    room = f"prompts of at most {most} tokens and replies of {plan['reply']} in a context of {plan['context']}"
    lines = [f"{plan['path']}: {length}; {room}"]
    for segment in segments:
        times = " ".join(f"{time:.2f}" for time in segment["frames"])
        stamp = f"[{clock(segment['start'])}-{clock(segment['end'])}]"
        lines.append(f"{stamp} at most {segment['tokens']} tokens, frames at {times}")
    return "\n".join(lines) + "\n"
