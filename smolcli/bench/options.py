"""The options of `smolcli bench`, as options.py has those of the other commands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from smolcli import registry
from smolcli.errors import UsageError
from smolcli.options import DETAILS, DTYPES, MOST_THREADS, choice, completed, detail, opt

NO_PICTURE = "none"
SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")  # width and height in pixels
MOST_PIXELS = 100_000_000  # of a made picture, which takes twenty times as many bytes while it is made
FORMATS = ("text", "json", "jsonl", "csv", "md")
SUITES = ("docvqa", "textvqa", "chartqa", "ocrbench", "ai2d", "scienceqa", "mmstar", "mmmu")
METRICS = ("exact", "vqa", "anls", "relaxed", "choice", "contains", "cer", "wer", "mmmu")


@dataclass(frozen=True)
class Variants:
    """What is compared: every combination of these, each repeatable."""

    backend: tuple[str, ...] = opt(
        ("auto",),
        "auto is torch where a GPU is usable and the model's checkpoint is here, else llamacpp, on the CPU.",
        "-b",
        "--backend",
        **choice("backend", ("auto", *registry.backends()), unsaid=registry.BACKENDS),
    )
    quant: tuple[str, ...] = opt(
        (),
        "Of the language half for llama.cpp: the pair beside the model, else one made of its checkpoint for the time.",
        metavar="QUANT",
    )
    threads: tuple[int, ...] = opt((), "CPU threads; default: the cores this process may use.", min=1, max=MOST_THREADS)
    detail: tuple[str, ...] = opt(
        (),
        "How finely pictures are cut; default: auto, high where bench quality has a --suite.",
        parser=detail,
        metavar="low|auto|high|N",
        autocompletion=completed(DETAILS),
    )
    device: str = opt("auto", "auto, cpu, cuda, cuda:N or mps (PyTorch only).")
    dtype: str = opt(
        "auto",
        "What is computed with (PyTorch, and the vision half beside llamacpp).",
        **choice("dtype", DTYPES),
    )
    vision_engine: tuple[str, ...] = opt(
        ("auto",),
        "What encodes pictures for llamacpp; auto: openvino or torch, if installed; mtmd for a model as small as nano.",
        **choice("vision engine", ("auto", *registry.VISION_ENCODERS)),
    )


def picture(word: str) -> str:
    """A parser for typer of what --image takes: WxH in pixels, a file, a directory, or none."""
    size = SIZE.fullmatch(word)
    if size and int(size[1]) * int(size[2]) > MOST_PIXELS:
        raise UsageError(f"--image {word}: is more than {MOST_PIXELS:,} pixels", "choose a smaller size")
    if word == NO_PICTURE or size or os.path.exists(word):
        return word
    what = "is neither a file nor a size in pixels"
    raise UsageError(f"--image {word}: {what}", "write it as 1024x768, name a picture, or: none")


def seen(word: str) -> str:
    """The same where a picture is needed."""
    if word == NO_PICTURE:
        raise UsageError("--image none: the command takes pictures", "write a size as 1024x768, or name a picture")
    return picture(word)


def _cases(images: Iterable[str], batches: Iterable[int], lengths: Iterable[int]) -> list[tuple[str, int, int]]:
    """Every combination once; without a picture there is one prompt."""
    made = product(images, batches, lengths)
    return list(dict.fromkeys((image, batch if image != NO_PICTURE else 1, new) for image, batch, new in made))


@dataclass(frozen=True)
class Speed:
    """What is measured, and how often."""

    image: tuple[str, ...] = opt(
        ("1024x768",),
        "Of made pictures the size; or your own: a file, or a directory for as many as --batch. none: text alone.",
        parser=picture,
        metavar="WxH|PATH|none",
    )
    batch: tuple[int, ...] = opt((1,), "Pictures given at once.", min=1, max=4096)
    new_tokens: tuple[int, ...] = opt((64,), "Tokens of every answer, whatever it says.", min=1, max=100_000)
    prompt_tokens: int = opt(0, "Fill the text of the prompt up to so many tokens, pictures not counted.", min=0)
    repeat: int = opt(5, "Repetitions, of which the median is shown, and how far it may be off.", min=1, max=1000)
    warmup: int = opt(1, "Repetitions before them, which do not count.", min=0, max=1000)

    @property
    def cases(self) -> list[tuple[str, int, int]]:
        """Picture, batch and new tokens of each combination."""
        return _cases(self.image, self.batch, self.new_tokens)

    @property
    def ticks(self) -> int:
        """Of one setup."""
        return len(self.cases) * (self.warmup + self.repeat) + self.repeat


@dataclass(frozen=True)
class Memory:
    """What is measured, and how often."""

    image: tuple[str, ...] = opt(
        ("1024x768",),
        "Of made pictures the size; or your own: a file, or a directory for as many as --batch.",
        parser=seen,
        metavar="WxH|PATH",
    )
    batch: tuple[int, ...] = opt((1, 8, 64), "Pictures given at once.", min=1, max=4096)
    new_tokens: tuple[int, ...] = opt((64,), "Tokens of every answer, whatever it says.", min=1, max=100_000)
    repeat: int = opt(1, "Repetitions, of which the median is shown.", min=1, max=1000)

    @property
    def cases(self) -> list[tuple[str, int, int]]:
        """Picture, batch and new tokens of each combination."""
        return _cases(self.image, self.batch, self.new_tokens)

    @property
    def ticks(self) -> int:
        """Of one setup."""
        return len(self.cases) * self.repeat


@dataclass(frozen=True)
class Quality:
    """What is asked, and how it is scored."""

    suite: str | None = opt(
        None,
        "Ask and score as this published benchmark does.",
        **choice("suite", SUITES),
    )
    metric: str | None = opt(
        None,
        "Default: the suite's; choice where rows have choices, vqa where they have 4 answers or more, cer where "
        "nothing is asked but what is written, else exact.",
        **choice("metric", METRICS),
    )
    limit: int | None = opt(None, "Take the first N rows.", min=1, metavar="N")
    max_tokens: int = opt(512, "The most tokens of an answer.", "-n", "--max-tokens", min=1)
    worst: int = opt(12, "How many of the worst answers are shown in the report.", min=0, max=100)
    records: Path | None = opt(None, "Keep the record of every answer.", metavar="FILE.jsonl")
    resume: bool = opt(False, "Go on where the run that wrote --records ended.", "--resume")
    retry_failed: bool = opt(False, "With --resume, ask again what failed.", "--retry-failed")
    timeout: float = opt(600.0, "Give up a row after so many seconds of work on it.", min=0.001, metavar="SECONDS")

    offline: bool = opt(False, "Never fetch a picture that a row names by its URL.", "--offline")

    def __post_init__(self) -> None:
        if self.resume and self.records is None:
            raise UsageError("--resume goes on with a file of records", "name it: --records answers.jsonl")
        if self.retry_failed and not self.resume:
            raise UsageError("--retry-failed is for --resume", "add --resume --records answers.jsonl")


@dataclass(frozen=True)
class Show:
    """What comes out."""

    format: str | None = opt(
        None,
        "How the report is written; without it the suffix of -o decides, else text.",
        "-f",
        "--format",
        **choice("format", FORMATS),
    )
    output: Path | None = opt(None, "Write to FILE instead of standard output.", "-o", "--output", metavar="FILE")
    report: Path | None = opt(None, "Write a page with tables and plots too.", metavar="FILE.html")
    plot: Path | None = opt(None, "Write a plot too.", metavar="FILE.png|svg")
    no_progress: bool = opt(False, "Show no progress.", "--no-progress")
    quiet: bool = opt(False, "Say nothing but errors.", "-q", "--quiet")
    verbose: bool = opt(False, "Show what the engine prints, and tracebacks.", "-v", "--verbose")


@dataclass(frozen=True)
class Compare:
    """Two reports of one kind."""

    before: Path = opt(
        None, "The report that -o FILE.json made before.", argument=True, metavar="BEFORE.json", show_default=False
    )
    after: Path = opt(None, "The one made after.", argument=True, metavar="AFTER.json", show_default=False)
    tolerance: float = opt(
        0.05, "What may be worse: a share of times, rates and memory, of scores a difference.", min=0.0, max=1e6
    )
    format: str = opt("text", "How it is written.", "-f", "--format", **choice("format", ("text", "json")))
    output: Path | None = opt(None, "Write to FILE instead of standard output.", "-o", "--output", metavar="FILE")

    def __post_init__(self) -> None:
        if self.before is None or self.after is None:
            raise UsageError("two reports are compared", "smolcli bench compare before.json after.json")
