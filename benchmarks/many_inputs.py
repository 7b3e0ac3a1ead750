"""Measures the cost of many inputs: a million in one run and its resumption, and one process against one per input.

    python benchmarks/many_inputs.py million million/ --count 1000000     # list, answer, write; then resume
    python benchmarks/many_inputs.py loop                                 # 64 pictures against a shell loop

The echo backend answers the million, so that everything but a model is measured. Peak memory is that of the process
the user starts (/proc/PID/status, VmHWM), without its engine.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

SMOLCLI = [sys.executable, "-m", "smolcli"]
SAMPLES = sorted((Path(__file__).parent.parent / "docs" / "samples").glob("*.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    million = commands.add_parser("million")
    million.add_argument("folder", type=Path)
    million.add_argument("--count", type=int, default=1_000_000)
    loop = commands.add_parser("loop")
    loop.add_argument("--count", type=int, default=64)
    loop.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.command == "million":
        run_million(options.folder, options.count)
    else:
        run_loop(options.count, options.rounds)


def run_million(folder: Path, count: int) -> None:
    make_pictures(folder, count)
    results = folder.with_suffix(".jsonl")
    results.unlink(missing_ok=True)
    command = [*SMOLCLI, "caption", str(folder), "-b", "echo", "-q", "-o", str(results), "--resume"]
    seconds, peak = timed(command)
    with results.open("rb") as file:
        written = sum(1 for _ in file)
    print(f"{count:,} inputs: {seconds:.0f} s, {seconds / count * 1e3:.2f} ms each, parent {peak / 1e6:.0f} MB at most")
    print(f"{written:,} records, {results.stat().st_size / 1e6:.0f} MB")
    first = folder / "zz_new.png"  # the last in order: all others are looked up before it
    first.write_bytes(picture(count + 1))
    before = results.stat().st_size
    started = time.perf_counter()
    resumed = subprocess.Popen(command)
    while results.stat().st_size == before:
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    peak = peak_memory(resumed.pid)
    resumed.wait()
    print(f"resumed: the first new record after {seconds:.1f} s, parent {peak / 1e6:.0f} MB")
    first.unlink()


def run_loop(count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        files = []
        for number in range(count):
            file = Path(place) / f"{number}.png"
            file.write_bytes(SAMPLES[number % len(SAMPLES)].read_bytes())
            files.append(str(file))
        together, apart = [], []
        for _ in range(rounds):
            together.append(timed([*SMOLCLI, "caption", "-q", place])[0])
            script = 'for file in "$@"; do "$PYTHON" -m smolcli caption -q "$file"; done'
            apart.append(timed(["bash", "-c", script, "loop", *files])[0])
        ratio = statistics.median(apart) / statistics.median(together)
        print(f"{count} pictures with nano, medians of {rounds}: one process {statistics.median(together):.1f} s,")
        print(f"a process each {statistics.median(apart):.1f} s, {ratio:.1f} times as long")


def timed(command: list[str]) -> tuple[float, int]:
    """Wall time of a command in seconds, and its peak resident memory in bytes, without its children."""
    started = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHON": sys.executable})
    _, status, usage = os.wait4(running.pid, 0)
    if status:
        sys.exit(f"{command[:6]} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


def peak_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def make_pictures(folder: Path, count: int) -> None:
    """Write `count` small PNG files, no two of them equal, unless they exist."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        file = folder / f"{number:07}.png"
        if not file.exists():
            file.write_bytes(picture(number))


def picture(number: int) -> bytes:
    """A PNG of 8 x 8 pixels whose colour follows from `number`."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number & 255, number >> 8 & 255, number >> 16)).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
