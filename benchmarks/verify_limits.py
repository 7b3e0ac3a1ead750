"""Measures how much sound GGUF pairs differ from seed to seed: the source of the limits in converters/thresholds.py.

    python benchmarks/make_256m.py /tmp/256m
    python benchmarks/verify_limits.py limits.jsonl --checkpoint /tmp/256m --seeds 10    # goes on where it ended
    python benchmarks/verify_limits.py limits.jsonl                                      # the tables alone

For each seed the vision half of a checkpoint is drawn anew, as transformers initializes it, beside the same language
half. The new checkpoint is converted to every quantization, and each pair is compared with it as `convert-to-gguf
--verify` does: every language half beside the f16 vision half, every other vision half beside the f16 language half.
The results file has one JSON line for each seed and pair; what is there is not measured again.

The tables show, for each limit, the mean and the standard deviation of the seeds, the worst seed, the limit, the share
of sound pairs that it would refuse, and the limit at 4 standard deviations from the mean. The share is that of a normal
distribution with this mean and deviation: of the share of equal top tokens as it is, of KL divergences and of
1 - cosine in their logarithms, of which the mean is a geometric one and the deviation a factor.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText

from smolcli.backends.vision.mtmd import MtmdEncoder
from smolcli.converters import plan, write
from smolcli.converters.quantization import QUANTIZATIONS
from smolcli.converters.thresholds import THRESHOLDS
from smolcli.converters.verify import CHECKPOINT_BACKEND, Agreement, compare_pair, run_reference
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Model

FAR = 4.0  # standard deviations: by a normal distribution a sound pair in 30,000 is refused
BASE = "f16"  # the other half of each pair
Pair = tuple[str, str]  # the quantizations of the language half and of the vision half
Line = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """A number of a comparison that has a limit: `scale` makes it normal, `unscale` is the inverse.

    A pair is worse the lower the number is, or with `grows` the higher.
    """

    title: str
    value: Callable[[Line], float]
    limit: Callable[[str], float]  # of a quantization
    grows: bool
    scale: Callable[[float], float]
    unscale: Callable[[float], float]


MEASURES = (
    Measure("top-1", lambda line: line["top1"], lambda name: THRESHOLDS[name].top1, False, float, float),
    Measure("mean KL", lambda line: line["kl"], lambda name: THRESHOLDS[name].kl, True, math.log, math.exp),
    Measure(
        "1 - cosine", lambda line: max(1e-9, 1 - line["cosine"]), lambda name: 1 - THRESHOLDS[name].cosine, True,
        math.log, math.exp,
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON Lines; new ones are appended")
    parser.add_argument("--checkpoint", help="nano, or a directory, whose language half is taken; none: tables alone")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    lines = list(read(args.results))
    if args.checkpoint is not None:
        files = resolve.resolve(Model(model=args.checkpoint), CHECKPOINT_BACKEND)
        for seed in range(args.seeds):
            for line in measured(files, seed, lines, args.threads):
                lines.append(line)
                with args.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"seed {seed}: {line['language']} + {line['vision']}: top-1 {line['top1']:.4f}", flush=True)
    for model in dict.fromkeys(line["model"] for line in lines):
        print_tables(model, [line for line in lines if line["model"] == model])


def read(results: Path) -> Iterator[Line]:
    """Yield the lines of a results file without a torn one at its end, which is removed."""
    if not results.exists():
        return
    whole, newline, torn = results.read_text(encoding="utf-8").rpartition("\n")
    if torn:
        results.write_text(whole + newline, encoding="utf-8")
    yield from map(json.loads, whole.splitlines())


def all_pairs() -> list[Pair]:
    """The pairs that are compared."""
    visions = [name for name, quantization in QUANTIZATIONS.items() if quantization.tensor is not None]
    return [(name, BASE) for name in QUANTIZATIONS] + [(BASE, name) for name in visions if name != BASE]


def measured(files: ModelFiles, seed: int, lines: Iterable[Line], threads: int | None) -> Iterator[Line]:
    """Yield the comparison of each pair of a seed that is not among the lines."""
    of_seed = [line for line in lines if (line["model"], line["seed"]) == (files.name, seed)]
    known = {(line["language"], line["vision"]) for line in of_seed}
    pairs = [pair for pair in all_pairs() if pair not in known]
    if not pairs:
        return
    assert files.checkpoint is not None  # the backend reads checkpoints
    with tempfile.TemporaryDirectory(prefix="smolcli-") as folder:
        drawn = draw_vision(files.checkpoint, seed, Path(folder) / "drawn")
        layout, traces = run_reference(drawn, threads=threads)
        languages, visions = ([*dict.fromkeys(names)] for names in zip(*pairs, strict=True))
        planned = plan(drawn, Path(folder), languages, visions)
        write(planned)
        paths = {output.path.name: output.path for output in planned.outputs}
        for vision, of_vision in groupby(pairs, key=lambda pair: pair[1]):
            with tiles_encoded_once():
                for language, _ in of_vision:
                    pair = paths[f"drawn-{language.upper()}.gguf"], paths[f"mmproj-drawn-{vision.upper()}.gguf"]
                    agreement = compare_pair(*pair, layout, traces, threads)
                    yield {"model": files.name, "seed": seed, **asdict(replace(agreement, difference=None))}


@contextmanager
def tiles_encoded_once() -> Iterator[None]:
    """Let all pairs of one vision half share its embeddings, which take most of the time of a comparison."""
    encode, encoded = MtmdEncoder._encode, dict[bytes, Any]()

    def encode_once(encoder: MtmdEncoder, tile: bytes) -> Any:
        if tile not in encoded:
            encoded[tile] = encode(encoder, tile)
        return encoded[tile]

    with patch.object(MtmdEncoder, "_encode", encode_once):
        yield


def draw_vision(checkpoint: Path, seed: int, out: Path) -> Path:
    """Write a checkpoint of the same language half whose vision tower and connector are random, and return `out`."""
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(checkpoint)
    model: Any = AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]
    tensors = {name: tensor for file in checkpoint.glob("*.safetensors") for name, tensor in load_file(file).items()}
    language = {name: tensor for name, tensor in tensors.items() if "text_model" in name or "lm_head" in name}
    missing, unexpected = model.load_state_dict(language, strict=False)
    assert not unexpected and not [name for name in missing if "text_model" in name], "not a checkpoint of the family"
    model.to(config.dtype or torch.float32)
    model.save_pretrained(out)
    for file in checkpoint.iterdir():
        if file.suffix in (".json", ".jinja") and not file.name.endswith(".index.json"):
            shutil.copy(file, out)
    return out


def print_tables(model: str, lines: Sequence[Line]) -> None:
    """Print the spread of each limit of a model as tables in Markdown."""
    for half, other, measures in (("language", "vision", MEASURES[:2]), ("vision", "language", MEASURES)):
        print(f"\n{model}, {half} halves beside {BASE}\n")
        print("| quantization | measure | seeds | mean | deviation | worst | limit | refused | at 4 deviations |")
        print("|---|---|---|---|---|---|---|---|---|")
        for name in QUANTIZATIONS:
            of_name = [line for line in lines if (line[half], line[other]) == (name, BASE)]
            for measure in measures:
                if len(of_name) > 1:
                    print(f"| {name} | {row(measure, measure.limit(name), list(map(measure.value, of_name)))} |")
    refused = sum(bool(agreement_of(line).failures) for line in lines)
    print(f"\n{refused} of {len(lines)} pairs are refused, all of them sound")


def agreement_of(line: Line) -> Agreement:
    """The comparison of a line, which is judged by the limits of today."""
    known: dict[str, Any] = {field.name: line.get(field.name) for field in fields(Agreement)}
    return Agreement(**known)


def row(measure: Measure, limit: float, values: Sequence[float]) -> str:
    """The cells of one limit."""
    scaled = list(map(measure.scale, values))
    mean, deviation = statistics.fmean(scaled), statistics.stdev(scaled)
    far = measure.unscale(mean + FAR * deviation * (1 if measure.grows else -1))
    spread = f"x {math.exp(deviation):.2f}" if measure.scale is math.log else f"{deviation:.4f}"
    worst = (max if measure.grows else min)(values)
    numbers = (measure.unscale(mean), worst, limit, far)
    center, least, limited, suggested = (f"{number:.2g}" if measure.grows else f"{number:.3f}" for number in numbers)
    share = refused_share(measure, limit, mean, deviation)
    return f"{measure.title} | {len(values)} | {center} | {spread} | {least} | {limited} | {share:.2g} | {suggested}"


def refused_share(measure: Measure, limit: float, mean: float, deviation: float) -> float:
    """The share of sound pairs beyond the limit, by a normal distribution of the scaled numbers."""
    scaled = measure.scale(limit)
    if deviation == 0:
        return float(mean > scaled if measure.grows else mean < scaled)
    below = statistics.NormalDist(mean, deviation).cdf(scaled)
    return 1 - below if measure.grows else below


if __name__ == "__main__":
    main()
