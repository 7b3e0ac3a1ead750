"""The architecture holds: imports go one way, backends differ by data alone, and nothing grows beyond reading size."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

from smolcli import registry

ROOT = Path(__file__).parent.parent
# Folders and modules of smolcli, lowest first; those in one set do not know each other.
ORDER: tuple[set[str], ...] = (
    {"errors"}, {"types"}, {"registry", "system", "terminal", "process"}, {"writers", "options"},
    {"records", "inputs", "models", "generation"}, {"backends", "tasks"}, {"engine", "converters"}, {"executors"},
    {"pipeline"}, {"bench", "cli"}, {"commands"},
)  # fmt: skip
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
SEAM = "smolcli.backends.base"  # what a backend computes; generation uses it and backends implement it
ABOVE_ALL = {"nano", "__main__", "__init__"}  # the recipe of the built-in model, and the entry point


def sources() -> dict[str, Path]:
    """Every module of the package by its name."""
    files = [(path.relative_to(ROOT), path) for path in sorted((ROOT / "smolcli").rglob("*.py"))]
    files += [("smolcli" / path.relative_to(ROOT), path) for path in sorted((ROOT / "converters").glob("*.py"))]
    return {".".join(place.with_suffix("").parts).removesuffix(".__init__"): path for place, path in files}


MODULES = sources()


def part(module: str) -> str:
    """The folder, or the module at the top, that a module belongs to."""
    return (*module.split("."), "__init__")[1]


def imports(module: str, at_start: bool = False) -> Iterator[str]:
    """The modules of smolcli that one imports, anywhere or only when it is loaded."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "smolcli":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


@pytest.mark.parametrize("module", [module for module in MODULES if part(module) not in ABOVE_ALL])
def test_a_folder_imports_only_those_before_it(module: str) -> None:
    for other in imports(module):
        if part(other) not in {part(module), "__init__"}:  # the package itself has the version
            is_seam = part(module) == "generation" and other == SEAM
            assert is_seam or RANK[part(other)] < RANK[part(module)], f"{module} imports {other}"


def test_no_modules_import_each_other() -> None:
    TopologicalSorter({module: set(imports(module, at_start=True)) - {module} for module in MODULES}).prepare()


def test_the_package_holds_folders_and_the_modules_at_the_top() -> None:
    at_the_top = {path.stem for path in (ROOT / "smolcli").glob("*.py")}
    assert at_the_top == {"types", "options", "errors", "registry", "__main__", "__init__"}


def test_only_backends_and_the_registry_know_a_backend_by_its_name() -> None:
    """What differs between backends is data of registry.BackendEntry; libraries may have the same names."""
    for module, path in MODULES.items():
        if part(module) in {"backends", "registry"} or module == "smolcli.system.info":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                assert node.value not in registry.BACKENDS, f"{path}:{node.lineno} names the backend {node.value}"


@pytest.mark.parametrize("module", MODULES)
def test_no_file_and_no_function_is_too_long_to_read(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name


def test_scripts_import_only_what_there_is() -> None:
    for path in [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "smolcli":
                for alias in node.names:
                    submodule = f"{node.module}.{alias.name}"
                    assert submodule in MODULES or hasattr(import_module(node.module), alias.name), (
                        f"{path}: {submodule}"
                    )


def test_tests_do_not_import_each_other() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            assert not (module or "").split(".")[-1].startswith("test_"), f"{path} imports {module}"


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_tree(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for path in [*(ROOT / "smolcli").rglob("*"), *(ROOT / "converters").rglob("*")]:
        if path.is_file() and "__pycache__" not in path.parts:
            place = path.relative_to(ROOT)
            name = f"smolcli/{place}" if place.parts[0] == "converters" else str(place)
            assert name in held, name
