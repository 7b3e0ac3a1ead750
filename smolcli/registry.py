"""The tables of tasks, backends, writers, readers and commands; an entry is imported only when it is used.

To add one: a file, and a line here. docs/contributing.md has an example of each.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from smolcli.errors import UnavailableError, UsageError


class Entry(NamedTuple):
    """Where an object lives (`module:attribute`), which libraries it `needs`, and the extra that installs them.

    `program` is one that it starts, which no extra installs. `about` is a command's line in the root help, so that the
    command need not be imported for it, and `group` the heading there of a command that is no task. `options` are the
    fields of records.layout.Layout that a writer takes, `title` is its name in messages, where it has one.
    """

    target: str
    extra: str = ""
    needs: tuple[str, ...] = ()
    about: str = ""
    group: str = "Tools"
    options: frozenset[str] = frozenset()
    title: str = ""
    program: str = ""


class BackendEntry(NamedTuple):
    """The entry of a backend, with what differs between backends as data: no other module compares their names.

    `other_families` is what `target` is, for GGUF pairs that are not of smolcli's own family; empty, it runs none.
    `title` is its name in messages. `file_format` is what it reads: a `checkpoint` directory, a `gguf` pair, or `any`.
    `options` are the fields of options.Model that this backend accepts and others may not, and `gpu_kinds` the kinds of
    GPUs that --device may name; where there are none, the backend checks --device itself. `uses_gpu` says that
    `--backend auto` takes it first where there is a GPU. A reference backend is in every installation and slower than
    others: `auto` takes it where no other can run the model. A hidden backend is for tests and dry runs: --backend
    accepts it; help, `auto` and doctor leave it out.
    `machine_facts` names a function that reports what only this backend knows of the machine, and `source_build` the
    distribution that pip can build for this CPU if the prebuilt one crashes. `preload` names a function that the engine
    calls before it imports the backend, and `loading_error` one that returns why its libraries, which are installed,
    cannot be loaded (None where they can): `auto` takes another backend then. `lists_devices` names a function from
    --device to the devices for which it stands, each of which may have an engine, and `names_device` one from --device
    and the bytes of the vision half to the device that is used, for reports.
    """

    target: str
    extra: str = ""
    needs: tuple[str, ...] = ()
    other_families: str = ""
    title: str = ""
    file_format: Literal["checkpoint", "gguf", "any"] = "any"
    uses_gpu: bool = False
    gpu_kinds: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    is_reference: bool = False
    is_hidden: bool = False
    machine_facts: str = ""
    source_build: str = ""
    preload: str = ""
    loading_error: str = ""
    lists_devices: str = ""
    names_device: str = ""


AnyEntry = Entry | BackendEntry

TASKS = {
    "caption": Entry("smolcli.tasks.caption:Caption", about="Describe each picture."),
    "ask": Entry("smolcli.tasks.ask:Ask", about="Answer a question about each picture."),
    "ocr": Entry("smolcli.tasks.ocr:Ocr", about="Read the text in each picture, on every page."),
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
        gpu_kinds=("cuda", "xpu", "mps"),
        options=frozenset({"device", "dtype", "quant"}),
        machine_facts="smolcli.backends.pytorch_device:machine_facts",
        lists_devices="smolcli.backends.pytorch_device:engine_devices",
    ),
    "llamacpp": BackendEntry(
        "smolcli.backends.llamacpp.backend:LlamaCpp",
        "llamacpp",
        ("llama_cpp",),
        other_families="smolcli.backends.llamacpp.mtmd_model:MtmdModel",
        title="llama.cpp",
        preload="smolcli.backends.llamacpp.bindings:load_llama_cpp",
        loading_error="smolcli.backends.llamacpp.load_probe:loading_error",
        file_format="gguf",
        gpu_kinds=("cuda", "metal", "vulkan"),
        options=frozenset({"device", "dtype", "vision_encoder"}),
        machine_facts="smolcli.backends.llamacpp.devices:machine_facts",
        source_build="llama-cpp-python",
        lists_devices="smolcli.backends.llamacpp.devices:engine_devices",
        names_device="smolcli.backends.llamacpp.devices:device_name",
    ),
    "numpy": BackendEntry(
        "smolcli.backends.numpy_reference:NumPy",
        title="NumPy",
        is_reference=True,
    ),
    "echo": BackendEntry(
        "smolcli.backends.echo:Echo",
        title="echo",
        options=frozenset({"device", "dtype", "quant", "vision_encoder"}),
        is_hidden=True,
    ),
}
VISION_ENCODERS = {  # encoders of pictures inside llamacpp, the fastest first
    "openvino": Entry("smolcli.backends.vision.openvino:OpenVinoEncoder", "openvino", ("openvino",)),
    "torch": Entry("smolcli.backends.vision.pytorch:TorchEncoder", "torch", ("torch",)),
    "mtmd": Entry("smolcli.backends.vision.mtmd:MtmdEncoder"),
}
WRITERS = {
    "text": Entry("smolcli.writers.text:Text"),
    "json": Entry("smolcli.writers.json_lines:Json", options=frozenset({"fields"})),
    "jsonl": Entry("smolcli.writers.json_lines:JsonLines", options=frozenset({"fields"})),
    "csv": Entry("smolcli.writers.table:Csv", options=frozenset({"fields", "bom", "safe_csv"})),
    "tsv": Entry("smolcli.writers.table:Tsv", options=frozenset({"fields", "bom", "safe_csv"})),
    "md": Entry("smolcli.writers.table:Markdown"),
    "srt": Entry("smolcli.writers.subtitles:Srt"),
    "vtt": Entry("smolcli.writers.subtitles:Vtt"),
    "chapters": Entry("smolcli.writers.subtitles:Chapters"),
}
TABLE_WRITERS = {  # of tasks whose answers are tables: their rows, and nothing else
    "csv": Entry("smolcli.writers.table_rows:CsvTables", options=frozenset({"bom", "safe_csv"})),
    "tsv": Entry("smolcli.writers.table_rows:TsvTables", options=frozenset({"bom", "safe_csv"})),
}
# Suffixes of files that -o cannot write, with what to write in their place.
FOREIGN_FORMATS = {
    **dict.fromkeys(("xlsx", "xlsm", "xls", "ods", "numbers"), "spreadsheets open -f csv --bom, as -o results.csv"),
    **dict.fromkeys(("parquet", "feather", "db", "sqlite"), "their programs read -f jsonl or csv, as -o results.jsonl"),
    "html": "ocr --layout html writes it; other programs make it of -f md, as -o results.md",
    **dict.fromkeys(("pdf", "docx", "odt"), "other programs make it of -f md, as -o results.md"),
    **dict.fromkeys(("xml", "yaml", "yml", "toml"), "choose -f json, as -o results.json"),
}
# Suffixes of sidecars; any other stands for text. And the formats and sidecars that only video-summarize can write.
SIDECARS = (".txt", ".json", ".xmp", ".srt", ".vtt")
TEXT_SIDECAR = ".txt"
NEEDS_SEGMENTS = ("srt", "vtt", "chapters", ".srt", ".vtt")
CONTACT_SHEET_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}  # suffix: Pillow's format
READERS = {
    "image": Entry("smolcli.inputs.image:Picture"),
    "video": Entry("smolcli.inputs.video:Video"),
    "document": Entry("smolcli.inputs.pdf:Pdf", "pdf", ("pypdfium2",)),  # or a picture file, of one or several pages
}
DECODERS = {
    "av": Entry("smolcli.inputs.decoders.pyav.decoder:PyAv", "video", ("av",), title="PyAV"),
    "ffmpeg": Entry("smolcli.inputs.decoders.ffmpeg:Ffmpeg", title="ffmpeg", program="ffmpeg"),
    "decord": Entry("smolcli.inputs.decoders.decord:Decord", "decord", ("decord",), title="Decord"),
}
EXECUTORS = {
    "local": Entry("smolcli.executors.local:LocalExecutor"),
    "ray": Entry("smolcli.executors.ray.driver:RayExecutor", "ray", ("ray",)),
}
COMMANDS = {
    "models": Entry("smolcli.commands.models:app", about="List, download, describe and remove models.", group="Models"),
    "convert-to-gguf": Entry(
        "smolcli.commands.convert_to_gguf.command:convert_to_gguf",
        about="Convert a checkpoint to a pair of GGUF files.",
        group="Models",
    ),
    "bench": Entry(
        "smolcli.commands.bench:app", about="Measure the speed, memory and quality of models.", group="Models"
    ),
    "records": Entry(
        "smolcli.commands.records.command:records", about="Write the records of runs in any format, filtered."
    ),
    "config": Entry("smolcli.commands.config.command:app", about="Show and set the defaults of options."),
    "doctor": Entry(
        "smolcli.commands.doctor.command:doctor", about="Check what this machine lacks, and how to fix it."
    ),
    "help": Entry("smolcli.commands.help:show_help", about="Show every option of a command, or a topic."),
}
ON_DEMAND = {
    "models": Entry("smolcli.models.resolve:model_names"),
    "convert": Entry("smolcli.commands.convert_to_gguf.run:convert", "convert", ("safetensors",)),
    "pair": Entry("smolcli.converters:convert", "convert", ("safetensors",)),
    "config set": Entry("smolcli.commands.config.edit:edit", needs=("tomlkit",)),
    "bench speed": Entry("smolcli.bench.performance.run:speed"),
    "bench memory": Entry("smolcli.bench.performance.run:memory"),
    "bench quality": Entry("smolcli.bench.quality.run:quality", "bench", ("rapidfuzz",)),
    "bench compare": Entry("smolcli.bench.performance.run:compare"),
    "parquet": Entry("pyarrow.parquet:ParquetFile", "bench", ("pyarrow",)),
    "records": Entry("smolcli.commands.records.run:write_records"),
    "doctor": Entry("smolcli.commands.doctor.checks:checkup"),
    "page": Entry("smolcli.bench.report.html_page:page"),
    "plot": Entry("smolcli.bench.report.matplotlib_plots:plot", "plot", ("matplotlib",)),
    "hub": Entry("smolcli.models.hub:pull"),
    "--dry-run": Entry("smolcli.pipeline.dry_run:show_plan"),
    "sizes of pictures": Entry("smolcli.inputs.picture_size:read_sizes"),
    "progress": Entry("smolcli.terminal.progress:Progress"),
    "--sidecar": Entry("smolcli.writers.sidecar:Sidecars"),
    "answers about pages": Entry("smolcli.tasks.page_answer:make_answer"),
    "text of DocTags": Entry("smolcli.tasks.page_forms.from_reply:text_so_far"),
    "--searchable": Entry("smolcli.tasks.page_forms.searchable:Searchable", "searchable", ("pikepdf",)),
    "--write-metadata": Entry("smolcli.writers.picture_metadata:PictureMetadata"),
    "exiftool": Entry("smolcli.writers.picture_metadata:require_exiftool"),
    "companions": Entry("smolcli.writers.companions:Companions"),
    "--resume": Entry("smolcli.records.resume:ResultsFile"),
    "replaced records": Entry("smolcli.records.resume:replaced_records"),
    "a model of another family": Entry("smolcli.backends.llamacpp.supported:unknown_part", "llamacpp", ("llama_cpp",)),
    "--schema": Entry("smolcli.generation.grammar:Grammar", "schema", ("llguidance",)),
    "download": Entry("smolcli.inputs.download:download", needs=("httpx2",)),
    "--watch": Entry("smolcli.inputs.watch:watch_arrivals", "watch", ("watchfiles",)),
}


def is_text_sidecar(suffix: str) -> bool:
    """Whether a sidecar of this suffix holds the text of the answer."""
    return suffix == TEXT_SIDECAR or suffix not in SIDECARS


def backends(file_format: str | None = None) -> list[str]:
    """The names of the backends that are not hidden; with `file_format` only of those that read it."""
    return [
        name for name, entry in BACKENDS.items() if not entry.is_hidden and file_format in (None, entry.file_format)
    ]


def backends_taking(option: str) -> list[str]:
    """The names of the backends that are not hidden and accept `option`, a field of options.Model."""
    return [name for name in backends() if option in BACKENDS[name].options]


def backends_using(device: str) -> list[str]:
    """The names of the backends that are not hidden and can use `device`, a value of --device that names a GPU."""
    return [name for name in backends() if device.partition(":")[0] in BACKENDS[name].gpu_kinds]


def backend_of(target: str) -> str:
    """The name of the backend whose class is at `target`; `target` itself where none is."""
    names = (name for name, entry in BACKENDS.items() if target in (entry.target, entry.other_families))
    return next(names, target)


def installed(entry: AnyEntry) -> bool:
    """Whether what `entry` needs is installed; libraries are found without importing them."""
    return all(find_spec(library) for library in entry.needs) and _has_program(entry)


def require(table: Mapping[str, AnyEntry], name: str) -> str:
    """Gives `name` back if what it needs is installed. Raises UnavailableError with the command that installs it."""
    entry = table[name]
    for library in entry.needs:
        if find_spec(library) is None:
            raise _missing(name, entry, library)
    if isinstance(entry, Entry) and not _has_program(entry):
        message = f"{name} needs the program {entry.program}, which is not installed"
        raise UnavailableError(message, f"install {entry.program}")
    return name


def load(table: Mapping[str, AnyEntry], name: str) -> Any:
    """Imports the object called `name` in `table`.

    Raises UsageError if the table has no such name, UnavailableError if a library or a program is missing.
    """
    if name not in table:
        raise UsageError(f"{name} is not known", f"choose one of {', '.join(table)}")
    entry = table[name]
    require(table, name)
    module, attribute = entry.target.split(":")
    return getattr(import_module(module), attribute)


def _has_program(entry: AnyEntry) -> bool:
    """Whether the program that `entry` needs is on the PATH, if it needs one."""
    if isinstance(entry, BackendEntry) or not entry.program:
        return True
    from shutil import which  # loads the modules of archives, which few runs need

    return which(entry.program) is not None


def _missing(name: str, entry: AnyEntry, library: str) -> UnavailableError:
    command = install_command(f"smolcli[{entry.extra}]" if entry.extra else library)
    return UnavailableError(f"{name} needs the library {library}, which is not installed", command)


# What a library that is installed raises where it, or one that it needs, is missing, damaged or of another version.
LOADING_ERRORS = (ImportError, OSError, RuntimeError, AttributeError)


def cannot_load(name: str, error: object) -> UnavailableError:
    """Return the error for a backend whose libraries are installed and cannot be loaded, and how to mend it."""
    entry = BACKENDS.get(name)
    advice = "install it again; smolcli doctor says which libraries it needs"
    if entry is not None and entry.source_build:
        advice = rebuild_command(entry.source_build)
    return UnavailableError(f"{name} is installed and cannot be loaded ({error})", advice)


# ---- how it is installed -------------------------------------------------------------------------------

UV_RECEIPT, PIPX_RECEIPT = "uv-receipt.toml", "pipx_metadata.json"  # in an environment that uv or pipx has made


def install_command(package: str, *flags: str) -> str:
    """Return the command that installs `package`, or an extra of smolcli (`smolcli[video]`), beside this smolcli.

    `flags` are pip's, as -U. A smolcli that pipx or `uv tool` has installed is in an environment of theirs: pip would
    change another one.
    """
    if (Path(sys.prefix) / UV_RECEIPT).is_file():
        return _uv_command(package, flags)
    if (Path(sys.prefix) / PIPX_RECEIPT).is_file():
        if flags:
            return shlex.join(["pipx", "runpip", "smolcli", "install", *flags, package])
        return shlex.join(["pipx", "inject", "smolcli", *_requirements(package)])  # refuses smolcli itself
    return shlex.join(["pip", "install", *flags, package])


def rebuild_command(distribution: str) -> str:
    """Return the command that builds the installed version of a distribution again, on this machine."""
    from importlib.metadata import PackageNotFoundError, version  # for advice alone

    try:
        package = f"{distribution}=={version(distribution)}"
    except PackageNotFoundError:
        package = distribution
    return install_command(package, "--force-reinstall", "--no-cache-dir", "--no-deps", "--no-binary", distribution)


def _uv_command(package: str, flags: Sequence[str]) -> str:
    """Return the command of uv, which makes the environment anew, so it names what was asked for before too."""
    name, extra = _name_and_extra(package)
    before = {entry["name"]: entry for entry in _uv_requirements()}
    own = before.pop("smolcli", {})
    extras = dict.fromkeys([*own.get("extras", ()), *filter(None, [extra])])
    source = own.get("directory") or own.get("editable") or own.get("path") or "smolcli"  # a clone, a file or an index
    words = ["uv", "tool", "install"]
    for other in dict.fromkeys([*before, *([package] if name != "smolcli" else [])]):
        words += ["--with", other]
    if "-U" in flags:
        words += ["--upgrade-package", name]
    if "--no-binary" in flags:
        words += ["--reinstall-package", name, "--no-binary-package", name]
    return shlex.join([*words, f"{source}[{','.join(extras)}]" if extras else source])


def _uv_requirements() -> list[dict[str, Any]]:
    """What `uv tool` notes of the packages that it was asked for; empty where it writes that in another way."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        requirements = tomllib.loads((Path(sys.prefix) / UV_RECEIPT).read_text(encoding="utf-8"))["tool"][
            "requirements"
        ]
        return [entry for entry in requirements if "name" in entry]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _name_and_extra(package: str) -> tuple[str, str]:
    """`smolcli[video]` as smolcli and video, `peft==1.0` as peft and nothing."""
    name, _, extra = package.rstrip("]").partition("[")
    return name.partition("=")[0], extra


def _requirements(package: str) -> list[str]:
    """The packages that an extra of smolcli stands for, without their versions; any other package is itself."""
    from importlib.metadata import PackageNotFoundError, requires  # for errors alone

    name, extra = _name_and_extra(package)
    if name != "smolcli":
        return [package]
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        lines = []
    wanted = [line for line in lines if re.search(rf"extra == .{re.escape(extra)}\b.", line)]
    return [re.split(r"[^\w.-]", line)[0] for line in wanted] or [package]
