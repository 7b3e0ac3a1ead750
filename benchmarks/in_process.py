"""Measures how long PyTorch takes for many pictures of docs/samples, without the start of a process.

    python benchmarks/in_process.py nano --count 200 --detail low                # as many slots as --jobs is by default
    python benchmarks/in_process.py /tmp/256m --count 16 --tokens 48 --detail low --jobs 8
    PYTHONPATH=../earlier python benchmarks/in_process.py nano --count 200 --detail low    # an earlier checkout

Two pixels of each picture differ, so that no picture is encoded once for several prompts; of pictures that are cut,
the other tiles are. The digest of all answers is printed, so that two versions can be compared.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from smolcli.backends.pytorch import PyTorch
from smolcli.generation.scheduler import generate
from smolcli.models import resolve
from smolcli.options import Generate, Model
from smolcli.types import Frame, Prompt

SAMPLES = sorted((Path(__file__).parent.parent / "docs" / "samples").glob("*.png"))


def prompt(number: int) -> Prompt:
    """A question about one of the samples, which differs from that of every other number below 63,000."""
    picture = Image.open(SAMPLES[number % len(SAMPLES)]).convert("RGB")
    pixels = np.array(picture)
    pixels[0, 0], pixels[0, 1] = number % 251, number // 251
    return Prompt.user(Frame(pixels.tobytes(), *picture.size), "Describe this image in one sentence.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=200, help="pictures")
    parser.add_argument("--tokens", type=int, default=64, help="at most, of each answer")
    parser.add_argument("--detail", default="auto")
    parser.add_argument("--jobs", type=int, help="slots")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    options = Model(model=args.model, device="cpu", detail=args.detail, jobs=args.jobs)
    backend = PyTorch(resolve.resolve(options, "torch"), options)
    prompts = [prompt(number) for number in range(args.count)]
    for _ in range(args.rounds):
        backend.clear_cache()
        texts, tokens, encode = defaultdict[int, str](str), 0, 0.0
        started = time.perf_counter()
        for piece in generate(backend, prompts, Generate(max_tokens=args.tokens)):
            texts[piece.index] += piece.text
            if piece.finish is not None:
                tokens, encode = tokens + piece.finish.tokens.new, encode + piece.finish.seconds.encode
        seconds = time.perf_counter() - started
        digest = hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:8]
        print(f"{seconds:.2f} s, of which encoding {encode:.2f}; {tokens} tokens; answers {digest}")


if __name__ == "__main__":
    main()
