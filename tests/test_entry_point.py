"""smolcli/__main__.py: what happens before the command line is understood."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers import SAMPLES

CTRL_C_AT_AN_IMPORT = """
import os, sys
from importlib.abc import MetaPathFinder

class PressesCtrlC(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == MODULE:
            ACTION

sys.modules.pop("signal", None)
sys.meta_path.insert(0, PressesCtrlC())
from smolcli.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module",
    [
        "signal", "smolcli.errors", "smolcli.terminal.stdout", "smolcli.registry", "smolcli.process.spawn",
        "smolcli.cli.main", "typer", "smolcli.tasks.caption", "smolcli.pipeline.run",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "action",
    [
        "os.kill(os.getpid(), 2)",  # SIGINT
        "raise RuntimeError('Error calling __set_name__') from KeyboardInterrupt()",  # as Python before 3.12 does
    ],
)
def test_ctrl_c_while_modules_are_loaded_ends_quietly(module: str, action: str) -> None:
    code = CTRL_C_AT_AN_IMPORT.replace("MODULE", repr(module)).replace("ACTION", action)
    command = [sys.executable, "-c", code, "caption", str(SAMPLES / "scene.png"), "-q", "-b", "echo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
