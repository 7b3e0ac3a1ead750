"""Runs smolcli as users do, each time in a process of its own, and reads the records that it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smolcli.bench.configurations import Configuration
from smolcli.errors import EngineError

# As `python -m smolcli`, but modules in the current folder are not importable.
PROGRAM = "import sys; sys.path = [folder for folder in sys.path if folder]; from smolcli.__main__ import main; main()"

Fields = dict[str, Any]  # a record as JSON has it


@dataclass(frozen=True)
class CompletedCommand:
    """A command's wall time in seconds, and its records."""

    wall: float
    records: tuple[Fields, ...]


def run_ask(configuration: Configuration, question: str, files: Sequence[str], new_tokens: int) -> CompletedCommand:
    """Run `smolcli ask` about `files`; every answer has exactly `new_tokens` tokens, whatever settings the user has.

    Raises EngineError with the last line of the command's error output if it fails.
    """
    length = ["-n", str(new_tokens), "--min-tokens", str(new_tokens)]
    options = ["--no-config", *length, *configuration.arguments, "-f", "jsonl", "-q", "--no-progress"]
    command = [sys.executable, "-c", PROGRAM, "ask", *options, "--", question, *files]
    started = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SMOLCLI_")}
    completed = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", env=environment)
    wall = time.perf_counter() - started
    if completed.returncode:
        lines = completed.stderr.strip().splitlines() or [f"exit code {completed.returncode}"]
        raise EngineError(lines[-1].removeprefix("smolcli: "))
    return CompletedCommand(wall, tuple(json.loads(line) for line in completed.stdout.splitlines()))
