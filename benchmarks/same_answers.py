"""Compares the answers of two backends about drawn pictures, word for word.

    python benchmarks/same_answers.py torch numpy --pictures 200                         # nano
    python benchmarks/same_answers.py torch numpy -m /tmp/256m --pictures 20 -n 32       # the 256M shape

Prints how many texts are equal, and those that are not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from auto import save_pictures


def texts(backend: str, folder: Path, args: argparse.Namespace) -> dict[str, str]:
    """The answers of a backend by the names of the pictures."""
    out = folder / f"{backend}.jsonl"
    words = ("-m", args.model, "-b", backend, "--detail", args.detail, "-n", str(args.tokens), "-q", "-o", str(out))
    subprocess.run([sys.executable, "-m", "smolcli", "caption", str(folder), *words, "--timeout", "3600"], check=True)
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert not any(record["error"] for record in records)
    return {Path(record["path"]).name: record["text"] for record in records}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backends", nargs=2)
    parser.add_argument("-m", "--model", default="nano")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--detail", default="auto")
    parser.add_argument("-n", "--tokens", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_pictures(folder, "captions", args.pictures)
        first, second = (texts(backend, folder, args) for backend in args.backends)
    same = sum(first[picture] == second[picture] for picture in first)
    print(f"{' and '.join(args.backends)}, {args.model}: {same} of {len(first)} answers equal")
    for picture in sorted(first):
        if first[picture] != second[picture]:
            print(f"    {picture}: {first[picture]!r} | {second[picture]!r}")


if __name__ == "__main__":
    main()
