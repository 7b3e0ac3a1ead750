"""The options that several commands share, as frozen dataclasses; cli/dataclass_options.py makes a command of them.

A class is a panel of the help, under its `panel`. A field is an option, which its metadata describes: see
terminal/option_fields.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolcli import registry
from smolcli.errors import UsageError
from smolcli.terminal.option_fields import choice, complete_from, opt
from smolcli.terminal.words import enumerate_words

MAX_THREADS = 512  # GGML_MAX_N_THREADS of ggml.h
MAX_JOBS = 64
MAX_FRAMES = 100_000  # of a video, or of a segment of it
_SECONDS = re.compile(r"\d+(\.\d*)?|\.\d+")
DETAILS = ("low", "auto", "high")
DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTS = ("none", "int8", "int4", "nf4")  # of a checkpoint's matrices, while it is loaded


def complete_model_names(incomplete: str) -> list[str]:
    """Tell a shell the models whose names begin with what is typed."""
    return complete_from(registry.load(registry.ON_DEMAND, "models")())(incomplete)


def _titles(option: str) -> str:
    """The titles of the backends that take `option`, a field of Model."""
    return " and ".join(registry.BACKENDS[name].title for name in registry.backends_taking(option))


def parse_detail(word: str) -> str:
    """Parse the value of --detail: low, auto, high or a number of tiles."""
    if word in DETAILS or (word.isdecimal() and int(word) >= 1):
        return word
    raise UsageError(f"--detail {word} is not known", "choose low, auto, high or a number of tiles")


@dataclass(frozen=True)
class Model:
    """Which model runs, on which backend and device."""

    panel = "Model"
    is_shared = True

    model: str | None = opt(
        None,
        "A name from `smolcli models list`, a Hugging Face id, a directory or a .gguf file.",
        "-m",
        "--model",
        short=True,
        metavar="MODEL",
        show_default="the best model on this machine",
        autocompletion=complete_model_names,
        shared=True,
    )
    mmproj: Path | None = opt(
        None, "The mmproj (vision) file of a .gguf model.", metavar="FILE", show_default="the one beside the model"
    )
    backend: str = opt(
        "auto",
        f"What runs the model: {enumerate_words(('auto', *registry.backends()))}.\n"
        "auto is torch where a GPU is usable and the model's checkpoint is on this machine, else llamacpp; numpy, "
        "always installed, where neither can run the model.",
        "-b",
        "--backend",
        short=True,
        shared=True,
        **choice("backend", ("auto", *registry.backends()), unlisted=registry.BACKENDS),
    )
    device: str = opt(
        "auto",
        "auto, cpu, cuda (all GPUs) or cuda:N; PyTorch takes xpu and mps too, llama.cpp metal and vulkan.",
        id_key="device",
        shared=True,
        metavar="DEVICE",
    )
    dtype: str = opt(
        "auto",
        f"Number format: {enumerate_words(DTYPES)}; auto fits the device. For PyTorch and llamacpp's vision encoder.",
        id_key="dtype",
        shared=True,
        **choice("dtype", DTYPES),
    )
    quant: str = opt(
        "none",
        f"Quantize the language half while it is loaded: {enumerate_words(QUANTS)}; for {_titles('quant')} only.",
        id_key="quant",
        **choice("quant", QUANTS),
    )
    threads: int | None = opt(
        None,
        "CPU threads.",
        shared=True,
        min=1,
        max=MAX_THREADS,
        metavar="N",
        show_default="the CPU cores this process may use",
    )
    jobs: int | None = opt(
        None, "Answers to generate at the same time, on each device.", "-j", "--jobs", min=1, max=MAX_JOBS,
        metavar="N", show_default="by backend and memory",
    )  # fmt: skip
    vision_encoder: str = opt(
        "auto",
        f"What encodes pictures for llamacpp: {enumerate_words(('auto', *registry.VISION_ENCODERS))}. auto is openvino "
        "or torch where one is installed, and mtmd for a model as small as nano.",
        "--vision-engine",
        id_key="vision_engine",
        shared=True,
        **choice("vision engine", ("auto", *registry.VISION_ENCODERS), metavar="ENCODER"),
    )
    detail: str = opt(
        "auto",
        "low: one tile, fast; auto: no more than the picture has; high: most tiles, for small print; "
        "N: tiles on the longest edge.",
        id_key="detail",
        short=True,
        parser=parse_detail,
        metavar="DETAIL",
        autocompletion=complete_from(DETAILS),
    )
    offline: bool = opt(False, "Use no network, not even for the URLs given.", "--offline", shared=True)


@dataclass(frozen=True)
class Generate:
    """How the answer is generated."""

    panel = "Answer"
    is_shared = True

    max_tokens: int = opt(
        512,
        "End an answer after N tokens.",
        "-n",
        "--max-tokens",
        id_key="max_tokens",
        short=True,
        min=1,
        metavar="N",
        show_default="512 tokens",
    )
    min_tokens: int = opt(
        0, "Do not end an answer before N tokens.", id_key="min_tokens", min=0, metavar="N", show_default="0 tokens"
    )
    temperature: float = opt(
        0.0,
        "Randomness of the answer: 0 always takes the likeliest token, 1 samples as the model was trained.",
        id_key="temperature",
        min=0.0,
        max=100.0,
        metavar="T",
    )
    top_p: float = opt(
        1.0,
        "Sample among the likeliest tokens, which have the probability P together.",
        id_key="top_p",
        min=0.0,
        max=1.0,
        metavar="P",
        show_default="1, all tokens",
    )
    seed: int = opt(
        0, "Seed of the random numbers, with --temperature.", id_key="seed", min=0, max=2**32 - 1, metavar="N"
    )
    schema: str | None = opt(
        None,
        "Answer with a JSON object: 'vendor, total float', or a JSON Schema file.",
        "--schema",
        id_key="schema",
        short=True,
        metavar="SCHEMA",
    )

    def __post_init__(self) -> None:
        if self.min_tokens > self.max_tokens:
            message = f"--min-tokens {self.min_tokens} is more than --max-tokens {self.max_tokens}"
            raise UsageError(message, "lower the one or raise the other")
        if self.min_tokens and self.schema is not None:
            raise UsageError("an object of --schema ends where it is whole", "leave out --min-tokens")

    @property
    def has_length(self) -> bool:
        """Whether every answer has the same number of tokens, whatever the model says."""
        return self.min_tokens == self.max_tokens


@dataclass(frozen=True)
class Input:
    """What is opened."""

    panel = "Inputs"
    is_shared = True

    inputs: tuple[str, ...] = opt(
        (), "Files, directories, 'patterns', http(s) URLs, or - for standard input.", argument=True, metavar="INPUT..."
    )
    files_from: str | None = opt(
        None, "Read inputs from FILE, one path a line; - is standard input.", short=True, metavar="FILE"
    )
    null: bool = opt(False, "Paths of --files-from end with NUL, as those of `find -print0`.", "-0", "--null")
    recursive: bool = opt(True, "Leave out the subdirectories of a directory.", "--recursive/--no-recursive")
    follow_links: bool = opt(False, "In directories walk into links to folders too, into each folder once.")
    include: tuple[str, ...] = opt(
        (),
        "In directories take only files that match; repeatable.\n"
        "Neither kind nor case matters then; a pattern with a slash is matched against the path.",
        short=True,
        metavar="GLOB",
    )
    exclude: tuple[str, ...] = opt(
        (), "In directories leave out files and folders that match; repeatable.", metavar="GLOB"
    )
    shard: str | None = opt(
        None, "Take part I of N parts of the inputs, for job arrays: 1/4, 2/4, 3/4 and 4/4.", metavar="I/N"
    )
    watch: tuple[str, ...] = opt((), "Take the files in DIR, then wait for new ones; repeatable.", metavar="DIR")
    max_pixels: int = opt(
        200_000_000,
        "Refuse pictures of more than N pixels, before decoding them.",
        "--max-pixels",
        min=1,
        metavar="N",
        show_default="200 million pixels",
    )


def parse_time(word: str) -> float:
    """Parse a time in a video: seconds, MM:SS or H:MM:SS, with fractions.

    >>> parse_time("1:02:03.5")
    3723.5
    """
    parts = word.split(":")
    is_time = len(parts) <= 3 and all(part.isdecimal() for part in parts[:-1]) and _SECONDS.fullmatch(parts[-1])
    if not is_time or any(float(part) >= 60 for part in parts[1:]):
        raise UsageError(f"{word} is no time", "write seconds or H:MM:SS, as 75 or 1:15")
    return float(sum(float(part) * 60**place for place, part in enumerate(reversed(parts))))


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video the model sees."""

    panel = "Frames"

    frames: int | None = opt(
        None,
        "Take N frames, evenly spaced; with --segment or --scene, N of each part.",
        id_key="frames",
        short=True,
        excludes=("fps",),
        min=1,
        max=MAX_FRAMES,
        metavar="N",
        show_default="one a second, 4 to 50 in all, 4 to 8 of a part",
    )
    fps: float | None = opt(
        None,
        "Take N frames a second, instead of --frames.",
        id_key="fps",
        excludes=("frames",),
        min=1e-6,
        metavar="N",
    )
    segment: float | None = opt(
        None,
        "Describe parts of this length one by one: seconds or H:MM:SS.",
        id_key="segment",
        short=True,
        parser=parse_time,
        metavar="TIME",
    )
    scene: bool = opt(
        False, "Describe scenes one by one: cut where the whole picture changes.", "--scene", id_key="scene", short=True
    )
    start: float | None = opt(
        None, "Begin here: seconds or H:MM:SS.", id_key="start", short=True, parser=parse_time, metavar="TIME"
    )
    end: float | None = opt(
        None, "End here: seconds or H:MM:SS.", id_key="end", short=True, parser=parse_time, metavar="TIME"
    )
    decoder: str = opt(
        "av",
        f"What reads videos: {enumerate_words(tuple(registry.DECODERS))}; decord gives wrong frames of some files.",
        id_key="decoder",
        **choice("decoder", registry.DECODERS),
    )


def parse_suffix(word: str) -> str:
    """Parse the suffix of a sidecar file, with or without its dot; a known one in any case."""
    suffix = word if word.startswith(".") else f".{word}"
    return suffix.lower() if suffix.lower() in registry.SIDECARS else suffix


def _format_option(formats: Sequence[str]) -> Any:
    """Make --format, which offers `formats`; the others are parsed, and refused later with a reason."""
    return opt(
        None,
        f"How to write records: {enumerate_words(formats)}.",
        "-f",
        "--format",
        short=True,
        excludes=("template",),
        show_default="by the suffix of -o, else text",
        **choice("format", formats, unlisted=(*registry.WRITERS, *registry.FOREIGN_FORMATS)),
    )


def _sidecar_option(names: Sequence[str]) -> Any:
    """Make --sidecar, which offers `names`; the others are parsed, and refused later with a reason."""
    return opt(
        (),
        f"Write a file beside each input: {enumerate_words(names)}; repeatable.\n"
        "Any other suffix, as .caption, has text too. Without -f and -o there is no other output.",
        short=True,
        parser=parse_suffix,
        metavar="SUFFIX",
        autocompletion=complete_from(names),
    )


def _without_segments(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in registry.NEEDS_SEGMENTS)


@dataclass(frozen=True)
class Output:
    """Where answers go and how they are written."""

    panel = "Output"
    is_shared = True

    format: str | None = _format_option(_without_segments(registry.WRITERS))
    template: str | None = opt(
        None, "Write this line for each record: '{path}: {text}'.\n"
        "With --sidecar .txt it is their text. {text:json} is quoted for JSON.", short=True, excludes=("format",),
        metavar="TEXT",
    )  # fmt: skip
    output: Path | None = opt(
        None, "Write to FILE.", "-o", "--output", short=True, metavar="FILE", show_default="standard output"
    )
    sidecar: tuple[str, ...] = _sidecar_option(_without_segments(registry.SIDECARS))
    write_metadata: bool = opt(False, "Write text or tags into the pictures; needs exiftool.", "--write-metadata")
    out_dir: Path | None = opt(None, "Write sidecars below DIR, with the subdirectories of the inputs.", metavar="DIR")
    if_exists: str = opt(
        "skip",
        "Where a sidecar, or text in the picture, exists: skip the input, overwrite it, or make it an error.",
        **choice("--if-exists", ("skip", "overwrite", "error"), metavar="ACTION"),
    )
    no_progress: bool = opt(False, "Show no progress.", "--no-progress", shared=True)
    quiet: bool = opt(False, "Show errors only.", "-q", "--quiet", short=True, shared=True)
    verbose: bool = opt(False, "Show what the engine prints, and tracebacks.", "-v", "--verbose", shared=True)


@dataclass(frozen=True)
class VideoOutput(Output):
    """The same of a command whose answers have segments: subtitles and chapters too."""

    format: str | None = _format_option(tuple(registry.WRITERS))
    sidecar: tuple[str, ...] = _sidecar_option(registry.SIDECARS)


@dataclass(frozen=True)
class Batch:
    """How a run over many inputs goes on, and where."""

    panel = "Many inputs"
    is_shared = True

    resume: bool = opt(False, "Go on where the run that wrote -o FILE.jsonl ended.", "--resume", short=True)
    retry_failed: bool = opt(False, "With --resume: try failed inputs again.", "--retry-failed", short=True)
    dry_run: bool = opt(False, "Show what would be read and how long it may take; run no model.")
    fail_fast: bool = opt(False, "Stop at the first input that fails.", "--fail-fast")
    timeout: float = opt(
        600.0, "Give up an input after SECONDS of work on it.", min=0.001, metavar="SECONDS", show_default="600 seconds"
    )
    executor: str = opt(
        "local",
        "Where to run: local, on this machine, or ray, on a Ray cluster.",
        "--engine",
        **choice("engine", registry.EXECUTORS),
    )
    address: str | None = opt(
        None, "Address of the Ray cluster.", metavar="ADDRESS", show_default="a cluster started on this machine"
    )
