"""Which backend answers soonest, one picture and many: what `--backend auto` takes rests on it.

    python benchmarks/auto.py --rounds 5
    python benchmarks/auto.py --count 8 "-b llamacpp -m 256m.gguf -n 64" "-b torch -m 256m --dtype bfloat16 -n 64"

Prints for each job the median seconds of every backend, and the median of the rounds' ratios to the first one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from PIL import Image

from smolcli.nano import evaluate

SEED = 7
SCENE = Path(__file__).parents[1] / "docs" / "samples" / "scene.png"


def save_pictures(folder: Path, suite: str, count: int) -> None:
    """Draw held-out pictures of one tile."""
    for number, case in enumerate(evaluate.cases(suite, count, SEED)):
        frame = case.prompt.decoded_frames[0]
        Image.frombytes("RGB", (frame.width, frame.height), frame.rgb).save(folder / f"{number:04}.png")


def seconds(*words: str) -> float:
    """Run one command of smolcli and return its wall time."""
    started = time.perf_counter()
    subprocess.run(["smolcli", *words, "-q"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def compare(name: str, backends: list[str], rounds: int, *words: str) -> None:
    """Run the backends, or commands of these options, in turn and print their times."""
    options = [backend.split() if backend.startswith("-") else ["-b", backend, "-m", "nano"] for backend in backends]
    times = [[seconds(*words, *chosen) for chosen in options] for _ in range(rounds)]
    for number, backend in enumerate(backends):
        ratios = [row[number] / row[0] for row in times]
        median, ratio = statistics.median(row[number] for row in times), statistics.median(ratios)
        print(f"{name}: {backend} {median:.2f} s, {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backends", nargs="*", default=["llamacpp", "numpy"], help="of nano, or options in quotes")
    parser.add_argument("--count", type=int, default=200, help="pictures of a folder")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    compare("one picture", args.backends, args.rounds, "caption", str(SCENE))
    for task, suite in (("caption", "captions"), ("ocr", "six lines")):
        with tempfile.TemporaryDirectory() as folder:
            save_pictures(Path(folder), suite, args.count)
            compare(f"{args.count} {suite}", args.backends, args.rounds, task, folder)


if __name__ == "__main__":
    main()
