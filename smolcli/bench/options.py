"""The options of `smolcli bench`, as smolcli/options.py has those of the other commands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from smolcli.errors import UsageError
from smolcli.options import QUANTS, Batch, Generate, Model, Output
from smolcli.terminal.option_fields import choice, opt, same_as
from smolcli.terminal.words import enumerate_words

NO_PICTURE = "none"
SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")  # width and height in pixels
MAX_PIXELS = 100_000_000  # of a generated picture; generating one takes twenty times as many bytes
FORMATS = ("text", "jsonl", "csv", "md")  # besides --json
SUITES = ("docvqa", "textvqa", "chartqa", "ocrbench", "ai2d", "scienceqa", "mmstar", "mmmu", "ocr-pages")
METRICS = ("exact", "vqa", "anls", "relaxed", "choice", "contains", "cer", "wer", "mmmu")


@dataclass(frozen=True)
class Variants:
    """What is compared: every combination of these, each repeatable."""

    panel = "Configurations"

    backend: tuple[str, ...] = same_as(Model, "backend", default=("auto",))
    quant: tuple[str, ...] = opt(
        (),
        "Quantization of the language model for llama.cpp, or for NumPy with -b numpy: that pair where it is beside "
        "the model, else one that is converted from the checkpoint and deleted afterwards. int8, int4 or nf4: the "
        "checkpoint on PyTorch, quantized while it is loaded; none: not quantized.",
        metavar="QUANT",
    )
    threads: tuple[int, ...] = same_as(Model, "threads", default=())
    detail: tuple[str, ...] = same_as(
        Model,
        "detail",
        default=(),
        help="How finely pictures are cut: low, auto, high or a number of tiles on the longest edge; repeatable.",
        show_default="auto, and high with --suite",
        shared=False,
    )
    device: str = same_as(Model, "device")
    dtype: str = same_as(Model, "dtype")
    vision_encoder: tuple[str, ...] = same_as(Model, "vision_encoder", default=("auto",))

    @property
    def loaded_quants(self) -> tuple[str, ...]:
        """Those of --quant, each once, in which a checkpoint is loaded."""
        return tuple(quant for quant in dict.fromkeys(self.quant) if quant in QUANTS)

    @property
    def pair_quants(self) -> tuple[str, ...]:
        """Those of --quant, each once, that are quantizations of GGUF pairs."""
        return tuple(quant for quant in dict.fromkeys(self.quant) if quant not in QUANTS)


def parse_image_or_none(word: str) -> str:
    """Parse a value of --image: WxH in pixels, a file, a directory, or `none`. Raises UsageError for anything else."""
    size = SIZE.fullmatch(word)
    if size and int(size[1]) * int(size[2]) > MAX_PIXELS:
        raise UsageError(f"--image {word}: is more than {MAX_PIXELS:,} pixels", "choose a smaller size")
    if word == NO_PICTURE or size or os.path.exists(word):
        return word
    raise UsageError(
        f"--image {word}: is neither a file nor a size in pixels", "write it as 1024x768, name a picture, or: none"
    )


def parse_image(word: str) -> str:
    """Parse a value of --image for a command that needs a picture: as parse_image_or_none, but not `none`."""
    if word == NO_PICTURE:
        raise UsageError("--image none: the command takes pictures", "write a size as 1024x768, or name a picture")
    return parse_image_or_none(word)


def _cases(images: Iterable[str], batches: Iterable[int], lengths: Iterable[int]) -> list[tuple[str, int, int]]:
    """Every combination of picture, batch and new tokens once; the batch of text alone is 1."""
    combinations = product(images, batches, lengths)
    return list(dict.fromkeys((image, batch if image != NO_PICTURE else 1, new) for image, batch, new in combinations))


@dataclass(frozen=True)
class Speed:
    """What is measured, and how often."""

    panel = "Measurement"

    image: tuple[str, ...] = opt(
        ("1024x768",),
        "Size of generated pictures, or your own: a file, or a directory with as many as --batch; none: text alone.",
        parser=parse_image_or_none,
        metavar="WxH|PATH|none",
    )
    batch: tuple[int, ...] = opt((1,), "Pictures given at once.", min=1, max=4096)
    new_tokens: tuple[int, ...] = opt((64,), "Tokens of every answer, whatever it says.", min=1, max=100_000)
    prompt_tokens: int = opt(0, "Pad the text of the prompt to this many tokens, those of pictures not counted.", min=0)
    repeat: int = opt(5, "Measured repetitions; the report has their median and its interval.", min=1, max=1000)
    warmup: int = opt(1, "Repetitions before them that are not measured.", min=0, max=1000)

    @property
    def cases(self) -> list[tuple[str, int, int]]:
        """Picture, batch and new tokens of each combination."""
        return _cases(self.image, self.batch, self.new_tokens)

    @property
    def ticks(self) -> int:
        """Steps of the progress bar for one configuration: its repetitions, and the cold starts."""
        return len(self.cases) * (self.warmup + self.repeat) + self.repeat


@dataclass(frozen=True)
class Memory:
    """What is measured, and how often."""

    panel = "Measurement"

    image: tuple[str, ...] = opt(
        ("1024x768",),
        "Size of generated pictures, or your own: a file, or a directory with as many as --batch.",
        parser=parse_image,
        metavar="WxH|PATH",
    )
    batch: tuple[int, ...] = same_as(Speed, "batch", default=(1, 8, 64))
    new_tokens: tuple[int, ...] = same_as(Speed, "new_tokens")
    repeat: int = same_as(Speed, "repeat", default=1)

    @property
    def cases(self) -> list[tuple[str, int, int]]:
        """Picture, batch and new tokens of each combination."""
        return _cases(self.image, self.batch, self.new_tokens)

    @property
    def ticks(self) -> int:
        """Steps of the progress bar for one configuration: its repetitions."""
        return len(self.cases) * self.repeat


@dataclass(frozen=True)
class Quality:
    """What is asked, and how it is scored."""

    panel = "Scoring"

    suite: str | None = opt(
        None, f"Ask and score as this benchmark does: {enumerate_words(SUITES)}.", **choice("--suite", SUITES)
    )
    metric: str | None = opt(
        None,
        f"How answers are scored: {enumerate_words(METRICS)}.",
        show_default="the suite's; without one choice for rows with choices, vqa for rows with 4 answers or more, cer "
        "for rows without a question, else exact",
        **choice("--metric", METRICS),
    )
    split: str | None = opt(
        None, "Take the rows alone that have NAME in the column split, as validation.", metavar="NAME"
    )
    limit: int | None = opt(None, "Take the first N rows.", min=1, metavar="N")
    max_tokens: int = same_as(Generate, "max_tokens")
    worst: int = opt(12, "How many of the worst answers the report shows.", min=0, max=100)
    records: Path | None = opt(None, "Write the record of every answer to FILE.", metavar="FILE.jsonl")
    resume: bool = same_as(Batch, "resume", help="Continue the run that wrote --records.")
    retry_failed: bool = same_as(Batch, "retry_failed")
    timeout: float = same_as(Batch, "timeout", help="Give up a row after this many seconds of work on it.")
    offline: bool = same_as(Model, "offline", help="Do not download pictures that rows name by URL.")

    def __post_init__(self) -> None:
        if self.resume and self.records is None:
            raise UsageError("--resume continues a file of records", "name it: --records answers.jsonl")
        if self.retry_failed and not self.resume:
            raise UsageError("--retry-failed needs --resume", "add --resume --records answers.jsonl")


@dataclass(frozen=True)
class Show:
    """What comes out."""

    panel = "Output"

    format: str | None = same_as(
        Output,
        "format",
        help=f"Format of the report: {enumerate_words(FORMATS)}.",
        excludes=("as_json",),
        **choice("format", FORMATS),
    )
    as_json: bool = opt(
        False, "Write the report as one JSON object, which bench compare reads.", "--json", excludes=("format",)
    )
    output: Path | None = same_as(Output, "output")
    report: Path | None = opt(None, "Write an HTML page with tables and plots too.", metavar="FILE.html")
    plot: Path | None = opt(None, "Write a plot too.", metavar="FILE.png|svg")
    no_progress: bool = same_as(Output, "no_progress")
    quiet: bool = same_as(Output, "quiet")
    verbose: bool = same_as(Output, "verbose")

    def __post_init__(self) -> None:
        if self.as_json and self.format is not None:
            raise UsageError(f"--json and --format {self.format} are two formats", "leave out one of them")


@dataclass(frozen=True)
class Compare:
    """Two reports of one kind."""

    panel = "Inputs"

    before: Path = opt(
        None, "Report of the earlier run, made by -o FILE.json.", argument=True, metavar="BEFORE.json",
        show_default=False,
    )  # fmt: skip
    after: Path = opt(None, "Report of the later run.", argument=True, metavar="AFTER.json", show_default=False)
    tolerance: float = opt(
        0.05,
        "How much worse a figure may be: a fraction of times, rates and memory, a difference of scores.",
        min=0.0,
        max=1e6,
    )
    as_json: bool = opt(False, "Write one JSON object.", "--json")
    output: Path | None = same_as(Output, "output")

    def __post_init__(self) -> None:
        if self.before is None or self.after is None:
            raise UsageError("two reports are compared", "smolcli bench compare before.json after.json")
