"""Measures `smolcli records`: seconds, CPU and peak memory for many records, by what is asked for.

    python benchmarks/records.py --count 100000 --rounds 3

The records are of ask with a schema, as long as real ones, and one in ten has failed. Their number decides the time;
memory stays the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = {
    "--where 'tokens.new > 100 and error.kind is null' -f jsonl": (
        "--where", "tokens.new > 100 and error.kind is null", "-f", "jsonl",
    ),
    "--where 'data.total > 100' -f csv --fields path,data.total": (
        "--where", "data.total > 100", "-f", "csv", "--fields", "path,data.total",
    ),
    "-f csv": ("-f", "csv"),
    "-f jsonl": ("-f", "jsonl"),
    "--failed": ("--failed",),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.jsonl"
        write_records(file, options.count)
        print(f"{options.count:,} records, {file.stat().st_size / 1e6:.0f} MB")
        for title, words in CASES.items():
            figures = [measure(file, *words) for _ in range(options.rounds)]
            seconds = [figure[0] for figure in figures]
            peak = max(figure[1] for figure in figures)
            print(
                f"{title}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f}), "
                f"{statistics.median(figure[2] for figure in figures):.1f} s of CPU, {peak / 1e6:.0f} MB at most"
            )


def measure(file: Path, *words: str) -> tuple[float, int, float]:
    """Wall time of the whole command in seconds, its peak resident memory in bytes, and its CPU time in seconds."""
    command = [sys.executable, "-m", "smolcli", "records", str(file), *words]
    started = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(running.pid, 0)
    if status:
        sys.exit(f"{words} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def write_records(file: Path, count: int) -> None:
    """Write `count` records of receipts; the totals go from 0 to 250, the tokens from 20 to 180."""
    with file.open("w", encoding="utf-8") as stream:
        for number in range(count):
            data = {"vendor": f"Shop {number % 97}", "date": "2026-08-01", "total": number % 251, "paid": True}
            error = {"kind": "truncated", "message": "is cut short; copy it again"} if number % 10 == 0 else None
            fields: dict[str, object] = {
                "path": f"receipts/{number % 1000:03}/{number:07}.jpg", "id": f"{number:064x}",
                "sha256": f"{number:064x}", "stamp": "152333-1785555555555555555-1785555555555555555", "task": "ask",
                "text": "" if error else json.dumps(data), "data": None if error else data, "model": "256m",
                "backend": "llamacpp", "finish_reason": "error" if error else "stop",
                "tokens": {"prompt": 968, "image": 832, "new": 20 + number % 161},
                "seconds": {"load": 0.0, "media": 0.058, "encode": 1.122, "prefill": 0.93, "decode": 1.003},
                "notices": [], "memory": {"parent": 27000000, "engine": 888000000, "gpu": 0}, "error": error,
            }  # fmt: skip
            stream.write(json.dumps(fields) + "\n")


if __name__ == "__main__":
    main()
