"""Two runs of smolcli on the same cores: does either starve the other?

    python benchmarks/side_by_side.py

One `smolcli ocr` of two samples alone and two of them at once, whole processes, with the spin count of libgomp's
own default and with the one that smolcli sets.
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

from smolcli.process.worker_main import SPINS

SAMPLES = Path(__file__).parent.parent / "docs" / "samples"
COMMAND = [sys.executable, "-m", "smolcli", "ocr", "-q", "-b", "llamacpp", SAMPLES / "page.png", SAMPLES / "sign.png"]


def seconds(processes: int, spins: int) -> float:
    """Wall time until so many processes, started together, have all ended."""
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
    seconds(1, SPINS)  # warm
    for spins in (SPINS, 300_000):
        times = {n: statistics.median(seconds(n, spins) for _ in range(args.repetitions)) for n in (1, 2)}
        print(json.dumps({"spins": spins, **{f"{n} at once": round(each, 2) for n, each in times.items()}}), flush=True)


if __name__ == "__main__":
    main()
