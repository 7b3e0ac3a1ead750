"""Runs the commands shown in the docs, so that cog can write their real output into the pages.

    <!-- [[[cog sh("smolcli ocr docs/samples/sign.png") ]]] -->
    <!-- [[[end]]] -->

`make docs` fills in what stands between the two lines, `make docs-check` compares it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8", "SMOLCLI_MODEL": "nano"}
TIMES = re.compile(r"\d+\.\d (s a picture|pictures/s), \d+:\d\d:\d\d|(?<=, )\d+:\d\d:\d\d(?=, in )")  # of the last line
INHERITED = ("TMPDIR", "LD_LIBRARY_PATH")


def outputs(*commands: str) -> list[str]:
    """Return the standard output of each shell command, run one after the other in a folder that holds docs/ alone.

    Their home is empty. Standard error is left out, since progress and timings change; a command that needs it says
    2>&1. Rate and time in the last line of a run are made the same for every run. Raises RuntimeError if a command
    fails.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with tempfile.TemporaryDirectory(prefix="smolcli-docs-") as home, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "docs").symlink_to(ROOT / "docs")
        environment = {**inherited, **SETTINGS, "PATH": path, "HOME": home}
        return [_output(command, folder, environment) for command in commands]


def _output(command: str, folder: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stderr}")
    return TIMES.sub(lambda match: "4.0 pictures/s, 0:00:01" if match[1] else "0:00:01", done.stdout)


def sh(*commands: str) -> None:
    """Write a block with each command and its output into the page that cog is making."""
    import cog  # a module that exists only while cog runs

    cog.outl("```console")
    for command, output in zip(commands, outputs(*commands), strict=True):
        cog.outl(f"$ {command}")
        cog.out(output)
    cog.outl("```")
