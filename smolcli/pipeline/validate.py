"""Checks options that contradict each other, before anything is opened."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from smolcli import registry
from smolcli.errors import UnavailableError, UsageError
from smolcli.inputs.collect import InputCollector, reads_path
from smolcli.inputs.walk import MEDIA
from smolcli.options import Batch, Input, Output
from smolcli.tasks.base import Task
from smolcli.types import is_url
from smolcli.writers.destination import STDOUT, format_of

if TYPE_CHECKING:
    pass


PLAN_FORMATS = ("text", "jsonl")


def _check(name: str, task: Task, input: Input, output: Output, batch: Batch) -> None:
    """Options that contradict each other."""
    words = (*input.inputs, *input.watch)
    asked = [each.name for each in fields(task) if each.metadata.get("argument")]
    if words.count("-") > 1:
        raise UsageError("standard input can be read once, and is named twice", "name it once")
    if not words and input.files_from is None:
        example = " ".join(("smolcli", name, *(f'"{each.upper()}"' for each in asked), task.example))
        raise UsageError("no input was given", f"{example}, a directory, or - for standard input")
    if "question" in asked and os.path.isfile(question := getattr(task, "question", "")):
        raise UsageError(
            f"{question} is a file, where the question should be", f'smolcli {name} "What is this?" {question}'
        )
    if output.output is not None and reads_path(input, output.output):
        raise UsageError(f"{output.output}: the input is also the output", "choose another file with -o")
    if output.output is not None and output.output.suffix.lower() in MEDIA and output.output.is_file():
        raise UsageError(f"{output.output}: is a picture or a video, by its name", "choose another file with -o")
    for kind in (_format(output), *output.sidecar):
        if kind in registry.NEEDS_SEGMENTS and task.reads != "video":
            raise UsageError(f"{kind} is for video-summarize", "choose text, json or jsonl")
    if _format(output) in registry.NEEDS_SEGMENTS and InputCollector(input).is_many:
        raise UsageError(f"{_format(output)} holds one video", "give one, or write one beside each: --sidecar .srt")
    if task.is_plan and (input.watch or batch.resume or output.sidecar or _format(output) not in PLAN_FORMATS):
        what = "--dry-run shows plans as text or jsonl, and writes no records"
        raise UsageError(what, "leave out --watch, --resume, --sidecar, --template and other formats")
    if task.sheet is not None:
        _check_sheet(task.sheet, input, output, batch)
    if task.together and input.watch:
        raise UsageError("--together waits for all inputs, and --watch for ever", "leave out one of them")
    if output.template is not None and output.format is not None:
        raise UsageError("--template is a format of its own", "leave out --format")
    if batch.resume and (_file(output) is None or _format(output) != "jsonl"):
        raise UsageError("--resume goes on with a file of records", "name it: -o results.jsonl")
    if batch.resume and output.output and output.output.exists() and not output.output.is_file():
        raise UsageError(f"{output.output}: is no file that could be resumed", "name another: -o results.jsonl")
    if batch.retry_failed and not batch.resume:
        raise UsageError("--retry-failed is for --resume", "add --resume -o results.jsonl")
    if output.out_dir is not None and not output.sidecar:
        raise UsageError("--out-dir is for sidecars", "add --sidecar .txt, or use -o FILE")
    if output.sidecar and ("-" in words or task.together):
        raise UsageError("--sidecar needs inputs with names of their own", "use -o FILE")
    if output.sidecar and output.out_dir is None and any(map(is_url, words)):
        raise UsageError("there is no place beside a URL for its sidecar", "add --out-dir DIR")
    if batch.address is not None and batch.engine != "ray":
        raise UsageError("--address is that of a Ray cluster", "add --engine ray")


def _check_decoder(name: str) -> None:
    try:
        registry.require(registry.DECODERS, name)
    except UnavailableError as error:
        advice = f"{error.advice}, or try --decoder ffmpeg"
        raise UnavailableError(f"videos cannot be read: {error.what}", advice) from None


def _check_sheet(file: Path, input: Input, output: Output, batch: Batch) -> None:
    if reads_path(input, file) or (output.output is not None and file.resolve() == output.output.resolve()):
        raise UsageError(f"{file}: is an input or the output", "choose another file with --contact-sheet")
    if InputCollector(input).is_many:
        raise UsageError("--contact-sheet is one picture, of one video", "give one video")
    if batch.engine != "local":
        raise UsageError(f"--contact-sheet is not made with --engine {batch.engine}", "leave out one of them")
    if file.suffix.lower() not in registry.CONTACT_SHEET_FORMATS:
        raise UsageError(f"{file}: is no name of a picture", "name it .jpg, .png or .webp")
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        raise UsageError(f"{file}: cannot be written", "is its folder there?")


def _file(output: Output) -> Path | None:
    """The file that records go to; None is standard output."""
    return None if output.output is None or str(output.output) in STDOUT else output.output


def _format(output: Output) -> str | None:
    """The format of the records; None where sidecars are all that is wanted."""
    if output.template is not None:
        return "template"
    if output.format is not None:
        return output.format
    if output.output is not None:
        return format_of(output.output, registry.WRITERS)
    return None if output.sidecar else "text"
