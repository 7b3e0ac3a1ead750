"""The programs that cpu.py and stages.py compare, run on the same pictures: smolcli, llama-mtmd-cli, llama-server and a
script of transformers.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smolcli.models.gguf_header import read_header

SMOLCLI = (sys.executable, "-m", "smolcli")
QUESTION = "Describe this image."
GRIDS = {1: (1, 1), 3: (2, 1), 5: (2, 2), 7: (3, 2), 13: (4, 3)}  # tiles with the overview, and columns by rows
STAGES = ("load", "media", "encode", "prefill", "decode")
PERF = ("prompt eval time", "eval time")  # of llama.cpp; the first has the encoding in it


@dataclass(frozen=True)
class Run:
    """One run of a program: wall time in seconds, tokens, peak resident memory in bytes, and seconds by stage as text.

    `tiles` is 0 if the program does not report how many it encoded.
    """

    seconds: float
    prompts: int
    prompt: int
    new: int
    tiles: int = 0
    peak: int = 0
    parts: str = ""


@dataclass(frozen=True)
class Shape:
    """The vision half: a tile's side in pixels, its tokens, and the longest edge of the reference processor."""

    side: int
    tokens: int
    longest: int


# ---- pictures --------------------------------------------------------------------------------------


def shape(mmproj: Path) -> Shape:
    """The shape of the vision half in this file."""
    keys = read_header(mmproj).keys
    side, patch, scale = (int(keys[f"clip.vision.{k}"]) for k in ("image_size", "patch_size", "projector.scale_factor"))
    return Shape(side, (side // patch // scale) ** 2, int(keys.get("clip.vision.preproc_image_size", 4 * side)))


def rough(seed: int, width: int, height: int) -> Image.Image:
    """Blurred noise; no two tiles of it are equal."""
    noise = np.random.default_rng(seed).integers(0, 256, (max(1, height // 16), max(1, width // 16), 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def picture(place: Path, seed: int, args: argparse.Namespace) -> Path:
    """Write a new JPEG of `args.tiles` tiles into the folder `place`."""
    columns, rows = GRIDS[args.tiles]
    side = shape(args.mmproj).side
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{seed:06}.jpg"
    rough(seed, columns * side, rows * side).save(path, quality=90)
    return path


def detail(tiles: int) -> tuple[str, str]:
    """smolcli's arguments for a picture of that many tiles, which neither enlarge nor shrink it."""
    return ("--detail", "low" if tiles == 1 else "auto")


def limit(tiles: int, mmproj: Path) -> tuple[str, ...]:
    """llama.cpp's arguments for it; none if it has the longest edge of the reference processor."""
    (columns, rows), vision = GRIDS[tiles], shape(mmproj)
    if max(columns, rows) * vision.side == vision.longest:
        return ()
    return ("--image-max-tokens", str(columns * rows * vision.tokens))


# ---- the two sides ---------------------------------------------------------------------------------


def timed(command: Sequence[object], log: Path) -> tuple[float, int, str]:
    """Wall time in seconds, peak memory in bytes and standard output of a process; its error output goes to `log`.

    The peak is that of the process without its children. It is at least this script's own memory, since the new process
    is a copy of the script between fork and exec.
    """
    with log.open("w") as errors, log.with_suffix(".out").open("w") as out:
        begun = time.perf_counter()
        process = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
        raise SystemExit(f"{shlex.join(map(str, command))}: ended with {process.returncode}")
    return seconds, used.ru_maxrss * 1024, log.with_suffix(".out").read_text(errors="replace")


def smolcli(args: argparse.Namespace, folder: Path, *words: object, new: int = 0) -> Run:
    """Run smolcli; tokens, tiles, memory and seconds by stage are those in its records."""
    length = new or args.new
    model = ("-m", args.language, "--mmproj", args.mmproj, "-b", "llamacpp", "--threads", args.threads)
    options = ("--vision-engine", args.vision_engine, "--dtype", args.dtype, "--timeout", 3600)
    out = folder / "out.jsonl"
    out.unlink(missing_ok=True)
    command = (*SMOLCLI, *words, *model, *options, "-n", length, "--min-tokens", length, "-q", "-o", out, *args.smolcli)
    seconds, _, _ = timed(command, folder / "smolcli.log")
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    tokens = {name: sum(record["tokens"][name] for record in records) for name in ("prompt", "image", "new")}
    spent = {name: sum(record["seconds"][name] for record in records) for name in STAGES}
    prompts, short = divmod(tokens["new"], length)
    encoded, left = divmod(tokens["image"], shape(args.mmproj).tokens)
    assert not short and not left and not any(record["error"] for record in records), tokens
    parts = ", ".join(f"{name} {value:.2f}" for name, value in spent.items())
    memory = max(record["memory"]["parent"] + record["memory"]["engine"] for record in records)
    return Run(seconds, prompts, tokens["prompt"], tokens["new"], encoded, memory, parts)


def mtmd_cli(args: argparse.Namespace, folder: Path, question: str, pictures: Sequence[Path], *words: object) -> Run:
    """Run llama-mtmd-cli; tokens and seconds by stage are those in its log."""
    model = ("-m", args.language, "--mmproj", args.mmproj, "-t", args.threads, "--temp", 0, "-n", args.new)
    log = folder / "theirs.log"
    prompt_words = ("--image", ",".join(map(str, pictures)), "-p", question, "--ignore-eos", "--perf", "-lv", 4)
    for _ in range(5):  # a thread writes its log, and may lose the end of it when the process ends
        seconds, peak, _ = timed((args.tool, *model, *prompt_words, *words, *args.theirs), log)
        text = log.read_text(errors="replace")
        encoded = [int(ms) for ms in re.findall(r"mtmd batch encoding done in (\d+) ms", text)]
        matches = [re.search(rf"perf_context_print: +{name} = +([\d.]+) ms / +(\d+)", text) for name in PERF]
        if encoded and all(matches):
            break
    else:
        raise SystemExit(f"{args.tool} printed no times:\n{text[-2000:]}")
    (before, prompt), (decode, _) = (map(float, match.groups()) for match in matches if match)
    before, decode = before / 1e3, decode / 1e3
    encode = sum(encoded) / 1e3
    parts = f"encode {encode:.2f}, prefill and cutting {before - encode:.2f}, decode {decode:.2f}"
    return Run(seconds, 1, int(prompt), args.new, len(encoded), peak, parts)


class Server:
    """llama-server with `slots` slots, each with a context for one picture and its answer."""

    def __init__(self, args: argparse.Namespace, slots: int, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = (args.tiles + 1) * (shape(args.mmproj).tokens + 8) + 256 + args.new
        model = ("-m", args.language, "--mmproj", args.mmproj, "-t", args.threads, *limit(args.tiles, args.mmproj))
        place = ("--port", port, "-np", slots, "-c", slots * -(-context // 256) * 256)
        self._address, self._new, self._log = f"http://127.0.0.1:{port}", args.new, log
        command = [*map(str, (args.tool, *model, *place, *args.theirs))]
        with log.open("w") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def wait(self) -> None:
        """Wait until the model is loaded."""
        while True:
            if self._process.poll() is not None:
                raise SystemExit(f"the server ended:\n{self._log.read_text(errors='replace')[-2000:]}")
            try:
                urllib.request.urlopen(f"{self._address}/health").close()
                return
            except OSError:  # not listening yet, or 503 while it loads the model
                time.sleep(0.1)

    def ask(self, question: str, path: Path, cache: bool) -> dict[str, Any]:
        """Send one request with a picture and return the reply's JSON."""
        url = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
        message = {"role": "user", "content": content}
        options = {"max_tokens": self._new, "temperature": 0, "ignore_eos": True, "cache_prompt": cache}
        body = json.dumps({"messages": [message], **options}).encode()
        request = urllib.request.Request(
            f"{self._address}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=3600) as response:
            reply: dict[str, Any] = json.load(response)
        return reply

    def run(self, requests: Sequence[tuple[str, Path]], at_once: int, cache: bool) -> Run:
        """Send all requests, `at_once` at a time; the seconds are the client's wall time."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            replies = list(pool.map(lambda request: self.ask(request[0], request[1], cache), requests))
        seconds = time.perf_counter() - begun
        prompt, new = (sum(reply["usage"][f"{name}_tokens"] for reply in replies) for name in ("prompt", "completion"))
        assert new == len(requests) * self._new, new
        spent = {
            name: sum(reply["timings"][f"{name}_ms"] for reply in replies) / 1e3 for name in ("prompt", "predicted")
        }
        cached = sum(reply["timings"]["cache_n"] for reply in replies)
        parts = f"prompts with their pictures {spent['prompt']:.2f}, decode {spent['predicted']:.2f}"
        return Run(seconds, len(requests), prompt, new, parts=f"{parts} (of all slots); {cached} tokens from its cache")

    def stop(self) -> None:
        """End the server and wait for it."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()


@contextmanager
def serving(args: argparse.Namespace, slots: int, folder: Path) -> Iterator[Server]:
    """A warm server: every slot has answered a question about another picture."""
    server = Server(args, slots, folder / "server.log")
    try:
        server.wait()
        server.run([(QUESTION, picture(folder / "warm", 999_000 + n, args)) for n in range(slots)], slots, False)
        yield server
    finally:
        server.stop()


def by_transformers(args: argparse.Namespace) -> dict[str, int]:
    """Answer a picture as the model's card shows, and return the counts of tokens and tiles."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.set_num_threads(args.threads)
    try:
        processor = AutoProcessor.from_pretrained(args.tool)  # type: ignore[no-untyped-call]
    except ImportError:  # its video processor needs torchvision; text and pictures are processed the same without it
        from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
        from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

        words = AutoTokenizer.from_pretrained(args.tool)
        config = AutoConfig.from_pretrained(args.tool)
        size = (config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor) ** 2
        images = AutoImageProcessor.from_pretrained(args.tool, backend="pil")  # type: ignore[no-untyped-call]
        processor = Idefics3Processor(images, words, image_seq_len=size, chat_template=words.chat_template)
    model: Any = AutoModelForImageTextToText.from_pretrained(args.tool, dtype=getattr(torch, args.their_dtype))
    model.eval()
    content = [{"type": "image", "path": str(args.picture)}, {"type": "text", "text": QUESTION}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    ).to(model.dtype)  # fmt: skip
    ids = model.generate(**inputs, max_new_tokens=args.new, min_new_tokens=args.new, do_sample=False)
    prompt = inputs["input_ids"].shape[1]
    processor.batch_decode(ids[:, prompt:], skip_special_tokens=True)
    tiles = int(inputs["pixel_values"].shape[1])
    return {"prompt": prompt, "new": int(ids.shape[1]) - prompt, "tiles": tiles}
