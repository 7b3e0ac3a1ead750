"""Measures the time of every stage of one picture and draws it: smolcli with each vision engine against llama-mtmd-cli.

    python benchmarks/stages.py LLAMA_MTMD_CLI docs/performance.svg --language FILE --mmproj FILE

Whole processes take turns, with a new picture every round; the plot shows for each the round of the median time. Time
outside all stages is drawn as start: Python, libraries, files.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import matplotlib
import rivals
from sides import compared

from smolcli.system.cpu import usable_cores

matplotlib.use("svg")
import matplotlib.pyplot as plt

RIVAL = "llama-mtmd-cli"
SIDES = {  # label in the plot -> vision engine and dtype of smolcli; None for the rival
    RIVAL: None,
    "smolcli, mtmd": ("mtmd", "auto"),
    "smolcli, OpenVINO float32": ("openvino", "float32"),
    "smolcli, PyTorch bfloat16": ("torch", "bfloat16"),
    "smolcli, OpenVINO bfloat16": ("openvino", "bfloat16"),
}
STAGES = {"start": "#9aa0a6", "load": "#c58af9", "media": "#fcc934", "encode": "#4285f4", "prefill": "#34a853",
          "decode": "#ea4335"}  # fmt: skip
RENAMED = {"prefill and cutting": "prefill"}  # stages of the rival with another name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", type=Path)
    parser.add_argument("plot", type=Path)
    parser.add_argument("--language", type=Path, required=True)
    parser.add_argument("--mmproj", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, choices=rivals.GRIDS, default=13)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--threads", type=int, default=usable_cores())
    args = parser.parse_args()
    args.smolcli, args.theirs = [], []
    runs: dict[str, list[rivals.Run]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            path = rivals.picture(Path(folder) / "in", number, args)
            for name, engine in SIDES.items():
                runs[name].append(run(args, Path(folder), path, engine))
    medians = {name: sorted(rounds, key=lambda run: run.seconds)[len(rounds) // 2] for name, rounds in runs.items()}
    stages = {name: seconds_by_stage(median) for name, median in medians.items()}
    for name, seconds in stages.items():
        print(
            f"| {name} | {medians[name].seconds:.2f} | "
            + " | ".join(f"{seconds[stage]:.2f}" for stage in STAGES)
            + " |"
        )
    rival = [run.seconds for run in runs[RIVAL]]
    for name, rounds in runs.items():
        if name != RIVAL:
            compared(f"{name} and {RIVAL}", [run.seconds for run in rounds], rival, "s")
    draw(stages, args.plot)


def run(args: argparse.Namespace, folder: Path, path: Path, engine: tuple[str, str] | None) -> rivals.Run:
    """Run one side on a picture."""
    if engine is None:
        return rivals.mtmd_cli(args, folder, rivals.QUESTION, [path], *rivals.limit(args.tiles, args.mmproj))
    args.vision_engine, args.dtype = engine
    return rivals.smolcli(args, folder, "ask", rivals.QUESTION, path, *rivals.detail(args.tiles))


def seconds_by_stage(run: rivals.Run) -> dict[str, float]:
    """The seconds of each stage in the order of STAGES; their sum is the whole time."""
    parts = re.findall(r"([a-z ]+) ([\d.]+)(?:,|$)", run.parts)
    seconds = {RENAMED.get(name.strip(), name.strip()): float(value) for name, value in parts}
    return {name: seconds.get(name, 0.0) for name in STAGES} | {"start": run.seconds - sum(seconds.values())}


def draw(stages: dict[str, dict[str, float]], file: Path) -> None:
    """Draw a stacked bar for each side."""
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(stages) + 1.1), layout="constrained")
    for row, seconds in enumerate(stages.values()):
        left = 0.0
        for stage, colour in STAGES.items():
            axes.barh(row, seconds[stage], left=left, color=colour, label=stage if row == 0 else None)
            left += seconds[stage]
        axes.text(left, row, f" {left:.1f} s", va="center")
    axes.set_yticks(range(len(stages)), list(stages))
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=len(STAGES), frameon=False)
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
