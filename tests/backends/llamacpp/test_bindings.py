"""backends/llamacpp/bindings.py: llama_cpp without its unused modules, but with all its names."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from smolcli.backends.llamacpp.bindings import load_llama_cpp
load_llama_cpp()
load_llama_cpp()
import smolcli.backends.llamacpp.backend
import llama_cpp
print(sorted({"llama_cpp.llama", "jinja2", "diskcache"} & set(sys.modules)))
print(llama_cpp.llama_cpp is sys.modules["llama_cpp.llama_cpp"], hasattr(llama_cpp, "nothing"))
print(llama_cpp.Llama.__module__)
import importlib
interface = importlib.import_module("llama_cpp.llama_cpp")
print([name for name in dir(interface) if not name.startswith("_") and not hasattr(llama_cpp, name)])
"""


def test_the_interface_is_loaded_at_once_and_other_names_when_they_are_used() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "True False", "llama_cpp.llama", "[]"], done.stderr


RACE = """
import sys, threading
from importlib.abc import MetaPathFinder
from smolcli.backends.llamacpp.bindings import load_llama_cpp

functions = []  # that the other thread got

def look():
    import llama_cpp
    functions.append(llama_cpp.llama_backend_init)

class Meddler(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "llama_cpp.llama_cpp":  # half of the package is there
            thread = threading.Thread(target=look)
            thread.start()
            thread.join(0.1)
            threads.append(thread)

threads = []
sys.meta_path.insert(0, Meddler())
load_llama_cpp()
threads[0].join()
print(len(threads), len(functions))
"""


def test_another_thread_sees_all_of_the_interface_or_waits() -> None:
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1 1\n", "")
