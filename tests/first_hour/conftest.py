"""Installs the wheel as `pip install smolcli` does without extras: with the packages it requires, and no others.

Without a network: the packages are links to those of the environment that runs the tests. SMOLCLI_FIRST_HOUR is the
program of a real installation, as .ci/run and the release workflow have one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("smolcli", "converters", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `smolcli` of an environment without extras."""
    if given := os.environ.get("SMOLCLI_FIRST_HOUR"):
        return Path(given).absolute()
    folder = tmp_path_factory.mktemp("installed")
    wheel = build_wheel(folder)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    [packages] = folder.glob("venv/lib/python*/site-packages")
    [metadata] = packages.glob("smolcli-*.dist-info")
    link_requirements(Distribution.at(metadata), packages)
    return python.with_name("smolcli")


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of its sources: setuptools would add what earlier builds have left in the tree."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    [wheel] = folder.glob("*.whl")
    return wheel


def link_requirements(package: Distribution, folder: Path) -> None:
    """Link what `package` requires without extras, and what that requires, into `folder`."""
    from packaging.requirements import Requirement

    known, unread = {("smolcli", "")}, [(package, "")]  # packages with an extra of theirs
    while unread:
        package, extra = unread.pop()
        for requirement in map(Requirement, package.requires or ()):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
                continue
            for required_extra in {"", *requirement.extras}:
                if (requirement.name, required_extra) not in known:
                    known.add((requirement.name, required_extra))
                    unread.append((distribution(requirement.name), required_extra))
                    link_files(unread[-1][0], folder)


def link_files(package: Distribution, folder: Path) -> None:
    """Link the modules and the metadata of one installed package into `folder`."""
    for name in {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}:
        link = folder / name
        if not link.exists():
            link.symlink_to(Path(str(package.locate_file(name))))


def run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
