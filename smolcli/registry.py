"""The one list of what smolcli is made of; a line is loaded when it is chosen.

To add a task, backend, writer, reader or command: one file and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from smolcli.errors import UnavailableError, UsageError


@dataclass(frozen=True)
class Entry:
    """Where a thing lives, `module:attribute`, and the extra of the package that brings its libraries."""

    place: str
    extra: str = ""
    needs: tuple[str, ...] = ()


TASKS = {
    "caption": Entry("smolcli.tasks.caption:Caption"),
    "ask": Entry("smolcli.tasks.ask:Ask"),
    "ocr": Entry("smolcli.tasks.ocr:Ocr"),
    "video-summarize": Entry("smolcli.tasks.video_summarize:VideoSummarize"),
}
BACKENDS = {
    "torch": Entry("smolcli.backends.pytorch:PyTorch", "torch", ("torch", "transformers", "safetensors")),
    "llamacpp": Entry("smolcli.backends.llamacpp:LlamaCpp", "llamacpp", ("llama_cpp",)),
    "echo": Entry("smolcli.backends.echo:Echo"),
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
SHEETS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}  # contact sheets, and Pillow's name for them
READERS = {
    "image": Entry("smolcli.inputs.image:read"),
    "video": Entry("smolcli.inputs.video:Video"),
}
DECODERS = {
    "av": Entry("smolcli.inputs.decoders.pyav:PyAv", "video", ("av",)),
    "ffmpeg": Entry("smolcli.inputs.decoders.ffmpeg:Ffmpeg"),
    "decord": Entry("smolcli.inputs.decoders.decord:Decord", "decord", ("decord",)),
}
ENGINES = {
    "local": Entry("smolcli.answers:Answers"),
    "ray": Entry("smolcli.cluster.driver:Cluster", "ray", ("ray",)),
}
COMMANDS = {
    "convert-to-gguf": Entry("smolcli.commands.convert_to_gguf:convert_to_gguf"),
    "models": Entry("smolcli.commands.models:app"),
}
LIBRARIES = {
    "convert": Entry("smolcli.commands.conversion:convert", "convert", ("gguf", "safetensors")),
    "hub": Entry("smolcli.hub:pull"),
    "--dry-run": Entry("smolcli.plans:show"),
    "--resume": Entry("smolcli.results:Results"),
    "--schema": Entry("smolcli.backends.grammar:Grammar", "schema", ("llguidance",)),
    "fetch": Entry("smolcli.inputs.fetch:fetch"),
    "--watch": Entry("smolcli.inputs.watch:arrivals", "watch", ("watchfiles",)),
}


def installed(entry: Entry) -> bool:
    """Whether the libraries of `entry` are here, told without importing them."""
    return all(find_spec(library) for library in entry.needs)


def require(table: Mapping[str, Entry], name: str) -> str:
    """`name`, if its libraries are here; else an error with the command that installs them."""
    entry = table[name]
    for library in entry.needs:
        if find_spec(library) is None:
            raise _missing(name, entry, library)
    return name


def load(table: Mapping[str, Entry], name: str) -> Any:
    """The thing `name` of a table; a missing extra answers with the command that installs it."""
    if name not in table:
        raise UsageError(f"{name} is not known", f"choose one of {', '.join(table)}")
    entry = table[name]
    require(table, name)
    module, attribute = entry.place.split(":")
    return getattr(import_module(module), attribute)


def _missing(name: str, entry: Entry, library: str) -> UnavailableError:
    return UnavailableError(
        f"{name} needs the library {library}, which is not installed", f"pip install 'smolcli[{entry.extra}]'"
    )
