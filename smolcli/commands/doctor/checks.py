"""Looks at all that smolcli needs and uses on this machine, and says what is wrong. Loads no native library here."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smolcli import registry
from smolcli.backends.select import backend_candidates, gpu_may_be_here
from smolcli.backends.vision import select
from smolcli.errors import ModelError, SmolError
from smolcli.models import catalog, hub_cache, resolve
from smolcli.models import files as model_files
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.process.child import call
from smolcli.registry import AnyEntry, Entry
from smolcli.system import disk_cache
from smolcli.system.info import machine, versions
from smolcli.system.memory import available

DISTRIBUTIONS = {"llama_cpp": "llama-cpp-python"}  # where names differ
NEEDED = ("typer", "rich", "pillow", "numpy", "huggingface_hub", "tqdm")  # by every command
VARIABLES = (
    "SMOLCLI_MODEL", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE",
    "HF_ENDPOINT", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "RAY_ADDRESS",
)  # fmt: skip
LEAST_FREE = 10**9  # bytes on a disk: a model, and the pictures of a URL
FOLDERS = {  # the variable that names another one, and what is lost without it
    "cache": ("HF_HOME", "no model can be pulled"),
    "kept": ("XDG_CACHE_HOME", "what takes seconds to find out is found out by each run"),
    "temporary": ("TMPDIR", "pictures of URLs and converted models have no place"),
}
PROBES = "smolcli.commands.doctor.probes"
AMX: dict[str | None, str] = {  # by what llama.cpp said of it on a CPU that has it
    "used": "llama.cpp computes with it",
    "crashes": "off in llama.cpp, whose path for it crashes as GCC before 14 builds it",
    "untried": "off in llama.cpp: whether its path for it crashes could not be found out",
    "left out": "off in llama.cpp, which was built for CPUs without it",
    None: "off: llama.cpp did not answer",
}
SECONDS = 180.0  # for a library to load and answer, on a slow disk
RIGHT_AMX = "CXXFLAGS='-fno-tree-dse -fno-dse'"  # without the two passes in which GCC 12 drops AMX's configuration
REINSTALL = "install it again, or do without it"


@dataclass(frozen=True)
class Problem:
    """What is wrong, and what to do; `blocks` where nothing can be answered before that is done."""

    what: str
    advice: str
    blocks: bool = False


@dataclass(frozen=True)
class Report:
    """What there is, as docs/commands.md's JSON, and what is wrong with it."""

    facts: dict[str, Any]
    problems: tuple[Problem, ...]


def checkup() -> Report:
    """Everything; takes as long as the slowest backend to answer."""
    auto, vision_size, no_model = _auto()
    nano = resolve.find(catalog.NANO)
    with ThreadPoolExecutor(3) as pool:  # each waits for a child
        backends = list(pool.map(lambda name: _backend(name, nano), (n for n in registry.BACKENDS if n != "echo")))
        decoders = list(pool.map(_decoder, registry.DECODERS))
        precisions = list(pool.map(_precision, registry.VISION_ENCODERS.items()))
    told = [replace(one, blocks=found["name"] == auto["backend"]) for found, one in (*backends, *decoders) if one]
    ran = {found["name"]: found for found, _ in backends}
    amx, gpus = ran["llamacpp"].pop("amx"), ran["torch"].pop("gpus")
    this = machine()
    cache, unreadable = _cache()
    facts: dict[str, Any] = {
        "machine": this,
        "memory_free": available(),
        "amx": _amx(this["features"], amx),
        "gpus": gpus,
        "backends": list(ran.values()),
        "auto": auto,
        "vision": _vision({name: computes for name, computes, _ in precisions}),
        "decoders": [found for found, _ in decoders],
        "libraries": _libraries(),
        "cache": cache,
        "folders": _folders(),
        "offline": hub_cache.is_offline(),
        "config": {"path": str(resolve.config_file()), "exists": resolve.config_file().is_file()},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    taken = select.choose_vision_encoder("auto", "auto", vision_size) if auto["backend"] == "llamacpp" else None
    told += [replace(fault, blocks=name == taken) for name, _, fault in precisions if fault is not None]
    told += [one for one in (no_model, *unreadable) if one is not None]
    told += _shortcomings(facts)
    once = {one.what: one for one in sorted(told, key=lambda one: one.blocks)}
    return Report(facts, tuple(sorted(once.values(), key=lambda one: not one.blocks)))


def _auto() -> tuple[dict[str, str | None], int, Problem | None]:
    """The backend and the model that a command without options takes, or why there are none; of its vision half the
    bytes.
    """
    try:
        files, backend = resolve.choose(Model(), backend_candidates(Model()))
    except SmolError as error:
        return {"backend": None, "model": None}, 0, Problem(error.what, error.advice, blocks=True)
    size = files.mmproj.stat().st_size if files.mmproj is not None else 0
    return {"backend": backend, "model": files.name}, size, None


Tried = tuple[dict[str, Any], Problem | None]


def _backend(name: str, files: ModelFiles) -> Tried:
    """A backend, and whether it answers with the built-in model."""
    entry = registry.BACKENDS[name]
    found: dict[str, Any] = {**_entry(name, entry), "seconds": None, "computes": None}
    found["gpus" if name == "torch" else "amx"] = [] if name == "torch" else None  # what only it knows
    if not found["installed"]:
        return found, None
    begun = time.perf_counter()
    said, problem = _probe(name, "answers", entry.place, files, Model(vision_engine="mtmd"))
    if problem is None:
        found.update(said, seconds=round(time.perf_counter() - begun, 3))
    return found, problem


def _decoder(name: str) -> Tried:
    entry = registry.DECODERS[name]
    found = _entry(name, entry)
    if not entry.needs:  # a program
        program = shutil.which(name)
        return {**found, "installed": program is not None, "install": f"install {name}", "version": program or ""}, None
    problem = _probe(name, "loads", *entry.needs)[1] if found["installed"] else None
    return found, problem


def _precision(named: tuple[str, Entry]) -> tuple[str, str | None, Problem | None]:
    """A vision engine, and what it computes in."""
    name, entry = named
    if name == "mtmd" or not registry.installed(entry):
        return name, "float32" if name == "mtmd" else None, None
    return name, *_probe(name, "precision", entry.place.partition(":")[0])


def _probe(name: str, probe: str, *args: Any) -> tuple[Any, Problem | None]:
    """What a child says, or that it ended."""
    try:
        return call(f"{PROBES}:{probe}", *args, seconds=SECONDS), None
    except SmolError as error:
        if error.kind == "start":  # which is no fault of the library's
            return None, Problem(error.what, error.advice)
        advice = REINSTALL if error.kind in ("crash", "engine") else error.advice or REINSTALL
        if "SIGILL" in error.what and name == "llamacpp":
            advice = f"build it for this CPU: {_rebuild()}"
        return None, Problem(f"{name} is installed and does not work: {error.what.removeprefix('the engine ')}", advice)


def _rebuild() -> str:
    """What builds the llama-cpp-python that is here once more, on this machine."""
    name = "llama-cpp-python"
    same = "".join(f"=={version}" for version in versions([name]).values())
    return f"pip install --force-reinstall --no-cache-dir --no-deps --no-binary {name} {name}{same}"


def _entry(name: str, entry: AnyEntry) -> dict[str, Any]:
    """Whether what it needs is here, in which version, and what brings it."""
    found = versions(DISTRIBUTIONS.get(one, one) for one in entry.needs)
    return {
        "name": name,
        "installed": registry.installed(entry),
        "version": ", ".join(found.values()),
        "install": f"pip install 'smolcli[{entry.extra}]'" if entry.extra else None,
    }


def _vision(precisions: dict[str, str | None]) -> dict[str, Any]:
    """What encodes pictures beside llama.cpp, by the size of a model's vision half, and what each computes in."""
    sizes = {"large": select.LARGE, "small": 0}
    taken = {name: select.choose_vision_encoder("auto", "auto", size) for name, size in sizes.items()}
    engines = [_entry(name, entry) for name, entry in registry.VISION_ENCODERS.items()]
    return {"engines": engines, **taken, "precision": precisions}


def _amx(features: list[str], said: str | None) -> str:
    """Whether llama.cpp multiplies with the CPU's tiles."""
    return AMX[said] if "amx_tile" in features else "this CPU has none"


def _libraries() -> list[dict[str, Any]]:
    """Those that every command needs, and those of the extras."""
    tables = (registry.BACKENDS, registry.VISION_ENCODERS, registry.DECODERS, registry.EXECUTORS, registry.LIBRARIES)
    entries = [entry for table in tables for entry in table.values()]
    extras = {library: entry.extra for entry in entries for library in entry.needs}
    found = [
        {"name": name, "installed": True, "version": version, "install": None}
        for name, version in versions(NEEDED).items()
    ]
    for library, extra in extras.items():
        found.append(_entry(DISTRIBUTIONS.get(library, library), Entry("", extra, (library,))))
    return found


def _cache() -> tuple[dict[str, Any], list[Problem]]:
    """The folder of models, and those in it that run; of a model the bytes of its files, links followed."""
    found: list[dict[str, Any]] = []
    problems: list[Problem] = []
    try:
        for name in (*catalog.CATALOG, *hub_cache.cached_ids()):
            try:
                found += filter(None, [_model(name)])
            except ModelError as error:
                problems.append(Problem(error.what, error.advice))
    except OSError as error:
        told = f"{error.filename}: cannot be read ({error.strerror})"
        problems.append(Problem(told, "change its rights, or set HF_HOME"))
    size = sum(one["bytes"] for one in found)
    return {"path": str(hub_cache.cache_dir()), "models": found, "bytes": size}, problems


def _model(name: str) -> dict[str, Any] | None:
    """What the cache has of a model, if it runs."""
    files = resolve.find(name)
    here = [backend for backend in ("llamacpp", "torch") if files.serves(backend)]
    if not here:
        return None
    paths = [path for path in (files.gguf, files.mmproj) if path is not None]
    paths += model_files.weights(files.checkpoint) if files.checkpoint is not None else []
    return {"name": name, "here": here, "bytes": sum(path.stat().st_size for path in paths)}


def _folders() -> list[dict[str, Any]]:
    """Where models, what is kept between runs and what is temporary go, and the bytes that are free there."""
    found = []
    for name, path in (("cache", hub_cache.cache_dir()), ("kept", disk_cache.folder()), ("temporary", _temporary())):
        there = next(folder for folder in (path.absolute(), *path.absolute().parents) if os.path.exists(folder))
        writable = os.access(there, os.W_OK | os.X_OK)
        found.append({"name": name, "path": str(path), "free": shutil.disk_usage(there).free, "writable": writable})
    return found


def _temporary() -> Path:
    """Where Python puts temporary files, or where it would if it could."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # none of the folders that it tries can be written
        return Path(os.environ.get("TMPDIR") or "/tmp")


def _shortcomings(facts: dict[str, Any]) -> Iterator[Problem]:
    """What stops no answer, but costs time or a part of what smolcli does."""
    torch = next(one for one in facts["backends"] if one["name"] == "torch")
    if not facts["gpus"] and (facts["machine"]["gpus"] or gpu_may_be_here()):
        what = (
            "a GPU is here that PyTorch does not see"
            if torch["installed"]
            else "a GPU is here, and no PyTorch to use it"
        )
        yield Problem(what, "install PyTorch for it: https://pytorch.org/get-started/locally")
    if facts["auto"]["backend"] == "llamacpp" and facts["vision"]["large"] == "mtmd":
        install = next(one["install"] for one in facts["vision"]["engines"] if one["name"] == "openvino")
        yield Problem("pictures are encoded several times slower without OpenVINO", install)
    if not any(one["installed"] for one in facts["decoders"]):
        yield Problem("videos cannot be read", facts["decoders"][0]["install"])
    for said, is_so in (("crashes", "crashes with"), ("left out", "was built without")):
        if facts["amx"] == AMX[said]:
            what = f"prompts take twice as long without AMX, which this llama-cpp-python {is_so}"
            yield Problem(what, f"build it for this CPU: {RIGHT_AMX} {_rebuild()}")
    for one in facts["folders"]:
        if one["free"] < LEAST_FREE:
            yield Problem(f"{one['path']}: only {one['free'] / 1e6:,.0f} MB are free", "make room")
        if not one["writable"]:
            variable, loss = FOLDERS[one["name"]]
            what = f"{one['path']}: cannot be written: {loss}"
            yield Problem(what, f"change its rights, or set {variable} to another folder")
