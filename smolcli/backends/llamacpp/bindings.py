"""Imports only the C interface of llama_cpp, which is all that smolcli calls.

Importing the whole package would also load a server's chat formats, templates and caches: a fifth of the time in which
a small model answers for one picture.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PACKAGE = "llama_cpp"


def load_llama_cpp() -> None:
    """Make `import llama_cpp` give the C interface; other names of the package are loaded when they are used.

    Does nothing if llama_cpp is imported already or not installed. Python's import system does it, so that another
    thread that imports llama_cpp meanwhile waits until it has all its names.
    """
    spec = find_spec(PACKAGE)
    if PACKAGE in sys.modules or spec is None or spec.submodule_search_locations is None:
        return
    interface_only = ModuleSpec(PACKAGE, _InterfaceLoader(), origin=spec.origin, is_package=True)
    interface_only.submodule_search_locations = list(spec.submodule_search_locations)
    interface_only.has_location = True
    finder = _Finder(interface_only)
    sys.meta_path.insert(0, finder)
    try:
        import_module(PACKAGE)
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds one package."""

    def __init__(self, spec: ModuleSpec) -> None:
        self._spec = spec

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        return self._spec if fullname == self._spec.name else None


class _InterfaceLoader(Loader):
    """Fills the package with the names of its C interface."""

    def exec_module(self, module: ModuleType) -> None:
        interface = import_module(f"{PACKAGE}.{PACKAGE}")

        def load_name(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            if find_spec(f"{PACKAGE}.{name}") is not None:
                return import_module(f"{PACKAGE}.{name}")
            return getattr(import_module(f"{PACKAGE}.llama"), name)

        names = {name: value for name, value in vars(interface).items() if not name.startswith("_")}
        vars(module).update(names, __getattr__=load_name)
