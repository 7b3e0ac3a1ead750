"""Measures the language half on this CPU: the choices smolcli made in using llama.cpp, each against the alternative.

    python benchmarks/language.py MODEL.gguf --mmproj FILE [--threads 2] [--rounds 5]

- the prefill of 13 tiles in one call, against one call for every tile and text, as llama.cpp's tools do it
- one decoding step of 1 to 16 sequences in one call
- flash attention against none
- encoding pictures during decoding, against one after the other

The two sides of each take turns; the results are medians, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from unittest.mock import patch

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as smolcli.process.child sets it, before llama.cpp is loaded

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray
from sides import compared

from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.llamacpp.kv_cache import Sequences
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.system.cpu import usable_cores

TILES, TOKENS = 13, 64  # of a picture of 2048 x 1536, and of a tile of the 256M
BETWEEN = 3  # tokens of text between two tiles, about
CONTEXT = 600  # tokens before the reply, where decoding is measured
STEPS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--mmproj", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    files = ModelFiles("model", gguf=args.model, mmproj=args.mmproj)
    backend = LlamaCpp(files, Model(threads=args.threads, jobs=16))
    prompt_in_one_call(backend, args)
    replies_by_one_call(backend, args)
    flash_attention(backend, args)
    encoding_beside(backend, args)


def make_sequences(backend: LlamaCpp, args: argparse.Namespace, most: int) -> Sequences:
    return Sequences(backend._model, backend.vocabulary.size, args.threads, most, 2**40)


def rows(backend: LlamaCpp, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Random embeddings (count, width) of the size that a model's own have."""
    noise = np.random.default_rng(seed).standard_normal((count, backend._sequences.embedding_size))
    return (0.05 * noise).astype(np.float32)


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def prefill(sequences: Sequences, embeddings: NDArray[np.float32], key: int = 0, seed: int = 0) -> None:
    """Evaluate a prompt anew as the sequence `key`."""
    marks = np.arange(len(embeddings)) + 10**6 * (seed + 1)
    sequences.release(key)
    max_length = len(embeddings) + STEPS + 1
    sequences.reserve([max_length])
    sequences.prefill(key, marks, embeddings, max_length)


def prompt_in_one_call(backend: LlamaCpp, args: argparse.Namespace) -> None:
    parts = [rows(backend, size) for _ in range(TILES) for size in (BETWEEN, TOKENS)]
    whole, chunked = [], []
    sequences = make_sequences(backend, args, 1)
    for number in range(args.rounds + 1):  # the first round is a warm-up
        sequences.release(0)
        sequences.clear_idle()
        whole.append(seconds(partial(prefill, sequences, np.concatenate(parts), seed=number)))

        def by_parts(number: int = number) -> None:
            for count in range(1, len(parts) + 1):  # the prefix in the cache is not computed again
                prefill(sequences, np.concatenate(parts[:count]), seed=100 + number)

        sequences.release(0)
        sequences.clear_idle()
        chunked.append(seconds(by_parts))
    sequences.close()
    compared(f"a prompt of {TILES} tiles, in one call and part by part", whole[1:], chunked[1:], "s")


def replies_by_one_call(backend: LlamaCpp, args: argparse.Namespace) -> None:
    for count in (1, 2, 4, 8, 16):
        sequences = make_sequences(backend, args, count)
        prompt = rows(backend, CONTEXT)
        for key in range(count):
            prefill(sequences, prompt, key, key)
        steps = [seconds(partial(sequences.decode, dict.fromkeys(range(count), 100))) for _ in range(STEPS)]
        sequences.close()
        step = statistics.median(steps[4:])
        print(f"{count} replies: {1e3 * step:.1f} ms a step, {count / step:.0f} tokens/s in all", flush=True)


def flash_attention(backend: LlamaCpp, args: argparse.Namespace) -> None:
    off = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    prompt = rows(backend, TILES * (TOKENS + BETWEEN))
    measured: dict[tuple[str, int], list[float]] = {}
    for number in range(args.rounds + 1):
        for kind in (llama.LLAMA_FLASH_ATTN_TYPE_ENABLED, off):
            sequences = make_sequences(backend, args, 1)
            with patch.object(llama, "LLAMA_FLASH_ATTN_TYPE_DISABLED", kind):  # which kv_cache.py asks for
                prefill(sequences, prompt, seed=99)  # creates the context
            sequences.release(0)
            before = seconds(partial(prefill, sequences, prompt, seed=number))
            after = statistics.median(seconds(partial(sequences.decode, {0: 100})) for _ in range(STEPS))
            sequences.close()
            for name, value in (("prompt", before), ("token", after)):
                measured.setdefault((name, kind), []).append(value)
    for name in ("prompt", "token"):
        on = measured[name, llama.LLAMA_FLASH_ATTN_TYPE_ENABLED][1:]
        compared(f"a {name}, with flash attention and without", on, measured[name, off][1:], "s")


def encoding_beside(backend: LlamaCpp, args: argparse.Namespace) -> None:
    """Compare encoding eight tiles during and before about as long a decoding of eight sequences."""
    side = backend.layout.tile
    numbers = iter(range(10**6))

    def encode() -> None:
        backend._vision.encode([np.random.default_rng(next(numbers)).bytes(3 * side * side) for _ in range(8)])

    sequences = make_sequences(backend, args, 8)
    for key in range(8):
        prefill(sequences, rows(backend, CONTEXT)[: CONTEXT - 100], key, key)
    steps = 0

    def reply() -> None:
        for _ in range(steps):
            sequences.decode(dict.fromkeys(range(8), 100))

    encode()
    step = statistics.median(seconds(lambda: sequences.decode(dict.fromkeys(range(8), 100))) for _ in range(5))
    steps = min(80, max(1, round(seconds(encode) / step)))
    beside, after = [], []
    for _ in range(args.rounds):
        for key in range(8):
            sequences.release(key)
            prefill(sequences, rows(backend, CONTEXT)[: CONTEXT - 100], key, key)

        def both() -> None:
            other = Thread(target=encode)
            other.start()
            reply()
            other.join()

        beside.append(seconds(both))
        for key in range(8):
            sequences.release(key)
            prefill(sequences, rows(backend, CONTEXT)[: CONTEXT - 100], key, key)

        def apart() -> None:
            encode()
            reply()

        after.append(seconds(apart))
    compared(f"8 tiles and {steps} steps of 8 replies, at the same time and one after the other", beside, after, "s")
    sequences.close()


if __name__ == "__main__":
    main()
