"""Measures what the fingerprint of a model's files adds to the start of a run: the first time and later.

    python benchmarks/fingerprint.py [--mb 500] [--rounds 5]

A GGUF pair of random bytes, as long as --mb together, is hashed by a process that has not seen it, and then by one that
finds the digests on the disk. The files are in the system's cache of the disk both times.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from smolcli.models.fingerprint import LONGEST_TICK

CODE = """
import sys, time
from pathlib import Path
from smolcli.models.files import ModelFiles
from smolcli.models.fingerprint import fingerprint
files = ModelFiles("a", gguf=Path(sys.argv[1]), mmproj=Path(sys.argv[2]))
started = time.perf_counter()
fingerprint(files, "llamacpp")
print(time.perf_counter() - started)
"""


def seconds(files: list[Path], cache: Path) -> float:
    command = [sys.executable, "-c", CODE, *map(str, files)]
    done = subprocess.run(command, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mb", type=int, default=500, help="length of the pair, in MB")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "a.gguf", Path(folder) / "mmproj-a.gguf"]
        for file, share in zip(files, (0.65, 0.35), strict=True):
            with file.open("wb") as stream:
                for _ in range(int(args.mb * share)):
                    stream.write(os.urandom(1_000_000))
        time.sleep(LONGEST_TICK + 1)  # digests of files that have just been written are not kept
        first, later = [], []
        for _ in range(args.rounds):
            cache = Path(folder) / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            first.append(seconds(files, cache))
            later.append(seconds(files, cache))
    for name, times in {"first": first, "later": later}.items():
        print(f"{name}: {statistics.median(times):.4f} s ({min(times):.4f} to {max(times):.4f})")


if __name__ == "__main__":
    main()
