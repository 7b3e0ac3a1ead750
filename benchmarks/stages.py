"""Where the time of one picture goes, as a picture: smolcli with each vision engine, and llama-mtmd-cli.

    python benchmarks/stages.py LLAMA_MTMD_CLI docs/performance.svg --language FILE --mmproj FILE

Whole processes that take turns, with a new picture every round; of each the round of the median time is drawn. What no
stage accounts for is the start: Python, libraries, files.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import cpu
import matplotlib
from sides import compared

from smolcli.system.cpu import usable_cores

matplotlib.use("svg")
import matplotlib.pyplot as plt

RIVAL = "llama-mtmd-cli"
SIDES = {  # what is drawn -> vision engine and dtype of smolcli, none for the rival
    RIVAL: None,
    "smolcli, mtmd": ("mtmd", "auto"),
    "smolcli, OpenVINO float32": ("openvino", "float32"),
    "smolcli, PyTorch bfloat16": ("torch", "bfloat16"),
    "smolcli, OpenVINO bfloat16": ("openvino", "bfloat16"),
}
STAGES = {"start": "#9aa0a6", "load": "#c58af9", "media": "#fcc934", "encode": "#4285f4", "prefill": "#34a853",
          "decode": "#ea4335"}  # fmt: skip
SAME = {"prefill and cutting": "prefill"}  # a stage of the rival's that has another name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", type=Path)
    parser.add_argument("plot", type=Path)
    parser.add_argument("--language", type=Path, required=True)
    parser.add_argument("--mmproj", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, choices=cpu.GRIDS, default=13)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--threads", type=int, default=usable_cores())
    args = parser.parse_args()
    args.smolcli, args.theirs = [], []
    runs: dict[str, list[cpu.Run]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            path = cpu.picture(Path(folder) / "in", number, args)
            for name, how in SIDES.items():
                runs[name].append(run(args, Path(folder), path, how))
    medians = {name: sorted(found, key=lambda one: one.seconds)[len(found) // 2] for name, found in runs.items()}
    stages = {name: shares(one) for name, one in medians.items()}
    for name, found in stages.items():
        print(f"| {name} | {medians[name].seconds:.2f} | " + " | ".join(f"{found[each]:.2f}" for each in STAGES) + " |")
    rival = [one.seconds for one in runs[RIVAL]]
    for name, taken in runs.items():
        if name != RIVAL:
            compared(f"{name} and {RIVAL}", [one.seconds for one in taken], rival, "s")
    draw(stages, args.plot)


def run(args: argparse.Namespace, folder: Path, path: Path, how: tuple[str, str] | None) -> cpu.Run:
    if how is None:
        return cpu.mtmd_cli(args, folder, cpu.QUESTION, [path], *cpu.limit(args.tiles, args.mmproj))
    args.vision_engine, args.dtype = how
    return cpu.smolcli(args, folder, "ask", cpu.QUESTION, path, *cpu.detail(args.tiles))


def shares(one: cpu.Run) -> dict[str, float]:
    """Seconds by stage, in their order; they sum to the whole."""
    told = re.findall(r"([a-z ]+) ([\d.]+)(?:,|$)", one.parts)
    found = {SAME.get(name.strip(), name.strip()): float(value) for name, value in told}
    return {name: found.get(name, 0.0) for name in STAGES} | {"start": one.seconds - sum(found.values())}


def draw(stages: dict[str, dict[str, float]], place: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(stages) + 1.1), layout="constrained")
    for row, found in enumerate(stages.values()):
        left = 0.0
        for stage, colour in STAGES.items():
            axes.barh(row, found[stage], left=left, color=colour, label=stage if row == 0 else None)
            left += found[stage]
        axes.text(left, row, f" {left:.1f} s", va="center")
    axes.set_yticks(range(len(stages)), list(stages))
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=len(STAGES), frameon=False)
    figure.savefig(place, metadata={"Date": None})


if __name__ == "__main__":
    main()
