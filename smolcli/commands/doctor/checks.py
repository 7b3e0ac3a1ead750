"""Checks everything that smolcli needs and uses on this machine. Loads no native library in this process."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smolcli import registry
from smolcli.backends.llamacpp import build
from smolcli.backends.select import backend_candidates, gpu_may_be_here, loading_error, select_backend
from smolcli.backends.vision import select
from smolcli.cli import settings
from smolcli.cli.topics import ENVIRONMENT
from smolcli.errors import ErrorKind, ModelError, SmolError, UsageError
from smolcli.models import catalog, hub_cache, resolve
from smolcli.models import files as model_files
from smolcli.models.family import backends_here
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.process.child import call
from smolcli.registry import AnyEntry, Entry
from smolcli.system import disk_cache
from smolcli.system.config_path import config_path
from smolcli.system.disk_space import existing_ancestor, free_bytes
from smolcli.system.info import CORE_LIBRARIES, machine, versions
from smolcli.system.memory import available_bytes

DISTRIBUTIONS = {"llama_cpp": "llama-cpp-python"}  # of modules with another name
VARIABLES = tuple(variable.name for variable in ENVIRONMENT if not variable.is_secret)
LEAST_FREE = 10**9  # bytes on a disk: a model, and the pictures of a URL
FOLDERS = {  # the variable that moves a folder, and what does not work without it
    "cache": ("HF_HOME", "no model can be downloaded"),
    "kept": ("XDG_CACHE_HOME", "each run repeats checks that take seconds"),
    "temporary": ("TMPDIR", "conversions, benchmarks and Ray have no place for their files"),
}
PROBES = "smolcli.commands.doctor.probes"
FASTEST_ENCODER = next(iter(registry.VISION_ENCODERS))
BUILT_IN_ENCODER = next(name for name, entry in registry.VISION_ENCODERS.items() if not entry.needs)
BUILT_IN_PRECISION = "float32"
AMX: dict[str | None, str] = {  # by what probes.amx_facts tells on a CPU that has it
    "used": "llama.cpp computes with it",
    "crashes": "off in llama.cpp: its AMX code crashes as GCC before 14 compiles it",
    "untried": "off in llama.cpp: whether its AMX code crashes could not be found out",
    "left out": "off in llama.cpp, which was built for CPUs without it",
    None: "off: llama.cpp did not answer",
}
SECONDS = 180.0  # for a library to load and answer, on a slow disk
RIGHT_AMX = "CXXFLAGS='-fno-tree-dse -fno-dse'"  # without the two passes in which GCC 12 drops AMX's configuration
REINSTALL = "install it again, or do without it"


@dataclass(frozen=True)
class Problem:
    """What is wrong, and what to do; it `blocks` where nothing can be answered before that is done.

    `area` is the line of the screen that it belongs to: one of AREAS.
    """

    what: str
    advice: str
    blocks: bool = False
    area: str = ""


@dataclass(frozen=True)
class Report:
    """What is on this machine, as `doctor --json` writes it, and what is wrong with it."""

    facts: dict[str, Any]
    problems: tuple[Problem, ...]


AREAS = ("program", "CPU", "memory", "GPU", "backends", "encoder", "videos", "models", "disk", "settings")
ProbeResult = tuple[dict[str, Any], Problem | None]


@dataclass(frozen=True)
class Default:
    """What a command without options uses: backend and model, None where there is none, which `problem` explains.

    `mmproj_bytes` is the size of the model's vision file. `config` is what is known of the settings, and `options` the
    options that they make.
    """

    backend: str | None = None
    model: str | None = None
    mmproj_bytes: int = 0
    problem: Problem | None = None
    config: dict[str, Any] = field(default_factory=dict)
    options: Model = Model()

    @property
    def vision_encoder(self) -> str | None:
        """The vision encoder that would be used; None where the backend encodes pictures itself."""
        if self.backend is None or "vision_encoder" not in registry.BACKENDS[self.backend].options:
            return None
        return select.choose_vision_encoder("auto", "auto", self.mmproj_bytes)


def checkup() -> Report:
    """Check everything; takes as long as the slowest backend to answer."""
    default = _default()
    nano = resolve.find_files(catalog.NANO)
    with ThreadPoolExecutor(3) as pool:  # each thread waits for a child process
        backends = list(pool.map(lambda name: _backend(name, nano), registry.backends()))
        decoders = list(pool.map(_decoder, registry.DECODERS))
        precisions = list(pool.map(_precision, registry.VISION_ENCODERS.items()))
    gpus: list[dict[str, Any]] = []
    machine_facts: dict[str, Any] = {"amx": None, "gpu_kinds": None}  # of all backends
    for facts_of_backend, _ in backends:
        backend_machine_facts = facts_of_backend.pop("machine_facts")
        gpus += [{**gpu, "backend": facts_of_backend["name"]} for gpu in backend_machine_facts.pop("gpus", ())]
        machine_facts.update(backend_machine_facts)
    this_machine = machine()
    cache, cache_problems = _cache()
    facts: dict[str, Any] = {
        "machine": this_machine,
        "memory_free": available_bytes(),
        "amx": _amx(this_machine["features"], machine_facts["amx"]),
        "gpus": gpus,
        "llama_cpp": _build(machine_facts["gpu_kinds"]),
        "backends": [facts_of_backend for facts_of_backend, _ in backends],
        "auto": {"backend": default.backend, "model": default.model},
        "vision": _vision({name: precision for name, precision, _ in precisions}),
        "decoders": [facts_of_decoder for facts_of_decoder, _ in decoders],
        "libraries": _libraries(),
        "cache": cache,
        "folders": _folders(),
        "offline": hub_cache.is_offline(),
        "config": default.config,
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    problems = [
        replace(problem, blocks=facts_of_library["name"] == default.backend, area=area)
        for area, results in (("backends", backends), ("videos", decoders))
        for facts_of_library, problem in results
        if problem
    ]
    encoder = default.vision_encoder
    problems += [
        replace(problem, blocks=name == encoder, area="encoder")
        for name, _, problem in precisions
        if problem is not None
    ]
    problems += [problem for problem in (default.problem, *cache_problems) if problem is not None]
    problems += _shortcomings(facts)
    return Report(facts, _most_urgent_first(problems))


def _most_urgent_first(problems: list[Problem]) -> tuple[Problem, ...]:
    """Each problem once, those that block before the others."""
    once = {problem.what: problem for problem in sorted(problems, key=lambda problem: problem.blocks)}
    return tuple(sorted(once.values(), key=lambda problem: not problem.blocks))


def _default() -> Default:
    path = config_path()
    config: dict[str, Any] = {"path": str(path), "exists": path.is_file(), "settings": []}
    options, loaded = Model(), settings.Settings()
    try:
        loaded = settings.load("")
        config["settings"] = [
            {"key": setting.option.key, "value": settings.shown(setting), "source": setting.source}
            for setting in loaded.in_force
        ]
        options = settings.defaults(Model, loaded)
        files, backend = select_backend(options)
    except SmolError as error:
        settings.name_sources(error, loaded)
        areas = {ModelError: "models", UsageError: "settings"}  # a UsageError is one of the settings here
        problem = Problem(error.what, error.advice, blocks=True, area=areas.get(type(error), "backends"))
        return Default(problem=problem, config=config, options=options)
    size = files.mmproj.stat().st_size if files.mmproj is not None else 0
    return Default(backend, files.name, size, config=config, options=options)


def _backend(name: str, files: ModelFiles) -> ProbeResult:
    """Facts of a backend: whether it answers with the built-in model, in how many seconds, computing on what.

    "machine_facts" is what only it knows of the machine; the caller takes it out.
    """
    entry = registry.BACKENDS[name]
    facts: dict[str, Any] = {**_entry_facts(name, entry), "seconds": None, "computes": None, "machine_facts": {}}
    if not facts["installed"]:
        return facts, None
    if error := loading_error(name):
        return facts, Problem(error.what, error.advice)
    start = time.perf_counter()
    target, model = entry.machine_facts, Model(vision_encoder=BUILT_IN_ENCODER)
    answer, problem = _probe(name, "answers", entry.target, target, files, model, rebuild=entry.source_build)
    if problem is None:
        facts.update(seconds=round(time.perf_counter() - start, 3), machine_facts=answer or {})
        facts["computes"] = facts["machine_facts"].pop("computes", None)
    return facts, problem


def _decoder(name: str) -> ProbeResult:
    entry = registry.DECODERS[name]
    facts = _entry_facts(name, entry)
    if entry.program:
        return {**facts, "install": f"install {entry.program}", "version": shutil.which(entry.program) or ""}, None
    problem = _probe(name, "loads", *entry.needs)[1] if facts["installed"] else None
    return facts, problem


def _precision(item: tuple[str, Entry]) -> tuple[str, str | None, Problem | None]:
    """The name of a vision encoder and the dtype it computes in, None where that is not known."""
    name, entry = item
    if name == BUILT_IN_ENCODER:
        return name, BUILT_IN_PRECISION, None
    if not registry.installed(entry):
        return name, None, None
    return name, *_probe(name, "precision", entry.target.partition(":")[0])


def _probe(name: str, probe: str, *args: Any, rebuild: str = "") -> tuple[Any, Problem | None]:
    """Call a function of probes.py in a child process: its value, or a problem where the child failed.

    `rebuild` is the distribution to build again where its code is not for this CPU.
    """
    try:
        return call(f"{PROBES}:{probe}", *args, seconds=SECONDS), None
    except SmolError as error:
        if error.kind == ErrorKind.START:  # no fault of the library
            return None, Problem(error.what, error.advice)
        advice = REINSTALL if error.kind in (ErrorKind.CRASH, ErrorKind.ENGINE) else error.advice or REINSTALL
        if "SIGILL" in error.what and rebuild:
            advice = registry.rebuild_command(rebuild)
        return None, Problem(f"{name} is installed and does not work: {error.what.removeprefix('the engine ')}", advice)


def _entry_facts(name: str, entry: AnyEntry) -> dict[str, Any]:
    """Whether the libraries of a registry entry are installed, in which version, and the command that installs them."""
    installed_versions = versions(DISTRIBUTIONS.get(library, library) for library in entry.needs)
    return {
        "name": name,
        "installed": registry.installed(entry),
        "version": ", ".join(installed_versions.values()),
        "install": registry.install_command(f"smolcli[{entry.extra}]") if entry.extra else None,
    }


def _vision(precisions: dict[str, str | None]) -> dict[str, Any]:
    """The vision encoders of llama.cpp: which is used for a large and a small model, and what each computes in."""
    sizes = {"large": select.MIN_BYTES_FOR_LOADED_ENCODER, "small": 0}
    used = {name: select.choose_vision_encoder("auto", "auto", size) for name, size in sizes.items()}
    engines = [_entry_facts(name, entry) for name, entry in registry.VISION_ENCODERS.items()]
    return {"engines": engines, **used, "precision": precisions}


def _amx(features: list[str], verdict: str | None) -> str:
    """Whether llama.cpp uses AMX, for people."""
    return AMX[verdict] if "amx_tile" in features else "this CPU has none"


def _build(gpu_kinds: list[str] | None) -> dict[str, Any] | None:
    """The kinds of GPUs for which the installed llama.cpp was built, and the command that builds it for this machine.

    None where it did not answer.
    """
    if gpu_kinds is None:
        return None
    return {"gpu_kinds": gpu_kinds, "build": build.build_command(build.suggested_kind())}


def _libraries() -> list[dict[str, Any]]:
    """The libraries that every command needs, and those of the extras."""
    tables = (
        registry.BACKENDS, registry.VISION_ENCODERS, registry.READERS, registry.DECODERS, registry.EXECUTORS,
        registry.ON_DEMAND,
    )  # fmt: skip
    entries = [entry for table in tables for entry in table.values()]
    extras = {library: entry.extra for entry in entries for library in entry.needs if entry.extra}
    libraries = [
        {"name": name, "installed": True, "version": version, "install": None}
        for name, version in versions(CORE_LIBRARIES).items()
    ]
    for library, extra in extras.items():
        libraries.append(_entry_facts(DISTRIBUTIONS.get(library, library), Entry("", extra, (library,))))
    return libraries


def _cache() -> tuple[dict[str, Any], list[Problem]]:
    """The folder of models and the complete models in it, with the bytes of their files, links followed."""
    models: list[dict[str, Any]] = []
    problems: list[Problem] = []
    try:
        for name in (*catalog.CATALOG, *hub_cache.cached_ids()):
            try:
                models += filter(None, [_model(name)])
            except ModelError as error:
                problems.append(Problem(error.what, error.advice, area="models"))
    except OSError as error:
        message = f"{error.filename}: cannot be read ({error.strerror})"
        problems.append(Problem(message, "change its permissions, or set HF_HOME", area="models"))
    size = sum(model["bytes"] for model in models)
    return {"path": str(hub_cache.cache_dir()), "models": models, "bytes": size}, problems


def _model(name: str) -> dict[str, Any] | None:
    """Facts of a model in the cache, or None if it is not complete. "here" are the installed backends that run it."""
    files = resolve.find_files(name)
    if not files.formats:
        return None
    paths = [path for path in (files.gguf, files.mmproj) if path is not None]
    paths += model_files.weight_files(files.checkpoint) if files.checkpoint is not None else []
    return {"name": name, "here": backends_here(files), "bytes": sum(path.stat().st_size for path in paths)}


def _folders() -> list[dict[str, Any]]:
    """The folders of models, of what is kept between runs and of temporary files, and the bytes that are free there."""
    folders = []
    for name, path in (
        ("cache", hub_cache.cache_dir()),
        ("kept", disk_cache.cache_folder()),
        ("temporary", _temporary()),
    ):
        is_writable = os.access(existing_ancestor(path), os.W_OK | os.X_OK)
        folders.append({"name": name, "path": str(path), "free": free_bytes(path), "writable": is_writable})
    return folders


def _temporary() -> Path:
    """The folder of Python's temporary files, or the one that it would use if it could."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # it tries several, and can write in none
        return Path(os.environ.get("TMPDIR") or "/tmp")


def _shortcomings(facts: dict[str, Any]) -> Iterator[Problem]:
    """Yield what costs time or disables a part of smolcli, though it can answer."""
    yield from _unused_gpu(facts)
    vision = facts["vision"]
    fastest = registry.BACKENDS[backend_candidates(Model())[0]]
    others = [entry for entry in map(registry.BACKENDS.__getitem__, registry.backends()) if not entry.is_reference]
    if fastest.is_reference and not any(map(registry.installed, others)):
        names = " or ".join(entry.title for entry in others)
        command = next(registry.install_command(f"smolcli[{entry.extra}]") for entry in others if not entry.uses_gpu)
        yield Problem(f"models larger than {catalog.NANO} are slow without {names}", command, area="backends")
    if "vision_encoder" in fastest.options and vision["large"] == BUILT_IN_ENCODER:
        install = next(engine["install"] for engine in vision["engines"] if engine["name"] == FASTEST_ENCODER)
        yield Problem("pictures are encoded several times slower without OpenVINO", install, area="encoder")
    if not any(decoder["installed"] for decoder in facts["decoders"]):
        yield Problem("videos cannot be read", facts["decoders"][0]["install"], area="videos")
    for verdict, words in (("crashes", "crashes with"), ("left out", "was built without")):
        if facts["amx"] == AMX[verdict]:
            message = f"prompts take twice as long without AMX, which this llama-cpp-python {words}"
            yield Problem(message, f"{RIGHT_AMX} {registry.rebuild_command('llama-cpp-python')}", area="CPU")
    for folder in facts["folders"]:
        if folder["free"] < LEAST_FREE:
            message = f"{folder['path']}: only {folder['free'] / 1e6:,.0f} MB are free"
            yield Problem(message, "free some space", area="disk")
        if not folder["writable"]:
            variable, loss = FOLDERS[folder["name"]]
            message = f"{folder['path']}: cannot be written: {loss}"
            yield Problem(message, f"change its permissions, or set {variable} to another folder", area="disk")


def _unused_gpu(facts: dict[str, Any]) -> Iterator[Problem]:
    """Yield a problem where the machine has a GPU and no backend sees it."""
    if facts["gpus"] or not (facts["machine"]["gpus"] or gpu_may_be_here()):
        return
    name, entry = next((name, entry) for name, entry in registry.BACKENDS.items() if entry.uses_gpu)
    is_installed = next(backend["installed"] for backend in facts["backends"] if backend["name"] == name)
    title = entry.title
    message = f"a GPU is here that {title} does not see" if is_installed else f"a GPU is here, and no {title} to use it"
    yield Problem(message, f"install {title} for it: https://pytorch.org/get-started/locally", area="GPU")
    if facts["llama_cpp"] is not None and not facts["llama_cpp"]["gpu_kinds"]:
        yield Problem("a GPU is here, and llama.cpp was built without one", facts["llama_cpp"]["build"], area="GPU")
