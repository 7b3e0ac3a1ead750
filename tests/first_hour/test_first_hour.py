"""The first hour of a new user: every step of the table does what it says, from an installed wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

from tests.first_hour.steps import INPUTS, STEPS, Step

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
NO_NETWORK = "http://127.0.0.1:9"  # the port of the discard service, on which nothing listens

pytestmark = pytest.mark.slow  # it starts the program 70 times


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what every step finds in its own."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(SAMPLES, folder / "samples", ignore=shutil.ignore_patterns("__pycache__"))
    scene = (folder / "samples" / "scene.png").read_bytes()
    for name, content in INPUTS.items():
        (folder / name).write_bytes(eval(content, {"scene": scene}))
    return folder


@pytest.mark.parametrize("step", STEPS, ids=[step.does for step in STEPS])
def test_the_first_hour(step: Step, program: Path, inputs: Path, tmp_path: Path) -> None:
    if step.only and not os.path.exists(step.only):
        pytest.skip(f"no {step.only} here")
    shutil.copytree(inputs, tmp_path / "work")
    (tmp_path / "home").mkdir()
    environment = {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NO_NETWORK),
    }
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{step.command}"],
        cwd=tmp_path / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert matches(step.out, done.stdout), f"standard output: {done.stdout}"
    assert matches(step.err, done.stderr), f"standard error: {done.stderr}"
    assert done.returncode == step.code, done.stderr


def matches(expected: str, text: str) -> bool:
    """Whether `text` is as expected, where `...` stands for anything."""
    return OutputChecker().check_output(expected, text, ELLIPSIS)
