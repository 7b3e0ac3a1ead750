"""Finds out whether the installed llama.cpp can be loaded, by a probe in a child process; caches that it can.

    error = loading_error()     # None, or an UnavailableError: "llamacpp is installed and cannot be loaded (...)"

A library may be cut short, built for another CPU, or lack one that it needs; loading it may end the process. What was
loaded once is not tried again while its files stay as they are. A fault is looked for again in each run, since it may
have been mended elsewhere in the system.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from smolcli import registry
from smolcli.backends.llamacpp.bindings import PACKAGE, load_llama_cpp
from smolcli.errors import ErrorKind, SmolError, UnavailableError
from smolcli.process.child import call
from smolcli.system.cpu import cpu_features, cpu_info
from smolcli.system.disk_cache import cache_folder, store

BACKEND = "llamacpp"
SECONDS = 60.0  # loading takes a quarter of one, and more on a slow disk
MAX_CACHED = 16  # installations, which may share a cache
LOADED = b"loaded\n"
PATH_VARIABLES = ("LLAMA_CPP_LIB_PATH", "MTMD_CPP_LIB", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@lru_cache
def loading_error() -> UnavailableError | None:
    """Return why llama.cpp, which is installed, cannot be loaded; None where it can, or where that is not known."""
    cpu = cpu_info().get("model name"), sorted(cpu_features())
    key = repr([cpu, *map(os.environ.get, PATH_VARIABLES), *_files()])
    path = cache_folder("llama_cpp") / hashlib.sha256(key.encode()).hexdigest()
    with suppress(OSError):
        if path.read_bytes() == LOADED:
            return None
    try:
        call(f"{__name__}:load", seconds=SECONDS)
    except UnavailableError as error:
        return error
    except SmolError as error:
        is_fault = error.kind == ErrorKind.CRASH  # and not a process that was not started, killed or too slow
        return registry.cannot_load(BACKEND, error.what.removeprefix("the engine ")) if is_fault else None
    with suppress(OSError):
        store(path, [LOADED], MAX_CACHED)
    return None


def load() -> None:
    """Load llama.cpp's libraries into this process. Raises UnavailableError."""
    try:
        load_llama_cpp()
        import llama_cpp.mtmd_cpp  # noqa: F401
    except registry.LOADING_ERRORS as error:
        raise registry.cannot_load(BACKEND, error) from error


def _files() -> Iterator[tuple[str, int, int]]:
    """Path, size in bytes and modification time of llama_cpp's modules and libraries."""
    spec = find_spec(PACKAGE)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    folders += [folder / "lib" for folder in folders]
    folders += [Path(folder) for name in PATH_VARIABLES[:2] if (folder := os.environ.get(name))]
    for path in sorted(path for folder in folders for path in folder.glob("*")):
        with suppress(OSError):
            stat = path.stat()
            yield str(path), stat.st_size, stat.st_mtime_ns
