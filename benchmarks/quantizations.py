"""Measures size, accuracy and decoding speed of every quantization of a model, for the tables of docs/gguf.md.

    python benchmarks/quantizations.py nano /tmp/nano
    python benchmarks/quantizations.py ./256m /tmp/256m

It converts a checkpoint to every type, verifies every file (`convert-to-gguf --verify`) and measures how fast each
language half decodes: `smolcli ask` with three questions about one picture, the fastest of --runs rounds, since
other programs on the machine can only make it slower.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from smolcli.converters.quantization import QUANTIZATIONS

PICTURE = Path(__file__).parent.parent / "docs" / "samples" / "scene.png"
QUESTIONS = ("Tell a story about a fox.", "What is the capital of France? Tell its history.", "Why is the sky blue?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint directory or nano")
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    direct = [quantization.name for quantization in QUANTIZATIONS.values() if quantization.tensor is not None]
    words = [word for name in QUANTIZATIONS for word in ("--quant", name)]
    words += [word for name in ("f16", *direct) for word in ("--mmproj-quant", name)]
    report = json.loads(smolcli("convert-to-gguf", args.model, "-o", args.out, *words, "--verify", "--json"))
    sizes = {file["path"]: file["bytes"] for file in report["files"]}
    texts = report["verify"][: len(QUANTIZATIONS)]
    rounds = [[decoded(check) for check in texts] for _ in range(args.runs)]
    head("language", "tokens/s")
    for check, speed in zip(texts, map(max, zip(*rounds, strict=True)), strict=True):
        print(f"| {check['quant']} | {row(check, sizes[check['language']])} | {speed:.0f} |", flush=True)
    head("vision", "mean cosine")
    for check in [texts[0], *report["verify"][len(QUANTIZATIONS) :]]:
        print(f"| {check['mmproj_quant']} | {row(check, sizes[check['vision']])} | {check['cosine']:.6f} |")


def head(half: str, last: str) -> None:
    print(f"\n| {half} half | MB | top-1 | mean KL | 99% KL | same answers | {last} |\n|---|---|---|---|---|---|---|")


def row(check: dict[str, Any], size: int) -> str:
    numbers = f"{check['top1']:.3f} | {check['kl']:.2g} | {check['kl_99']:.2g}"
    return f"{size / 1e6:.1f} | {numbers} | {check['same']} of {check['probes']}"


def decoded(check: dict[str, Any]) -> float:
    """The decoding speed of three answers, in tokens a second."""
    also = [word for question in QUESTIONS[1:] for word in ("-Q", question)]
    model = ["-m", check["language"], "--mmproj", check["vision"]]
    line = smolcli("ask", QUESTIONS[0], *also, PICTURE, *model, "-n", "64", "--detail", "low", "-q", "-f", "jsonl")
    record = json.loads(line)
    return float(record["tokens"]["new"] / record["seconds"]["decode"])


def smolcli(*words: object) -> str:
    """The standard output of smolcli; exit code 1, a pair that misses its limits, is accepted."""
    done = subprocess.run([sys.executable, "-m", "smolcli", *map(str, words)], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"smolcli ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
