"""--dry-run: what a run would read, what is done already, how many tokens it takes and how long that may be.

No model is loaded and nothing is written; a child process opens the inputs.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TextIO

from smolcli import registry
from smolcli.engine.protocol import OpenedPlan
from smolcli.errors import Exit, InputError
from smolcli.inputs.collect import InputCollector
from smolcli.models.chat_template import MARKER, UNSPLIT, Grid, Tile, segments
from smolcli.pipeline.conclude import conclude
from smolcli.pipeline.items import items_to_answer
from smolcli.pipeline.outputs import Outputs, make_companions
from smolcli.pipeline.request import Request
from smolcli.pipeline.run import EngineJob, write_contact_sheet
from smolcli.process.child import call, stream
from smolcli.records.pace import Pace, pace_of
from smolcli.records.resume import InputState
from smolcli.records.sink import RecordSink
from smolcli.tasks.video_summarize import VideoSummarize
from smolcli.terminal.console import Console
from smolcli.types import Fault, FrameRef, Item, Media, Prompt, Tokens, format_time, pluralize
from smolcli.writers.base import NullWriter
from smolcli.writers.json_lines import as_line

# What is said of an input that the model is not asked about, by its state.
STATES = {
    "done": "done before",
    "partly-failed": "done before, except pages that failed; --retry-failed reads it again",
    "failed": "failed before; --retry-failed tries it again",
    "same": "has the content of another input, and takes its answer",
    "left-alone": "left alone, since what would be written is there; --if-exists overwrite",
}
FINISHED = ("done", "partly-failed", "failed")  # those of an input that has its record
MAX_SIZES = 4  # of an input that are listed


class _Finished(NamedTuple):
    """An input that needs no answer, with its state, one of STATES."""

    path: str
    state: str


class _PlanSink(RecordSink):
    """Counts inputs, and lists them in their order: those to open, and those that are done."""

    def __init__(self, console: Console, output: TextIO) -> None:
        super().__init__(NullWriter(output), console)
        self.entries: list[Item | _Finished] = []

    def skip(self, path: str, state: InputState = "done", id: str = "") -> None:
        self.count_finished(state)
        self.entries.append(_Finished(path, state))

    def leave_alone(self, path: str) -> None:
        super().leave_alone(path)
        self.entries.append(_Finished(path, "left-alone"))

    def count_finished(self, state: InputState) -> None:
        """Count an input that has its record, which gives it this `state`."""
        self.skipped += 1
        self.failed_before += state == "failed"
        self.partly_failed += state == "partly-failed"


@dataclass
class _Totals:
    """Sums over the inputs that would be answered."""

    states: Counter[str] = field(default_factory=Counter)
    tokens: Tokens = Tokens()
    seconds: float = 0.0
    has_pieces: bool = False  # whether prompts are not known before the pictures are read


def show_plan(request: Request, inputs: InputCollector, job: EngineJob, stdout: TextIO, console: Console) -> Exit:
    """Write the plan of every input, as text or as one JSON object a line, and return the exit code.

    Raises ModelError for a model that cannot be read, UsageError for results that are no records.
    """
    as_json = request.output.format in ("json", "jsonl")
    sink, planner = _PlanSink(console, stdout), _Planner(request, job)
    with contextlib.ExitStack() as stack:
        outputs = Outputs(
            sink, make_companions(request, inputs, console), planner.results, has_many=True, is_terminal=False
        )
        for item in items_to_answer(request, inputs, outputs, stack):
            sink.entries.append(item)
    items = [entry for entry in sink.entries if isinstance(entry, Item)]
    for plan in planner.plans(sink, items):
        stdout.write(f"{as_line(plan)}\n" if as_json else _text(plan))
        stdout.flush()
    if passed_by := inputs.passed_by.describe(request.task.noun):
        console.notice(passed_by)
    if not sink.entries:
        return conclude(request, sink, console, time.monotonic())
    summary = planner.summary()
    if as_json:
        console.notice(summary)
    else:
        stdout.write(f"{summary}\n")
    if sink.exit_code == Exit.OK:
        write_contact_sheet(next(iter(items), None), request, job.work)
    return sink.exit_code


class _Planner:
    """Makes the plans of inputs, and their summary."""

    def __init__(self, request: Request, job: EngineJob) -> None:
        self._request, self._job = request, job
        file = request.record_file
        has_file = file is not None and file.is_file()
        self.results = None
        if request.batch.resume and has_file:  # as it is: a torn line is left there
            self.results = registry.load(registry.ON_DEMAND, "--resume")(file, job.identity)
            self.results.read()
        self._pace: Pace | None = pace_of(file, job.identity) if file is not None and has_file else None
        self._ids: set[str] = set()  # of the contents that would be answered
        self._totals = _Totals()

    def plans(self, sink: _PlanSink, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        """Yield the plan of every input in order, and count in `sink` those that cannot be opened too."""
        opened_plans = stream("smolcli.engine.plans:open_plans", items, self._job.work) if items else iter(())
        for entry in sink.entries:
            if isinstance(entry, _Finished):
                yield self._finished(entry.path, entry.state)
                continue
            opened = next(opened_plans)
            try:
                if isinstance(opened, Fault):
                    raise InputError(opened.message, kind=opened.kind)
                plan = self._plan(entry, opened)
            except InputError as error:
                self._totals.states["unreadable"] += 1
                sink.count_outcome(entry.path, Fault(error.kind, str(error)), ())
                continue
            if plan["state"] in FINISHED:
                sink.count_finished(plan["state"])
            else:
                sink.count_outcome(entry.path, None, opened.media.notices)
            yield plan

    def _finished(self, path: str, state: str) -> dict[str, Any]:
        self._totals.states[state] += 1
        return {"path": path, "state": state}

    def _plan(self, item: Item, opened: OpenedPlan) -> dict[str, Any]:
        """The plan of an input that was opened: its state and, if it is new, what the model is asked.

        Raises InputError if it does not fit the model.
        """
        content = opened.media.content
        id = self._job.identity.id_of(content.sha256)
        if self.results is not None:
            state = self.results.state_by_id(item.path, id, content.stamp)
            if self.results.is_skipped(state, self._request.batch.retry_failed):
                return self._finished(item.path, state)
        if id in self._ids or (self.results is not None and self.results.answer(id) is not None):
            self._totals.states["same"] += 1
            return {"path": item.path, "state": "same"}
        task = self._request.task
        details, tokens = (
            _video_details(task, opened.media) if isinstance(task, VideoSummarize) else self._picture_details(opened)
        )
        seconds = self._pace.seconds(tokens.image) if self._pace else None
        self._ids.add(id)
        self._totals.states["new"] += 1
        self._totals.tokens += tokens
        self._totals.seconds += seconds or 0.0
        return {"path": item.path, "state": "new", **details, "seconds": seconds and round(seconds, 3)}

    def _picture_details(self, opened: OpenedPlan) -> tuple[dict[str, Any], Tokens]:
        media, limits = opened.media, opened.media.limits
        assert limits is not None
        seen = media if self._job.work.asks_for_pages else replace(media, limits=None)  # as the engine gives it
        requests = next(self._request.task.steps(seen), [])
        prompts = [request for request in requests if isinstance(request, Prompt)]
        if len(prompts) < len(requests):
            self._totals.has_pieces = True
            sizes = [{"width": frame.width, "height": frame.height} for frame in media.frames]
            return {"pictures": sizes, "prompts": None, "tokens": None, "context": limits.context}, Tokens()
        grids = self._grids(prompts, opened)
        tokens = sum(map(partial(_tokens_of, limits.tile_tokens), prompts, grids), Tokens())
        tiles = _most_tiles(prompts, grids)
        pictures = [
            {"width": frame.width, "height": frame.height, "tiles": tiles.get(frame.index, grid.tiles)}
            for frame, grid in zip(media.frames, opened.grids, strict=True)
        ]
        counts = {"prompt": tokens.prompt, "image": tokens.image}
        return {"pictures": pictures, "prompts": len(prompts), "tokens": counts, "context": limits.context}, tokens

    def _grids(self, prompts: Sequence[Prompt], opened: OpenedPlan) -> list[tuple[Grid, ...]]:
        """How the pictures of each prompt are cut, as the run does: into fewer tiles where they would not fit."""
        by_index = {frame.index: grid for frame, grid in zip(opened.media.frames, opened.grids, strict=True)}
        grids = [
            tuple(by_index[frame.index] if prompt.split else UNSPLIT for frame in _references(prompt))
            for prompt in prompts
        ]
        limits = opened.media.limits
        assert limits is not None
        counts = map(partial(_tokens_of, limits.tile_tokens), prompts, grids)
        if any(count.prompt >= limits.context for count in counts):
            grids = call("smolcli.engine.plans:fit_pictures", prompts, self._job.work)
        return grids

    def summary(self) -> str:
        """What the whole run would do, in one line."""
        totals, noun = self._totals, self._request.task.noun
        counts = totals.states
        parts = [f"{counts['new']:,} of {pluralize(counts.total(), noun)} to answer"]
        parts += [f"{counts['done']:,} done before"] if counts["done"] else []
        parts += [f"{counts['failed']:,} failed before (--retry-failed)"] if counts["failed"] else []
        partly = counts["partly-failed"]
        parts += [f"{partly:,} with pages that failed before (--retry-failed)"] if partly else []
        parts += [f"{counts['left-alone']:,} left alone (--if-exists overwrite)"] if counts["left-alone"] else []
        parts += [f"{counts['same']:,} with the content of another"] if counts["same"] else []
        parts += [f"{counts['unreadable']:,} that cannot be read"] if counts["unreadable"] else []
        if not counts["new"]:
            return ", ".join(parts)
        tokens = f"prompts: at most {totals.tokens.prompt:,} tokens, {totals.tokens.image:,} of pictures"
        if totals.has_pieces:
            tokens = "prompts: pages are cut into pieces when they are read (--pieces)"
        reply = f"answers: at most {self._request.generate.max_tokens} each"
        time = "no earlier records to time it by"
        if self._pace is not None:
            duration = timedelta(seconds=round(totals.seconds))
            time = f"about {duration} by {pluralize(self._pace.records, 'earlier record')}"
        return f"{', '.join(parts)}; {tokens}; {reply}; {time}"


def _references(prompt: Prompt) -> list[FrameRef]:
    """The pictures of a prompt."""
    return [frame for frame in prompt.frames if isinstance(frame, FrameRef)]


def _most_tiles(prompts: Sequence[Prompt], grids: Sequence[Sequence[Grid]]) -> dict[int, int]:
    """The tiles of each picture by its index, in the prompt in which it has the most."""
    tiles: dict[int, int] = {}
    for prompt, prompt_grids in zip(prompts, grids, strict=True):
        for frame, grid in zip(_references(prompt), prompt_grids, strict=True):
            tiles[frame.index] = max(grid.tiles, tiles.get(frame.index, 0))
    return tiles


def _tokens_of(tile_tokens: int, prompt: Prompt, grids: Sequence[Grid]) -> Tokens:
    """The tokens of a prompt: those of pictures exactly, those of text as an upper bound, one a byte of it."""
    image = text = 0
    for part in segments(prompt, grids):
        if isinstance(part, Tile):
            image += tile_tokens
        else:
            text += len(MARKER.findall(part)) + len(MARKER.sub("", part).encode())
    return Tokens(image + text, image)


def _video_details(task: VideoSummarize, media: Media) -> tuple[dict[str, Any], Tokens]:
    """The segments of a video, times in seconds, and how many tokens their prompts take at most.

    Raises InputError of kind too-long if not even one frame fits the model's context.
    """
    spans = task.segments(media)
    assert media.limits is not None
    parts = [
        {
            "start": span.start,
            "end": span.end,
            "tokens": task.tokens(media, span),
            "frames": [frame.time for frame in media.frames[span.first : span.stop]],
        }
        for span in spans
    ]
    details = {
        "duration": media.duration,
        "frames": len({frame.time for frame in media.frames}),
        "context": media.limits.context,
        "reply": media.limits.reply,
        "segments": parts,
    }
    image = sum(span.stop - span.first for span in spans) * media.limits.tile_tokens
    return details, Tokens(sum(task.tokens(media, span) for span in spans), image)


def _text(plan: dict[str, Any]) -> str:
    """A plan as lines of text."""
    if plan["state"] != "new":
        return f"{plan['path']}: {STATES[plan['state']]}\n"
    duration = "" if plan["seconds"] is None else f", about {plan['seconds']:.1f} s"
    if "segments" in plan:
        return _video_text(plan, duration)
    pictures = _pictures_text(plan["pictures"])
    if plan["prompts"] is None:  # how many pieces a page has shows when it is read
        return f"{plan['path']}: {pictures}{duration}\n"
    prompts = pluralize(plan["prompts"], "prompt")
    return f"{plan['path']}: {pictures}; {prompts} of at most {plan['tokens']['prompt']:,} tokens{duration}\n"


def _pictures_text(pictures: Sequence[dict[str, int]]) -> str:
    """The sizes of a few pictures; of many how many there are, and the largest. Pages that are cut have no tiles."""
    sizes = [f"{picture['width']} x {picture['height']} pixels" for picture in pictures]
    if all("tiles" in picture for picture in pictures):
        tiles = (pluralize(picture["tiles"], "tile") for picture in pictures)
        sizes = [f"{size} in {count}" for size, count in zip(sizes, tiles, strict=True)]
    if len(sizes) <= MAX_SIZES:
        return ", ".join(sizes)
    largest = max(range(len(sizes)), key=lambda number: pictures[number]["width"] * pictures[number]["height"])
    return f"{pluralize(len(sizes), 'page')} of at most {sizes[largest]}"


def _video_text(plan: dict[str, Any], duration: str) -> str:
    parts = plan["segments"]
    most_tokens = max(part["tokens"] for part in parts)
    length = f"{plan['duration']:.1f} s, {pluralize(plan['frames'], 'frame')}, {pluralize(len(parts), 'segment')}"
    limits = f"prompts of at most {most_tokens} tokens and replies of {plan['reply']} in a context of {plan['context']}"
    lines = [f"{plan['path']}: {length}; {limits}{duration}"]
    for part in parts:
        times = " ".join(f"{time:.2f}" for time in part["frames"])
        span = f"[{format_time(part['start'])}-{format_time(part['end'])}]"
        lines.append(f"{span} at most {part['tokens']} tokens, frames at {times}")
    return "\n".join(lines) + "\n"
