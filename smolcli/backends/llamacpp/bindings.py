"""Imports only the C interface of llama_cpp, which is all that smolcli calls.

Importing the whole package would also load a server's chat formats, templates and caches: a fifth of the time in which
a small model answers for one picture.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def load_llama_cpp() -> None:
    """Make `import llama_cpp` give the C interface; other names of the package are loaded when they are used.

    Does nothing if llama_cpp is imported already or not installed.
    """
    spec = find_spec("llama_cpp")
    if "llama_cpp" in sys.modules or spec is None or spec.submodule_search_locations is None:
        return
    package = ModuleType("llama_cpp")
    package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations)
    package.__file__, package.__package__ = spec.origin, "llama_cpp"
    sys.modules["llama_cpp"] = package
    interface = import_module("llama_cpp.llama_cpp")

    def load_name(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if find_spec(f"llama_cpp.{name}") is not None:
            return import_module(f"llama_cpp.{name}")
        return getattr(import_module("llama_cpp.llama"), name)

    names = {name: value for name, value in vars(interface).items() if not name.startswith("_")}
    vars(package).update(names, __getattr__=load_name)
