"""Measures two smolcli processes on the same cores against one process alone.

    python benchmarks/side_by_side.py

Each process is `smolcli ocr` on two samples. The wall time is measured with the spin count that smolcli sets and with
libgomp's default, with which waiting threads take CPU time from the other process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from smolcli.process.worker_main import SPIN_COUNT

SAMPLES = Path(__file__).parent.parent / "docs" / "samples"
PAGES = [str(SAMPLES / name) for name in ("page.png", "sign.png")]
COMMAND = [sys.executable, "-m", "smolcli", "ocr", "-q", "-b", "llamacpp", *PAGES]


def seconds(processes: int, spins: int) -> float:
    """Wall time in seconds until all of `processes`, started together, have ended."""
    env = {**os.environ, "GOMP_SPINCOUNT": str(spins)}
    started = time.perf_counter()
    running = [subprocess.Popen(COMMAND, env=env, stdout=subprocess.DEVNULL) for _ in range(processes)]
    if any(process.wait() for process in running):
        raise SystemExit("a run failed")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    seconds(1, SPIN_COUNT)  # warm-up
    for spins in (SPIN_COUNT, 300_000):
        times = {n: statistics.median(seconds(n, spins) for _ in range(args.repetitions)) for n in (1, 2)}
        print(
            json.dumps({"spins": spins, **{f"{n} at once": round(median, 2) for n, median in times.items()}}),
            flush=True,
        )


if __name__ == "__main__":
    main()
