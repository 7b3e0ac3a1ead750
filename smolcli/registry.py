"""The one list of what smolcli is made of; a line is loaded when it is chosen.

To add a task, backend, writer, reader or command: one file and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from smolcli.errors import UnavailableError, UsageError


class Entry(NamedTuple):
    """Where a thing lives, `module:attribute`, and the extra of the package that brings its libraries.

    `about` is the line of a command in the help of all: how its own help begins, without loading it.
    """

    place: str
    extra: str = ""
    needs: tuple[str, ...] = ()
    about: str = ""


class BackendEntry(NamedTuple):
    """A backend: as Entry, and what distinguishes it from the others, so that no other module compares names.

    `title` is its name for people. `file_format` is what it reads: a `checkpoint` directory, a `gguf` pair, or `any` of
    them. `uses_gpu` says whether it can compute on one. `options` are the fields of options.Model that not every
    backend takes and this one does; without "device" it computes on the CPU alone. A hidden one is for tests and dry
    runs: --backend takes it, and help, `auto` and doctor pass over it.
    """

    place: str
    extra: str = ""
    needs: tuple[str, ...] = ()
    title: str = ""
    file_format: Literal["checkpoint", "gguf", "any"] = "any"
    uses_gpu: bool = False
    options: frozenset[str] = frozenset()
    is_hidden: bool = False


AnyEntry = Entry | BackendEntry

TASKS = {
    "caption": Entry("smolcli.tasks.caption:Caption", about="Describe each image."),
    "ask": Entry("smolcli.tasks.ask:Ask", about="Answer a question about each image."),
    "ocr": Entry("smolcli.tasks.ocr:Ocr", about="Read the text in each image."),
    "video-summarize": Entry(
        "smolcli.tasks.video_summarize:VideoSummarize", about="Say what happens in each video, and when."
    ),
}
BACKENDS = {
    "torch": BackendEntry(
        "smolcli.backends.pytorch:PyTorch",
        "torch",
        ("torch", "transformers", "safetensors"),
        title="PyTorch",
        file_format="checkpoint",
        uses_gpu=True,
        options=frozenset({"device", "dtype"}),
    ),
    "llamacpp": BackendEntry(
        "smolcli.backends.llamacpp.backend:LlamaCpp",
        "llamacpp",
        ("llama_cpp", "gguf"),
        title="llama.cpp",
        file_format="gguf",
        options=frozenset({"dtype", "jobs", "vision_engine"}),
    ),
    "echo": BackendEntry(
        "smolcli.backends.echo:Echo",
        title="echo",
        options=frozenset({"device", "dtype", "jobs", "vision_engine"}),
        is_hidden=True,
    ),
}
VISION_ENCODERS = {  # encoders of pictures inside llamacpp, the fastest first
    "openvino": Entry("smolcli.backends.vision.openvino:OpenVinoEncoder", "openvino", ("openvino", "gguf")),
    "torch": Entry("smolcli.backends.vision.pytorch:TorchEncoder", "torch", ("torch", "gguf")),
    "mtmd": Entry("smolcli.backends.vision.mtmd:MtmdEncoder"),
}
WRITERS = {
    "text": Entry("smolcli.writers.text:Text"),
    "json": Entry("smolcli.writers.json_lines:Json"),
    "jsonl": Entry("smolcli.writers.json_lines:JsonLines"),
    "csv": Entry("smolcli.writers.table:Csv"),
    "tsv": Entry("smolcli.writers.table:Tsv"),
    "md": Entry("smolcli.writers.table:Markdown"),
    "srt": Entry("smolcli.writers.subtitles:Srt"),
    "vtt": Entry("smolcli.writers.subtitles:Vtt"),
    "chapters": Entry("smolcli.writers.subtitles:Chapters"),
}
SIDECARS = (".txt", ".json", ".xmp", ".srt", ".vtt")
NEEDS_SEGMENTS = ("srt", "vtt", "chapters", ".srt", ".vtt")  # formats and sidecars of video-summarize alone
CONTACT_SHEET_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
}  # contact sheets, and Pillow's name for them
READERS = {
    "image": Entry("smolcli.inputs.image:read"),
    "video": Entry("smolcli.inputs.video:Video"),
}
DECODERS = {
    "av": Entry("smolcli.inputs.decoders.pyav:PyAv", "video", ("av",)),
    "ffmpeg": Entry("smolcli.inputs.decoders.ffmpeg:Ffmpeg"),
    "decord": Entry("smolcli.inputs.decoders.decord:Decord", "decord", ("decord",)),
}
EXECUTORS = {
    "local": Entry("smolcli.executors.local:LocalExecutor"),
    "ray": Entry("smolcli.executors.ray.driver:RayExecutor", "ray", ("ray",)),
}
COMMANDS = {
    "convert-to-gguf": Entry(
        "smolcli.commands.convert_to_gguf.command:convert_to_gguf",
        about="Make a language GGUF and an mmproj GGUF of a SmolVLM, Idefics3 or docling checkpoint.",
    ),
    "bench": Entry(
        "smolcli.commands.bench:app",
        about="Measure speed, memory and quality of models, on this machine and on your data.",
    ),
    "models": Entry("smolcli.commands.models:app", about="List and fetch models."),
    "doctor": Entry(
        "smolcli.commands.doctor.command:doctor", about="Say what this machine lacks, and what to do about it."
    ),
}
LIBRARIES = {
    "models": Entry("smolcli.models.resolve:names"),
    "convert": Entry("smolcli.commands.convert_to_gguf.run:convert", "convert", ("gguf", "safetensors")),
    "pair": Entry("smolcli.converters:convert", "convert", ("gguf", "safetensors")),
    "bench speed": Entry("smolcli.bench.performance.run:speed"),
    "bench memory": Entry("smolcli.bench.performance.run:memory"),
    "bench quality": Entry("smolcli.bench.quality.run:quality", "bench", ("rapidfuzz",)),
    "bench compare": Entry("smolcli.bench.performance.run:compare"),
    "parquet": Entry("pyarrow.parquet:ParquetFile", "bench", ("pyarrow",)),
    "doctor": Entry("smolcli.commands.doctor.checks:checkup"),
    "page": Entry("smolcli.bench.report.html_page:page"),
    "plot": Entry("smolcli.bench.report.matplotlib_plots:plot", "plot", ("matplotlib",)),
    "hub": Entry("smolcli.models.hub:pull"),
    "--dry-run": Entry("smolcli.pipeline.dry_run:show"),
    "progress": Entry("smolcli.terminal.progress:Progress"),
    "--sidecar": Entry("smolcli.writers.sidecar:Sidecars"),
    "--resume": Entry("smolcli.records.resume:ResultsFile"),
    "--schema": Entry("smolcli.generation.grammar:Grammar", "schema", ("llguidance",)),
    "download": Entry("smolcli.inputs.download:download"),
    "--watch": Entry("smolcli.inputs.watch:watch_arrivals", "watch", ("watchfiles",)),
}


def backends(file_format: str | None = None) -> list[str]:
    """The backends that are offered to users, or those of them that read `file_format`."""
    return [
        name for name, entry in BACKENDS.items() if not entry.is_hidden and file_format in (None, entry.file_format)
    ]


def installed(entry: AnyEntry) -> bool:
    """Whether the libraries of `entry` are here, told without importing them."""
    return all(find_spec(library) for library in entry.needs)


def require(table: Mapping[str, AnyEntry], name: str) -> str:
    """`name`, if its libraries are here; else an error with the command that installs them."""
    entry = table[name]
    for library in entry.needs:
        if find_spec(library) is None:
            raise _missing(name, entry, library)
    return name


def load(table: Mapping[str, AnyEntry], name: str) -> Any:
    """The thing `name` of a table; a missing extra answers with the command that installs it."""
    if name not in table:
        raise UsageError(f"{name} is not known", f"choose one of {', '.join(table)}")
    entry = table[name]
    require(table, name)
    module, attribute = entry.place.split(":")
    return getattr(import_module(module), attribute)


def _missing(name: str, entry: AnyEntry, library: str) -> UnavailableError:
    return UnavailableError(
        f"{name} needs the library {library}, which is not installed", f"pip install 'smolcli[{entry.extra}]'"
    )
