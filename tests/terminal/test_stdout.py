"""terminal/stdout.py: only the claimed file writes to standard output."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from smolcli.terminal.stdout import AnswerStream


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


def test_the_position_in_a_file_counts_its_bytes_whether_they_are_flushed_or_not(tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_bytes(b"old\n")
    with AnswerStream(io.FileIO(path, "a"), "records") as stream:
        positions = [stream.tell()]
        for text, is_flushed in (("é\n", True), ("b", False), ("c\n", True)):
            stream.write(text)
            if is_flushed:
                stream.flush()
            positions.append(stream.tell())
    assert positions == [4, 7, 8, 10]
