"""The house keeps its order: who may import whom, and what is in the package."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    {"errors", "values", "process", "bare"}, {"types"}, {"registry", "schema"}, {"options", "cores"},
    {"console", "models", "chat", "memory", "child", "identity", "index"},
    {"inputs", "tasks", "backends", "writers", "hub"}, {"replies", "converters", "progress", "events", "machine"},
    {"engine", "results"},
    {"inside", "delivery", "feed"}, {"answers", "plans"}, {"cluster"}, {"run"}, {"flatten"}, {"bench"}, {"commands"},
    {"cli"},
)  # fmt: skip
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
STAGES = {"inputs", "tasks", "backends", "writers"}
OUTSIDE = {"nano", "__main__", "__init__"}


def imported(path: Path) -> set[str]:
    """The parts of smolcli that a file imports, by their first name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "smolcli":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {f"{alias.name}.".split(".")[1] for alias in node.names if alias.name.split(".")[0] == "smolcli"}
    return found - {"__version__"}


def parts() -> list[tuple[str, Path]]:
    package = ROOT / "smolcli"
    files = [(path.relative_to(package).parts[0].removesuffix(".py"), path) for path in sorted(package.rglob("*.py"))]
    files += [("converters", path) for path in sorted((ROOT / "converters").glob("*.py"))]
    return [(part, path) for part, path in files if part not in OUTSIDE]


@pytest.mark.parametrize(("part", "path"), parts(), ids=lambda value: value.name if isinstance(value, Path) else value)
def test_imports_go_down_only(part: str, path: Path) -> None:
    for other in imported(path) - {part}:
        assert RANK[other] < RANK[part], f"{path} imports smolcli.{other}"
        assert not (part in STAGES and other in STAGES), f"{path} knows another stage, {other}"


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
