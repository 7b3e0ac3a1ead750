"""Runs the commands shown in the docs, so that cog can write their real output into the pages.

    <!-- [[[cog sh("smolcli ocr docs/samples/sign.png") ]]] -->
    <!-- [[[end]]] -->

`make docs` fills in what stands between the two lines, `make docs-check` compares it.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8", "SMOLCLI_MODEL": "nano"}
INHERITED = ("TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


def run(command: str) -> str:
    """Return the standard output of a shell command, run where docs/ is the only entry and the home is empty.

    Standard error is left out, since progress and timings change; a command that needs it says 2>&1.
    Raises RuntimeError if the command fails.
    """
    folder = _folder()
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**environment, **SETTINGS, "PATH": search, "HOME": str(folder.parent / "home")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def sh(*commands: str) -> None:
    """Write a block with each command and its output into the page that cog is making."""
    import cog  # a module that exists only while cog runs

    cog.outl("```console")
    for command in commands:
        cog.outl(f"$ {command}")
        cog.out(run(command))
    cog.outl("```")


@cache
def _folder() -> Path:
    """Return a temporary folder with a link to docs/, the same for all commands of this process."""
    place = tempfile.TemporaryDirectory(prefix="smolcli-docs-")
    atexit.register(place.cleanup)
    work, home = Path(place.name) / "work", Path(place.name) / "home"
    work.mkdir()
    home.mkdir()
    (work / "docs").symlink_to(ROOT / "docs")
    return work
