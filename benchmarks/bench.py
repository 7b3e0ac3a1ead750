"""Checks `smolcli bench`: its figures against llama-bench and against the wall time of commands, and its own cost.

    python benchmarks/bench.py llama-bench LLAMA_BENCH MODEL.gguf    # prefill and decode of text
    python benchmarks/bench.py parts MODEL [--new 64]                # sum of the stages against wall time
    python benchmarks/bench.py rows [--rows 1000]                    # bench quality against ask on the same rows
    python benchmarks/bench.py data DIR [--rows 200]                 # write held-out, labelled pictures for nano

The two sides take turns; the result is the median of the rounds' ratios. Build LLAMA_BENCH yourself:
`cmake --build build --target llama-bench` in llama.cpp, or in llama-cpp-python's sdist.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sides import compared

from smolcli.backends.llamacpp.kv_cache import BATCH, UBATCH
from smolcli.process.worker_main import SPIN_COUNT

SMOLCLI = (sys.executable, "-m", "smolcli")
QUESTION = "Describe this image."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    beside = commands.add_parser("llama-bench")
    beside.add_argument("tool", type=Path)
    beside.add_argument("model", type=Path)
    beside.add_argument("--prompt", type=int, default=512)
    beside.add_argument("--new", type=int, default=64)
    parts = commands.add_parser("parts")
    parts.add_argument("model")
    parts.add_argument("--new", type=int, default=64)
    parts.add_argument("--image", default="1024x768")
    commands.add_parser("rows").add_argument("--rows", type=int, default=1000)
    data = commands.add_parser("data")
    data.add_argument("folder", type=Path)
    data.add_argument("--rows", type=int, default=200, help="of each of three kinds")
    for command in (beside, parts):
        command.add_argument("--backend", default="llamacpp")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    commands_by_name = {"llama-bench": llama_bench, "parts": sum_of_parts, "rows": cost_of_scoring, "data": labelled}
    commands_by_name[args.command](args)


def speed(model: object, args: argparse.Namespace, *words: object) -> dict[str, Any]:
    """Run `bench speed` with one repetition and return its only result."""
    command = (*SMOLCLI, "bench", "speed", "-m", model, "-b", args.backend, "--threads", args.threads, "--repeat", 1)
    done = subprocess.run([*map(str, (*command, *words)), "--json"], check=True, capture_output=True, text=True)
    [result] = json.loads(done.stdout)["results"]
    return dict(result)


def llama_bench(args: argparse.Namespace) -> None:
    """Compare prefill and decode with llama-bench on the same file, threads, batch and lengths.

    llama-bench runs as smolcli does: without flash attention and repacking, and with the same spin count.
    """
    spins = {**os.environ, "GOMP_SPINCOUNT": str(SPIN_COUNT)}
    same = (
        "-t",
        args.threads,
        "-b",
        BATCH,
        "-ub",
        UBATCH,
        "-fa",
        "off",
        "--repack",
        0,
        "-ngl",
        0,
        "-r",
        1,
        "-o",
        "json",
    )

    def theirs(*words: object) -> float:
        command = [str(word) for word in (args.tool, "-m", args.model, *same, *words)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=spins)
        return float(json.loads(done.stdout)[0]["avg_ts"])

    figures: dict[str, tuple[list[float], list[float]]] = {"prefill": ([], []), "decode": ([], [])}
    for _ in range(args.rounds):
        mine = speed(args.model, args, "--image", "none", "--prompt-tokens", args.prompt, "--new-tokens", args.new + 1)
        assert mine["facts"]["tokens"] == args.prompt, mine["facts"]
        for name, words in (("prefill", ("-p", args.prompt, "-n", 0)),
                            ("decode", ("-p", 0, "-n", args.new, "-d", args.prompt))):  # fmt: skip
            figures[name][0].append(mine["figures"][name]["value"])
            figures[name][1].append(theirs(*words))
    for name, sides in figures.items():
        compared(f"{name} of {args.model.name}, smolcli and llama-bench", *sides, "tokens/s")


def sum_of_parts(args: argparse.Namespace) -> None:
    """Compare start + load + media + tiles * tile + tokens / prefill + (new - 1) / decode with the wall time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.jpg"
        width, height = map(int, args.image.split("x"))
        rough = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
        length = ("-n", args.new, "--min-tokens", args.new, "-b", args.backend, "--threads", args.threads)
        command = [*map(str, (*SMOLCLI, "ask", QUESTION, path, "-m", args.model, *length, "-q"))]
        sums: list[float] = []
        walls: list[float] = []
        for _ in range(args.rounds):
            mine = speed(args.model, args, "--image", path, "--new-tokens", args.new)
            figure = {name: each["value"] for name, each in mine["figures"].items()}
            sums.append(
                figure["start"] + figure["load"] + figure["media"] + mine["facts"]["tiles"] * figure["tile"]
                + mine["facts"]["tokens"] / figure["prefill"] + (args.new - 1) / figure["decode"]
            )  # fmt: skip
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            walls.append(time.perf_counter() - begun)
    compared(f"{args.model} on {args.backend}, the sum of the parts and the command's wall time", sums, walls, "s")


def cost_of_scoring(args: argparse.Namespace) -> None:
    """Compare the time of `bench quality` and `ask` on the same pictures and question, with the built-in model."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "in").mkdir()
        rng = np.random.default_rng(0)
        rows = []
        for number in range(args.rows):
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(place / "in" / f"{number:06}.png")
            rows.append({"image": f"in/{number:06}.png", "question": QUESTION, "answer": "a circle"})
        (place / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        same = ("-m", "nano", "-b", "llamacpp", "--threads", args.threads, "-n", 32, "-q")
        commands = (
            (*SMOLCLI, "bench", "quality", place / "set.jsonl", *same, "--json", "--records", place / "a.jsonl"),
            (*SMOLCLI, "ask", QUESTION, place / "in", *same, "-o", place / "b.jsonl"),
        )
        sides: tuple[list[float], list[float]] = ([], [])
        for _ in range(args.rounds):
            for command, seconds in zip(commands, sides, strict=True):
                begun = time.perf_counter()
                subprocess.run([str(word) for word in command], check=True, capture_output=True)
                seconds.append(time.perf_counter() - begun)
        answers = [[json.loads(line)["text"] for line in (place / name).open()] for name in ("a.jsonl", "b.jsonl")]
        assert answers[0] == answers[1], "the two commands gave different answers"
    compared(f"{args.rows} rows, bench quality and ask", *sides, "s")


def labelled(args: argparse.Namespace) -> None:
    """Write questions and captions of drawn scenes to DIR/scenes.jsonl, and lines of text to read to DIR/lines."""
    from smolcli.nano.evaluate import cases

    (args.folder / "lines").mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases("one line", args.rows, 1000)):
        case.picture.save(args.folder / "lines" / f"{number:04}.png")
        (args.folder / "lines" / f"{number:04}.txt").write_text(case.answer + "\n", encoding="utf-8")
    rows = []
    for name in ("questions", "captions"):
        for number, case in enumerate(cases(name, args.rows, 1000)):
            case.picture.save(args.folder / f"{name}-{number:04}.png")
            question = str(case.prompt.turns[0].parts[-1])
            row = {"image": f"{name}-{number:04}.png", "question": question, "answer": case.answer, "category": name}
            rows.append(json.dumps(row) + "\n")
    (args.folder / "scenes.jsonl").write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
