"""Measures the PyTorch backend on a GPU, against transformers' generate: agreement, decoding, pictures, memory.

    python benchmarks/gpu.py --out gpu.json            # on a GPU: at most nine minutes
    python benchmarks/gpu.py --out gpu.json --cpu --small   # the same script in a minute or two, for its own faults

It needs no network: the models are nano, and random weights of the published shapes. The file is written after every
stage; one for which there is no time left, or that fails, says so there. Both sides get the tiles that smolcli cuts.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gpu_models import make
from PIL import Image

from smolcli.backends.base import PrefillRequest, Scores
from smolcli.backends.pytorch import PyTorch
from smolcli.backends.pytorch_checkpoint import load_model
from smolcli.generation.scheduler import generate
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.nano.suites import frame
from smolcli.options import Generate, Model
from smolcli.types import Prompt

QUESTION = "Describe this image."
SIZE = 1024, 768  # 13 tiles of 512 pixels with --detail high
Result = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What every stage works with."""

    device: str
    folder: Path
    is_small: bool

    def count(self, full: int, small: int) -> int:
        return small if self.is_small else full

    def files(self, shape: str) -> ModelFiles:
        """The model of a shape, made when it is first asked for."""
        if shape == "nano":
            return resolve.resolve(Model(model="nano"), "torch")
        shape = "small" if self.is_small else shape
        folder = self.folder / shape
        return ModelFiles(shape, folder) if folder.is_dir() else make(shape, folder, self.device)

    def load(self, shape: str, slots: int, dtype: str = "bfloat16", graphs: bool = True) -> PyTorch:
        options = Model(device=self.device, dtype=dtype, jobs=slots, detail="low" if self.is_small else "high")
        backend = PyTorch(self.files(shape), options)
        if not graphs:
            backend._require_slots()._graphs._new_capture = None
        return backend

    def pictures(self, count: int) -> list[Path]:
        """JPEGs of smooth noise, each another."""
        folder = self.folder / f"pictures{count}"
        folder.mkdir(exist_ok=True)
        for number in range(count):
            path = folder / f"{number}.jpg"
            if not path.exists():
                colors = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
                Image.fromarray(colors).resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
        return sorted(folder.iterdir(), key=lambda path: int(path.stem))


def open_prompt(path: Path) -> Prompt:
    with Image.open(path) as image:
        return Prompt.user(frame(image.convert("RGB")), QUESTION)


class Reference:
    """transformers' model: batches of prompts of equal length."""

    def __init__(self, bench: Bench, shape: str, dtype: torch.dtype = torch.bfloat16) -> None:
        self._model: Any = load_model(bench.files(shape), dtype).to(bench.device).eval()

    @torch.inference_mode()
    def generate(
        self, backend: PyTorch, prompts: Sequence[Prompt], tokens: int, with_logits: bool = False
    ) -> tuple[list[list[int]], torch.Tensor | None]:
        """The greedy tokens of each prompt, none of which ends before `tokens`, and logits (prompts, tokens, vocab)."""
        prepared, device = [backend.prepare(prompt) for prompt in prompts], backend.device
        image = [int(self._model.config.image_token_id)] * backend.layout.tokens
        ids = [[t for part in one.parts for t in (image if isinstance(part, bytes) else part)] for one in prepared]
        tiles, side = b"".join(tile for one in prepared for tile in one.tiles), backend.layout.tile
        pixels = torch.frombuffer(bytearray(tiles), dtype=torch.uint8).to(device)
        pixels = pixels.view(len(prompts), -1, side, side, 3).permute(0, 1, 4, 2, 3) / 127.5 - 1
        batch = torch.tensor(ids, device=device)
        done = self._model.generate(
            input_ids=batch, attention_mask=torch.ones_like(batch), pixel_values=pixels.to(self._model.dtype),
            do_sample=False, max_new_tokens=tokens, eos_token_id=-1, pad_token_id=0,
            output_logits=with_logits, return_dict_in_generate=True,
        )  # fmt: skip
        logits = torch.stack(done.logits, 1).float() if with_logits else None
        return done.sequences[:, batch.shape[1] :].tolist(), logits


def decode(
    backend: PyTorch, prompts: Sequence[Prompt], tokens: int, with_logits: bool = False
) -> tuple[list[list[int]], torch.Tensor | None, float]:
    """Prefill, then take `tokens` greedy tokens in steps; tokens, logits, and the seconds of a step.

    The first steps, in which graphs are captured, are not timed.
    """
    requests = [
        PrefillRequest(number, one, one.length + tokens)
        for number, one in enumerate(backend.prepare(prompt) for prompt in prompts)
    ]
    after: Any = {}
    for start in range(0, len(requests), 4):
        after |= backend.prefill(requests[start : start + 4], []).logits
        if with_logits or start + 4 < len(requests):  # the logits are only there until the next call
            after = {n: _kept(scores, with_logits) for n, scores in after.items()}
    replies: list[list[int]] = [[] for _ in prompts]
    logits: list[list[Any]] = [[] for _ in prompts]
    times = []
    for _ in range(tokens):
        for number, scores in after.items():
            replies[number].append(scores.likeliest)
            logits[number].append(scores.fetch() if with_logits else None)
        started = time.perf_counter()
        after = backend.decode({number: reply[-1] for number, reply in enumerate(replies)})
        times.append(time.perf_counter() - started)
        if with_logits:
            after = {n: _kept(scores, True) for n, scores in after.items()}
    for number in range(len(prompts)):
        backend.release(number)
    joined = torch.from_numpy(np.array(logits)) if with_logits else None
    return replies, joined, float(np.mean(times[min(3, tokens - 1) :]))


def _kept(scores: Scores, with_logits: bool) -> Scores:
    values = scores.fetch().copy() if with_logits else None
    return Scores(scores.likeliest, scores.highest, scores.log_sum, lambda: values)  # type: ignore[arg-type,return-value]


# ---- stages ------------------------------------------------------------------------------------------------


def machine(bench: Bench) -> Result:
    """Versions, and what the device can do at best: a copy and a product of matrices."""
    device, side = bench.device, bench.count(8192, 512)
    facts: Result = {"torch": torch.__version__, "transformers": transformers.__version__, "python": sys.version[:6]}
    facts["device"] = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    source = torch.empty(bench.count(2**31, 2**24), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    facts["copied GB/s"] = 2 * len(source) / _seconds(bench, lambda: target.copy_(source)) / 1e9
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    facts["bfloat16 TFLOPS"] = 2 * side**3 / _seconds(bench, lambda: a @ a) / 1e12
    return facts


def _seconds(bench: Bench, function: Callable[[], object], repeats: int = 5) -> float:
    for turn in range(2):
        started = time.perf_counter()
        for _ in range(repeats if turn else 1):
            function()
        if bench.device == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def agreement(bench: Bench, shape: str, dtype: str) -> Result:
    """Tokens and logits against generate at 1, 8 and 64 slots, with graphs and without."""
    count, tokens, slots = bench.count(64, 8), bench.count(24, 6), (1, 8) if bench.is_small else (1, 8, 64)
    prompts = [open_prompt(path) for path in bench.pictures(count)]
    prompts = [Prompt.user(*prompt.turns[0].parts, split=False) for prompt in prompts]  # one tile each
    reference = Reference(bench, shape, getattr(torch, dtype))
    results: Result = {}
    for number in slots:
        chosen = prompts[: min(count, 2 * number) if number < 8 else number]
        for graphs in (True, False):
            backend = bench.load(shape, number, dtype, graphs)
            worst = same = 0.0
            gaps = []
            for start in range(0, len(chosen), number):
                group = chosen[start : start + number]
                ours, logits, _ = decode(backend, group, tokens, with_logits=True)
                theirs, of_theirs = reference.generate(backend, group, tokens, with_logits=True)
                assert logits is not None and of_theirs is not None
                for one, other, a, b in zip(ours, theirs, logits, of_theirs.cpu(), strict=True):
                    until = next((n for n in range(tokens) if one[n] != other[n]), tokens)
                    same += until == tokens
                    worst = max(worst, float((a - b)[: until + 1].abs().max()))
                    if until < tokens:
                        gaps.append(float((b[until, other[until]] - b[until, one[until]]) / b[until].abs().max()))
            key = f"{number} slots, {'graphs' if graphs else 'eager'}"
            results[key] = {"equal replies": f"{same:.0f} of {len(chosen)}", "largest difference": worst, "gaps": gaps}
            backend.close()
    return results


def decoding(bench: Bench, shape: str) -> Result:
    """Tokens a second with 1, 8 and 64 sequences: generate, steps without graphs, steps with them."""
    tokens = bench.count(128, 8)
    results: Result = {}
    [path] = bench.pictures(1)
    prompt = Prompt.user(*open_prompt(path).turns[0].parts, split=False)
    reference = Reference(bench, shape)
    for rows in (1, 8, 64) if not bench.is_small else (1, 4):
        line: Result = {}
        for graphs in (True, False):
            backend = bench.load(shape, rows, graphs=graphs)
            _, _, seconds = decode(backend, [prompt] * rows, tokens)
            line["graphs" if graphs else "eager"] = rows / seconds
            if rows == 1 and bench.device == "cuda":
                line["calls a step, " + ("graphs" if graphs else "eager")] = _calls(backend, prompt)
            if rows < 64 and not graphs:
                reference.generate(backend, [prompt] * rows, 2)
                seconds = _seconds(bench, lambda: reference.generate(backend, [prompt] * rows, tokens), 1)  # noqa: B023
                line["generate, with the prompt"] = rows * tokens / seconds
            backend.close()
        results[f"{rows} rows"] = line
    return results


def _calls(backend: PyTorch, prompt: Prompt, steps: int = 20) -> dict[str, float]:
    """How often a step launches kernels or graphs, copies, and waits."""
    from torch.profiler import ProfilerActivity, profile

    prepared = backend.prepare(prompt)
    backend.prefill([PrefillRequest(0, prepared, prepared.length + steps + 9)], [])
    for _ in range(4):
        backend.decode({0: 5})
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        for _ in range(steps):
            backend.decode({0: 5})
    backend.release(0)
    counts = Counter({event.key: event.count for event in recorded.key_averages()})
    wanted = ("Launch", "Synchronize", "Memcpy")
    return {name: n / steps for name, n in counts.items() if name.startswith("cu") and any(w in name for w in wanted)}


def pictures(bench: Bench, shape: str, count: int) -> Result:
    """JPEGs to replies of 64 tokens: generate one by one and in batches, our backend, and the command."""
    tokens, paths = bench.count(64, 5), bench.pictures(count)
    results: Result = {"pictures": count, "tokens": tokens}
    backend, reference = bench.load(shape, 1), Reference(bench, shape)
    for batch, of_batch in [(1, bench.count(16, 2)), (8, bench.count(32, 4)), (64, bench.count(64, 4))]:
        started = time.perf_counter()
        for start in range(0, min(of_batch, count), batch):
            reference.generate(backend, [open_prompt(path) for path in paths[start : start + batch]][:of_batch], tokens)
        results[f"generate at {batch}, pictures/s"] = min(of_batch, count) / (time.perf_counter() - started)
    backend.close()
    del reference
    for slots in (1, 64):
        chosen = paths if slots > 1 else paths[:16]
        results[f"ours at {slots}"] = _ours(bench, shape, chosen, slots, tokens)
    started, out = time.perf_counter(), bench.folder / "out.jsonl"
    words = ["caption", "-m", str(bench.files(shape).checkpoint), "--backend", "torch", "--device", bench.device,
             "--dtype", "bfloat16", "--detail", "low" if bench.is_small else "high", "-n", str(tokens), "--min-tokens",
             str(tokens), "-f", "jsonl", "-o", str(out)]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "smolcli", *words, str(paths[0].parent)], capture_output=True)
    seconds = time.perf_counter() - started
    answered = sum(json.loads(line)["error"] is None for line in out.read_text().splitlines()) if out.exists() else 0
    results["command"] = {"pictures/s": answered / seconds, "answered": answered, "exit code": done.returncode}
    if done.returncode:
        results["command"]["message"] = done.stderr.decode()[-500:]
    out.unlink(missing_ok=True)
    return results


def _ours(bench: Bench, shape: str, paths: Sequence[Path], slots: int, tokens: int) -> Result:
    if bench.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    backend = bench.load(shape, slots)
    prefill, first_times = backend.prefill, list[float]()

    def timed(*args: Any) -> Any:
        result = prefill(*args)
        first_times.append(time.perf_counter())
        return result

    backend.prefill = timed  # type: ignore[method-assign,assignment]
    started, stages, faults = time.perf_counter(), Counter[str](), 0
    for piece in generate(backend, map(open_prompt, paths), Generate(tokens, min_tokens=tokens)):
        if piece.finish:
            faults += piece.finish.fault is not None
            seconds = piece.finish.seconds
            stages.update({name: getattr(seconds, name) for name in ("media", "encode", "prefill", "decode")})
    total, peak = time.perf_counter() - started, backend.gpu_peak()
    backend.close()
    return {"pictures/s": len(paths) / total, "first token s": first_times[0] - started, "peak GB": peak / 1e9,
            "faults": faults, "seconds": dict(stages)}  # fmt: skip


def short_memory(bench: Bench) -> Result:
    """Every prompt is answered with a few GB of the device's memory."""
    share = 1.0
    if bench.device == "cuda":
        torch.cuda.empty_cache()
        share = 4e9 / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(share)
    try:
        return _ours(bench, "256m", bench.pictures(bench.count(64, 4)), 64, bench.count(32, 4))
    finally:
        if bench.device == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)


# Each stage with the seconds that it may need on a GPU; it is left out with less time.
STAGES: tuple[tuple[str, int, Callable[[Bench], Result]], ...] = (
    ("machine", 10, machine),
    ("float32, nano", 30, lambda bench: agreement(bench, "nano", "float32")),
    ("float32, 256m", 60, lambda bench: agreement(bench, "256m", "float32")),
    ("bfloat16, 256m", 60, lambda bench: agreement(bench, "256m", "bfloat16")),
    ("decoding, 256m", 40, lambda bench: decoding(bench, "256m")),
    ("pictures, 256m", 110, lambda bench: pictures(bench, "256m", bench.count(256, 8))),
    ("short memory", 30, short_memory),
    ("decoding, 2.2b", 50, lambda bench: decoding(bench, "2.2b")),
    ("pictures, 2.2b", 100, lambda bench: pictures(bench, "2.2b", bench.count(64, 4))),
    ("decoding, 500m", 40, lambda bench: decoding(bench, "500m")),
    ("pictures, 500m", 60, lambda bench: pictures(bench, "500m", bench.count(128, 4))),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--seconds", type=float, default=530, help="no stage begins that could end later")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--small", action="store_true", help="tiny models and few prompts")
    parser.add_argument("--only", help="only stages that have this in their name")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    started, results = time.perf_counter(), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench("cpu" if args.cpu else "cuda", Path(folder), args.small)
        for name, needs, stage in STAGES:
            if args.only and args.only not in name:
                continue
            begun = time.perf_counter()
            if args.seconds - (begun - started) < needs:
                results[name] = {"left out": "no time"}
            else:
                try:
                    results[name] = stage(bench)
                except Exception:
                    results[name] = {"error": traceback.format_exc()[-1500:]}
                results[name]["stage seconds"] = time.perf_counter() - begun
            args.out.write_text(json.dumps(results, indent=1))
            print(name, json.dumps(results[name]), flush=True)


if __name__ == "__main__":
    main()
