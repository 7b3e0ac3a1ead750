"""Runs smolcli as its users do, a process of its own each time, and reads what it says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smolcli.bench.configurations import Configuration
from smolcli.errors import EngineError

# As `python -m smolcli`, but for the current folder, whose files are not to be taken for libraries.
PROGRAM = "import sys; sys.path = [place for place in sys.path if place]; from smolcli.__main__ import main; main()"

Fields = dict[str, Any]  # a record as JSON has it


@dataclass(frozen=True)
class Ran:
    """A command's wall time in seconds, and its records."""

    wall: float
    records: tuple[Fields, ...]


def ask(setup: Configuration, question: str, files: Sequence[str], new: int) -> Ran:
    """`smolcli ask` about some files, each answered in exactly `new` tokens.

    Raises EngineError, in the command's own words, where it fails.
    """
    length = ["-n", str(new), "--min-tokens", str(new)]
    options = [*length, *setup.arguments, "-f", "jsonl", "-q", "--no-progress"]
    command = [sys.executable, "-c", PROGRAM, "ask", *options, "--", question, *files]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape")
    wall = time.perf_counter() - begun
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineError(said[-1].removeprefix("smolcli: "))
    return Ran(wall, tuple(json.loads(line) for line in done.stdout.splitlines()))
