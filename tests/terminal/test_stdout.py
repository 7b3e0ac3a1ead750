"""terminal/stdout.py: only the claimed file writes to standard output."""

from __future__ import annotations

import subprocess
import sys


def test_after_claim_stdout_only_the_claimed_file_writes_to_standard_output() -> None:
    code = (
        "import os, sys\n"
        "from smolcli.terminal.stdout import claim_stdout\n"
        "own = claim_stdout()\n"
        "os.write(1, b'native\\n'); print('python', flush=True); os.system('echo shell')\n"
        "own.write('record\\n'); own.flush()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "record\n"
    assert done.stderr.splitlines() == ["native", "python", "shell"]
