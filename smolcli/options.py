"""The shared options, one frozen dataclass a stage; cli/dataclass_options.py makes command-line options of the fields.

A field's metadata: `help` is its help text, `flags` its names where they are not the field's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolcli import registry
from smolcli.errors import UsageError

MOST_THREADS = 512  # GGML_MAX_N_THREADS of ggml.h
MOST_JOBS = 32
MOST_FRAMES = 100_000  # of a video, or of a segment of it
_SECONDS = re.compile(r"\d+(\.\d*)?|\.\d+")
DETAILS = ("low", "auto", "high")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def opt(default: Any, help: str, *flags: str, id_key: str | None = None, **more: Any) -> Any:
    """A dataclass field that is a command-line option; `more` is passed to typer.Option.

    An option that changes answers has an `id_key`, its name in a record's id. Neither the key nor the default may
    change later, or --resume would no longer find its records.
    """
    return field(default=default, metadata={"help": help, "flags": flags, "id_key": id_key, **more})


def one_of(what: str, names: Iterable[str], unsaid: Collection[str] = ()) -> Callable[[str], str]:
    """A parser for typer that takes one of `names`, whatever their case, or of those `unsaid`."""
    known = tuple(names)

    def parse(word: str) -> str:
        if word.lower() not in (*known, *unsaid):
            raise UsageError(f"{what} {word} is not known", f"choose one of {', '.join(known)}")
        return word.lower()

    return parse


def choice(what: str, names: Iterable[str], unsaid: Collection[str] = (), metavar: str = "") -> dict[str, Any]:
    """What makes an option take one of `names`; those `unsaid` are for developers."""
    known = tuple(names)
    parser = one_of(what, known, unsaid)
    return {"parser": parser, "metavar": metavar or "|".join(known), "autocompletion": completed(known)}


def completed(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Tells a shell which of `names` a word may become."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def model_names(incomplete: str) -> list[str]:
    """Tells a shell the models there are, where the word is no path."""
    return completed(registry.load(registry.LIBRARIES, "models")())(incomplete)


def detail(word: str) -> str:
    """A parser for typer of how finely pictures are cut."""
    if word in DETAILS or (word.isdecimal() and int(word) >= 1):
        return word
    raise UsageError(f"--detail {word} is not known", "choose low, auto, high or a number of tiles")


@dataclass(frozen=True)
class Model:
    """Which model runs, and on what."""

    model: str | None = opt(
        None, "Registry name, hub id, directory or .gguf file.", "-m", "--model", autocompletion=model_names
    )
    mmproj: Path | None = opt(None, "The vision half of a .gguf model, where it is not beside it.")
    backend: str = opt(
        "auto",
        "auto is torch where a GPU is usable and the model's checkpoint is here, else llamacpp, on the CPU.",
        "-b",
        "--backend",
        **choice("backend", ("auto", *registry.backends()), unsaid=registry.BACKENDS),
    )
    device: str = opt("auto", "auto, cpu, cuda, cuda:N or mps (PyTorch only).", id_key="device")
    dtype: str = opt(
        "auto",
        "What is computed with; auto fits the device (PyTorch, and the vision half beside llamacpp).",
        id_key="dtype",
        **choice("dtype", DTYPES),
    )
    threads: int | None = opt(None, "CPU threads; default: the cores this process may use.", min=1, max=MOST_THREADS)
    jobs: int | None = opt(
        None, "Answers at once (llamacpp only); default: by cores and memory.", "-j", "--jobs", min=1, max=MOST_JOBS
    )
    vision_engine: str = opt(
        "auto",
        "What encodes pictures for llamacpp; auto: openvino or torch, if installed; mtmd for a model as small as nano.",
        id_key="vision_engine",
        **choice("vision engine", ("auto", *registry.VISION_ENCODERS)),
    )
    detail: str = opt(
        "auto",
        "low: one tile; auto: never enlarge; high: as the reference processor; N: tiles on the longest edge.",
        id_key="detail",
        parser=detail,
        metavar="low|auto|high|N",
        autocompletion=completed(DETAILS),
    )
    offline: bool = opt(False, "Never touch the network.", "--offline")


@dataclass(frozen=True)
class Generate:
    """How the answer is decoded."""

    max_tokens: int = opt(512, "The most tokens of an answer.", "-n", "--max-tokens", id_key="max_tokens", min=1)
    min_tokens: int = opt(0, "The fewest: before them the model cannot end its answer.", id_key="min_tokens", min=0)
    temperature: float = opt(0.0, "0 is greedy; higher is more varied.", id_key="temperature", min=0.0, max=100.0)
    top_p: float = opt(
        1.0, "Sample from the smallest set of tokens with this probability.", id_key="top_p", min=0.0, max=1.0
    )
    seed: int = opt(0, "Seed of sampled answers.", id_key="seed", min=0, max=2**32 - 1)
    schema: str | None = opt(
        None,
        "The answer is one JSON object: 'vendor, total float', or a JSON Schema file.",
        "--schema",
        id_key="schema",
        metavar="SCHEMA",
    )

    def __post_init__(self) -> None:
        if self.min_tokens > self.max_tokens:
            told = f"--min-tokens {self.min_tokens} is more than --max-tokens {self.max_tokens}"
            raise UsageError(told, "lower the one or raise the other")
        if self.min_tokens and self.schema is not None:
            raise UsageError("an object of --schema ends where it is whole", "leave out --min-tokens")

    @property
    def has_length(self) -> bool:
        """Whether every answer has the same count of tokens, whatever they say."""
        return self.min_tokens == self.max_tokens


@dataclass(frozen=True)
class Input:
    """What is looked at."""

    inputs: tuple[str, ...] = opt(
        (),
        "Files, directories (what they hold of this kind), 'patterns', http(s) URLs, or - for standard input.",
        argument=True,
        metavar="INPUT...",
    )
    files_from: str | None = opt(None, "Read inputs from FILE, a path a line; - is standard input.", metavar="FILE")
    null: bool = opt(False, "The paths of --files-from end with NUL, as those of find -print0.", "-0", "--null")
    recursive: bool = opt(True, "Look into the folders of a directory.", "--recursive/--no-recursive")
    include: tuple[str, ...] = opt(
        (), "Of directories take what matches, whatever its suffix; with a slash the path is matched.", metavar="GLOB"
    )
    exclude: tuple[str, ...] = opt((), "Of directories leave out what matches, files and folders.", metavar="GLOB")
    shard: str | None = opt(None, "Take the I-th of N parts of the inputs, for job arrays: 1/4 ... 4/4.", metavar="I/N")
    watch: tuple[str, ...] = opt((), "Take the files in DIR and keep taking those that arrive.", metavar="DIR")
    max_pixels: int = opt(200_000_000, "Refuse larger pictures before decoding them.", "--max-pixels", min=1)


def moment(word: str) -> float:
    """A parser for typer of a time in a video: seconds, MM:SS or H:MM:SS, with fractions.

    >>> moment("1:02:03.5")
    3723.5
    """
    parts = word.split(":")
    is_time = len(parts) <= 3 and all(part.isdecimal() for part in parts[:-1]) and _SECONDS.fullmatch(parts[-1])
    if not is_time or any(float(part) >= 60 for part in parts[1:]):
        raise UsageError(f"{word} is no time", "write seconds or H:MM:SS, as 75 or 1:15")
    return float(sum(float(part) * 60**place for place, part in enumerate(reversed(parts))))


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are looked at."""

    frames: int | None = opt(
        None,
        "So many, evenly spaced; with --segment or --scene in each of them. Default: one a second, 4 to 50 in all, "
        "of a segment 4 to 8.",
        id_key="frames",
        min=1,
        max=MOST_FRAMES,
    )
    fps: float | None = opt(None, "So many a second, instead of --frames.", id_key="fps", min=1e-6)
    segment: float | None = opt(
        None, "A note on every so many seconds, or H:MM:SS.", id_key="segment", parser=moment, metavar="TIME"
    )
    scene: bool = opt(
        False, "A note on every scene: the video is cut where the picture changes at once.", "--scene", id_key="scene"
    )
    start: float | None = opt(None, "Begin at: seconds or H:MM:SS.", id_key="start", parser=moment, metavar="TIME")
    end: float | None = opt(None, "End at: seconds or H:MM:SS.", id_key="end", parser=moment, metavar="TIME")
    decoder: str = opt(
        "av",
        "What reads videos; decord gives wrong frames of some files.",
        id_key="decoder",
        **choice("decoder", registry.DECODERS),
    )


def suffixes(word: str) -> str:
    """A parser for typer of the suffix of a sidecar."""
    suffix = word if word.startswith(".") else f".{word}"
    return one_of("sidecar", registry.SIDECARS)(suffix)


@dataclass(frozen=True)
class Output:
    """What comes out."""

    format: str | None = opt(
        None,
        "How records are written; without it the suffix of -o decides, else text.",
        "-f",
        "--format",
        **choice("format", registry.WRITERS),
    )
    template: str | None = opt(None, "A line of your own for each record: '{path}: {text}'.", metavar="TEXT")
    output: Path | None = opt(None, "Write to FILE instead of standard output.", "-o", "--output", metavar="FILE")
    sidecar: tuple[str, ...] = opt(
        (),
        "Write a file beside each input; repeatable. Without -f, --template and -o there is no other output.",
        parser=suffixes,
        metavar="|".join(registry.SIDECARS),
        autocompletion=completed(registry.SIDECARS),
    )
    out_dir: Path | None = opt(None, "Write sidecars under DIR, the tree of folders kept.", metavar="DIR")
    if_exists: str = opt(
        "skip",
        "What to do where a sidecar exists.",
        **choice("choice", ("skip", "overwrite", "error")),
    )
    no_progress: bool = opt(False, "Show no progress.", "--no-progress")
    quiet: bool = opt(False, "Say nothing but errors.", "-q", "--quiet")
    verbose: bool = opt(False, "Show what the engine prints, and tracebacks.", "-v", "--verbose")


@dataclass(frozen=True)
class Batch:
    """Many inputs."""

    resume: bool = opt(False, "Go on where the run that wrote -o FILE.jsonl ended.", "--resume")
    retry_failed: bool = opt(False, "With --resume, try again what failed.", "--retry-failed")
    fail_fast: bool = opt(False, "Stop at the first input that fails.", "--fail-fast")
    timeout: float = opt(600.0, "Give up an input after so many seconds of work on it.", min=0.001, metavar="SECONDS")
    engine: str = opt(
        "local",
        "Where the work is done: on this machine, or on a Ray cluster.",
        **choice("engine", registry.EXECUTORS),
    )
    address: str | None = opt(None, "Of the Ray cluster; without it one is started here.", metavar="ADDRESS")
