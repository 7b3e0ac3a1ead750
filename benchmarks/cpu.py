"""smolcli's llama.cpp backend on the CPU beside its rivals: whole runs over the same files, tiles, threads and tokens.

    python benchmarks/cpu.py picture LLAMA_MTMD_CLI            # one picture of 13 tiles
    python benchmarks/cpu.py loop LLAMA_MTMD_CLI [--loop 4]    # a folder of 32 pictures, and a shell loop over them
    python benchmarks/cpu.py slots LLAMA_SERVER [--slots 4 8]  # the same folder, and a warm server with several slots
    python benchmarks/cpu.py questions LLAMA_SERVER            # eight questions about one picture, and a warm server
    python benchmarks/cpu.py video LLAMA_MTMD_CLI              # fifty frames, one prompt
    python benchmarks/cpu.py memory LLAMA_MTMD_CLI             # peak memory with one picture, by vision engine
    python benchmarks/cpu.py transformers CHECKPOINT           # one picture, and a script of transformers in float32

Each takes --language and --mmproj, the GGUF pair of both sides (default: the built-in nano), and --smolcli="-j 4" and
--theirs="-fa off", further words for either side. The two sides take turns, every round with new pictures; the median
of the rounds' ratios counts, smolcli's time over the rival's. smolcli's clock is always the whole process; a server is
started and has answered once before its clock starts. Both sides make exactly --new tokens an answer.

The rivals are built by whoever runs this: `cmake --build build --target llama-mtmd-cli llama-server` in llama.cpp, or
in llama-cpp-python's sdist. Their OpenMP threads spin while they wait; where other programs are at work on the
same cores, run all of it with GOMP_SPINCOUNT=1000, which is smolcli's own choice (docs/benchmarks.md).

A picture is a whole number of tiles in size, so that nobody enlarges or shrinks it, and --image-max-tokens tells
llama.cpp to keep to it, unless it has the longest edge of the reference processor. llama.cpp has no picture of
one tile: the least is a slice and the overview, two tiles of the same pixels. So `--tiles 1` and the frames of `video`
are twice the work there, and `video` is also run with half the frames, which is the same number of tiles.
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
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sides import compared

from smolcli.models.files import BUILT_IN
from smolcli.models.gguf_header import read_header
from smolcli.system.cpu import usable_cores

SMOLCLI = (sys.executable, "-m", "smolcli")
QUESTION = "Describe this image."
QUESTIONS = (
    QUESTION, "What is in the middle?", "Which colours are there?", "Is there any text?", "How many things are there?",
    "What is on the left?", "Is it day or night?", "What might it be used for?",
)  # fmt: skip
GRIDS = {1: (1, 1), 3: (2, 1), 5: (2, 2), 7: (3, 2), 13: (4, 3)}  # tiles with the overview, and columns by rows
SPARE = 2  # tokens of a prompt by which the two may differ: llama.cpp's chat template has "User: " before a picture
STAGES = ("load", "media", "encode", "prefill", "decode")
PERF = ("prompt eval time", "eval time")  # of llama.cpp; the first has the encoding in it


@dataclass(frozen=True)
class Run:
    """What one side did: wall time, peak resident memory, tokens, and a line of where the time went.

    `tiles` is 0 where the rival does not say how many it encoded.
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
    """Of the vision half: a tile's side in pixels, its tokens, and the longest edge of the reference processor."""

    side: int
    tokens: int
    longest: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    same = argparse.ArgumentParser(add_help=False)
    same.add_argument("tool", type=Path, help="the rival: a program of llama.cpp, or the checkpoint for transformers")
    same.add_argument("--rounds", type=int, default=5)
    same.add_argument("--threads", type=int, default=usable_cores())
    same.add_argument("--language", type=Path, default=BUILT_IN / "nano-F16.gguf")
    same.add_argument("--mmproj", type=Path, default=BUILT_IN / "mmproj-nano-F16.gguf")
    same.add_argument("--new", type=int, default=64)
    same.add_argument("--vision-engine", default="auto", help="smolcli's")
    same.add_argument("--dtype", default="auto", help="smolcli's")
    same.add_argument("--smolcli", type=shlex.split, default=[], metavar="WORDS", help="more words for smolcli")
    same.add_argument("--theirs", type=shlex.split, default=[], metavar="WORDS", help="more words for the rival")
    made = {name: commands.add_parser(name, parents=[same]) for name in COMMANDS}
    for name in ("picture", "loop", "slots", "questions", "memory", "transformers"):
        made[name].add_argument("--tiles", type=int, choices=GRIDS, default=13)
    for name in ("loop", "slots"):
        made[name].add_argument("--pictures", type=int, default=32)
    made["loop"].add_argument("--loop", type=int, help="time so many of them, and scale; default: all")
    made["slots"].add_argument("--slots", type=int, nargs="+", default=[4, 8])
    made["questions"].add_argument("--questions", type=int, default=8)
    made["video"].add_argument("--frames", type=int, default=50)
    made["video"].add_argument("--their-frames", type=int, nargs="+", help="default: as many, and half as many")
    made["memory"].add_argument("--engines", nargs="+", default=["mtmd", "openvino"])
    made["transformers"].add_argument("--their-dtype", default="float32")
    one = commands.add_parser("one-transformers")
    one.add_argument("tool", type=Path)
    one.add_argument("picture", type=Path)
    one.add_argument("--their-dtype")
    for name in ("new", "threads"):
        one.add_argument(f"--{name}", type=int)
    args = parser.parse_args()
    if args.command == "one-transformers":
        print(json.dumps(by_transformers(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        warm(args, Path(folder))
        COMMANDS[args.command](args, Path(folder))


# ---- pictures --------------------------------------------------------------------------------------


def shape(mmproj: Path) -> Shape:
    keys = read_header(mmproj).keys
    side, patch, scale = (int(keys[f"clip.vision.{k}"]) for k in ("image_size", "patch_size", "projector.scale_factor"))
    return Shape(side, (side // patch // scale) ** 2, int(keys.get("clip.vision.preproc_image_size", 4 * side)))


def rough(seed: int, width: int, height: int) -> Image.Image:
    """Blurred noise, no two tiles of which are alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (max(1, height // 16), max(1, width // 16), 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def picture(place: Path, seed: int, args: argparse.Namespace) -> Path:
    columns, rows = GRIDS[args.tiles]
    side = shape(args.mmproj).side
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{seed:06}.jpg"
    rough(seed, columns * side, rows * side).save(path, quality=90)
    return path


def detail(tiles: int) -> tuple[str, str]:
    """smolcli's words for a picture of that many tiles: never enlarged, which for the reference's own edge is high."""
    return ("--detail", "low" if tiles == 1 else "auto")


def limit(tiles: int, mmproj: Path) -> tuple[str, ...]:
    """llama.cpp's: none at the longest edge of the reference."""
    (columns, rows), vision = GRIDS[tiles], shape(mmproj)
    if max(columns, rows) * vision.side == vision.longest:
        return ()
    return ("--image-max-tokens", str(columns * rows * vision.tokens))


# ---- the two sides ---------------------------------------------------------------------------------


def timed(command: Sequence[object], log: Path) -> tuple[float, int, str]:
    """Seconds, peak bytes and standard output of a process; what it says besides goes to `log`.

    The peak is the largest of the process alone, and never under what this script itself takes: between fork and
    exec the new process is a copy of it.
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
    """The whole process; its records say the rest."""
    length = new or args.new
    model = ("-m", args.language, "--mmproj", args.mmproj, "-b", "llamacpp", "--threads", args.threads)
    how = ("--vision-engine", args.vision_engine, "--dtype", args.dtype, "--timeout", 3600)
    out = folder / "out.jsonl"
    out.unlink(missing_ok=True)
    command = (*SMOLCLI, *words, *model, *how, "-n", length, "--min-tokens", length, "-q", "-o", out, *args.smolcli)
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
    """One process of llama-mtmd-cli, its tokens from its own log."""
    model = ("-m", args.language, "--mmproj", args.mmproj, "-t", args.threads, "--temp", 0, "-n", args.new)
    log = folder / "theirs.log"
    asked = ("--image", ",".join(map(str, pictures)), "-p", question, "--ignore-eos", "--perf", "-lv", 4)
    for _ in range(5):  # its log goes through a thread of its own, which its end may overtake
        seconds, peak, _ = timed((args.tool, *model, *asked, *words, *args.theirs), log)
        said = log.read_text(errors="replace")
        encoded = [int(each) for each in re.findall(r"mtmd batch encoding done in (\d+) ms", said)]
        found = [re.search(rf"perf_context_print: +{name} = +([\d.]+) ms / +(\d+)", said) for name in PERF]
        if encoded and all(found):
            break
    else:
        raise SystemExit(f"{args.tool} says no times:\n{said[-2000:]}")
    (before, prompt), (decode, _) = (map(float, each.groups()) for each in found if each)
    before, decode = before / 1e3, decode / 1e3
    encode = sum(encoded) / 1e3
    parts = f"encode {encode:.2f}, prefill and cutting {before - encode:.2f}, decode {decode:.2f}"
    return Run(seconds, 1, int(prompt), args.new, len(encoded), peak, parts)


class Server:
    """llama-server with so many slots, each with room for one picture and its answer."""

    def __init__(self, args: argparse.Namespace, slots: int, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        room = (args.tiles + 1) * (shape(args.mmproj).tokens + 8) + 256 + args.new
        model = ("-m", args.language, "--mmproj", args.mmproj, "-t", args.threads, *limit(args.tiles, args.mmproj))
        place = ("--port", port, "-np", slots, "-c", slots * -(-room // 256) * 256)
        self._address, self._new, self._log = f"http://127.0.0.1:{port}", args.new, log
        command = [*map(str, (args.tool, *model, *place, *args.theirs))]
        with log.open("w") as said:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def wait(self) -> None:
        """Until the model is loaded."""
        while True:
            if self._process.poll() is not None:
                raise SystemExit(f"the server ended:\n{self._log.read_text(errors='replace')[-2000:]}")
            try:
                urllib.request.urlopen(f"{self._address}/health").close()
                return
            except OSError:  # not yet there, or 503 while it loads
                time.sleep(0.1)

    def ask(self, question: str, path: Path, cache: bool) -> dict[str, Any]:
        """The whole reply to one request, whose picture is read and packed here."""
        url = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
        message = {"role": "user", "content": content}
        how = {"max_tokens": self._new, "temperature": 0, "ignore_eos": True, "cache_prompt": cache}
        body = json.dumps({"messages": [message], **how}).encode()
        sent = urllib.request.Request(
            f"{self._address}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(sent, timeout=3600) as got:
            reply: dict[str, Any] = json.load(got)
        return reply

    def run(self, asked: Sequence[tuple[str, Path]], at_once: int, cache: bool) -> Run:
        """All of them, so many requests at once; the clock is the client's."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            replies = list(pool.map(lambda each: self.ask(*each, cache), asked))
        seconds = time.perf_counter() - begun
        prompt, new = (sum(each["usage"][f"{name}_tokens"] for each in replies) for name in ("prompt", "completion"))
        assert new == len(asked) * self._new, new
        spent = {name: sum(each["timings"][f"{name}_ms"] for each in replies) / 1e3 for name in ("prompt", "predicted")}
        kept = sum(each["timings"]["cache_n"] for each in replies)
        parts = f"prompts with their pictures {spent['prompt']:.2f}, decode {spent['predicted']:.2f}"
        return Run(seconds, len(asked), prompt, new, parts=f"{parts} (of all slots); {kept} tokens from its cache")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()


@contextmanager
def serving(args: argparse.Namespace, slots: int, folder: Path) -> Iterator[Server]:
    """A server that has answered about another picture."""
    server = Server(args, slots, folder / "server.log")
    try:
        server.wait()
        server.run([(QUESTION, picture(folder / "warm", 999_000 + n, args)) for n in range(slots)], slots, False)
        yield server
    finally:
        server.stop()


def by_transformers(args: argparse.Namespace) -> dict[str, int]:
    """What the model's card says to do, in a process of its own."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.set_num_threads(args.threads)
    try:
        processor = AutoProcessor.from_pretrained(args.tool)
    except ImportError:  # its part for videos needs torchvision; the text and the pictures are made the same
        from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
        from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

        words = AutoTokenizer.from_pretrained(args.tool)
        config = AutoConfig.from_pretrained(args.tool)
        size = (config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor) ** 2
        images = AutoImageProcessor.from_pretrained(args.tool, backend="pil")
        processor = Idefics3Processor(images, words, image_seq_len=size, chat_template=words.chat_template)
    model = AutoModelForImageTextToText.from_pretrained(args.tool, dtype=getattr(torch, args.their_dtype)).eval()
    content = [{"type": "image", "path": str(args.picture)}, {"type": "text", "text": QUESTION}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    ).to(model.dtype)  # fmt: skip
    made = model.generate(**inputs, max_new_tokens=args.new, min_new_tokens=args.new, do_sample=False)
    prompt = inputs["input_ids"].shape[1]
    processor.batch_decode(made[:, prompt:], skip_special_tokens=True)
    tiles = int(inputs["pixel_values"].shape[1])
    return {"prompt": prompt, "new": int(made.shape[1]) - prompt, "tiles": tiles}


# ---- comparisons -----------------------------------------------------------------------------------


def warm(args: argparse.Namespace, folder: Path) -> None:
    """The files in the page cache, and what smolcli compiles once for a model and keeps."""
    for path in (args.language, args.mmproj):
        path.read_bytes()
    side = shape(args.mmproj).side
    rough(0, side, side).save(folder / "warm.png")
    smolcli(args, folder, "ask", QUESTION, folder / "warm.png", "--detail", "low", new=1)


def report(what: str, rounds: Sequence[tuple[Run, Run]], more_tiles: bool = False) -> None:
    """The line, and of the first round what both sides did; unequal work that nobody announced ends the run."""
    compared(what, [mine.seconds for mine, _ in rounds], [theirs.seconds for _, theirs in rounds], "s")
    for number, (mine, theirs) in enumerate(rounds):
        each = {"smolcli": mine, "rival": theirs}
        if not number:
            for name, run in each.items():
                encoded = f"{tiles(run.tiles)}, " if run.tiles else ""
                print(f"    {name}: {encoded}{run.prompt} prompt and {run.new} new tokens; seconds: {run.parts}")
        assert mine.new == theirs.new or theirs.prompts < mine.prompts, each
        if more_tiles or theirs.prompts < mine.prompts:
            continue
        assert abs(mine.prompt - theirs.prompt) <= SPARE * mine.prompts, each
        assert not theirs.tiles or mine.tiles == theirs.tiles, each
    sys.stdout.flush()


def tiles(count: int) -> str:
    return "1 tile" if count == 1 else f"{count} tiles"


def about(args: argparse.Namespace) -> str:
    return f"{args.language.stem}, {args.threads} threads, {args.new} new tokens"


def one_picture(args: argparse.Namespace, folder: Path) -> None:
    rounds = []
    for number in range(args.rounds):
        path = picture(folder / "in", number, args)
        mine = smolcli(args, folder, "ask", QUESTION, path, *detail(args.tiles))
        rounds.append((mine, mtmd_cli(args, folder, QUESTION, [path], *limit(args.tiles, args.mmproj))))
    report(f"a picture of {tiles(args.tiles)}, smolcli and llama-mtmd-cli, {about(args)}", rounds, args.tiles == 1)


def filled(folder: Path, number: int, args: argparse.Namespace) -> list[Path]:
    """A round's folder: new pictures, so that no server has seen them."""
    return [picture(folder / f"in-{number}", 1000 * number + each, args) for each in range(args.pictures)]


def shell_loop(args: argparse.Namespace, folder: Path) -> None:
    count = args.loop or args.pictures
    rounds = []
    for number in range(args.rounds):
        paths = filled(folder, number, args)
        mine = smolcli(args, folder, "ask", QUESTION, paths[0].parent, *detail(args.tiles))
        limits = limit(args.tiles, args.mmproj)
        runs = [mtmd_cli(args, folder, QUESTION, [path], *limits) for path in paths[:count]]
        seconds = sum(run.seconds for run in runs) * len(paths) / count
        tokens = (sum(getattr(run, name) for run in runs) for name in ("prompt", "new", "tiles"))
        rounds.append((mine, Run(seconds, count, *tokens, parts=f"of the first, {runs[0].parts}")))
    scaled = f" ({count} timed, and scaled)" if count < args.pictures else ""
    what = f"{args.pictures} pictures of {tiles(args.tiles)}, smolcli on the folder and a loop of llama-mtmd-cli"
    report(f"{what}{scaled}, {about(args)}", rounds, args.tiles == 1)


def slots(args: argparse.Namespace, folder: Path) -> None:
    for count in args.slots:
        rounds = []
        with serving(args, count, folder) as server:
            for number in range(args.rounds):
                paths = filled(folder, number, args)
                mine = smolcli(args, folder, "ask", QUESTION, paths[0].parent, *detail(args.tiles))
                rounds.append((mine, server.run([(QUESTION, path) for path in paths], count, True)))
        what = f"{args.pictures} pictures of {tiles(args.tiles)}, smolcli's process and a warm server of {count} slots"
        report(f"{what}, {about(args)}", rounds, args.tiles == 1)


def questions(args: argparse.Namespace, folder: Path) -> None:
    """The server is asked twice, about two pictures of one size: with its prompt cache, and without."""
    asked = QUESTIONS[: args.questions]
    also = [word for question in asked[1:] for word in ("-Q", question)]
    rounds: dict[bool, list[tuple[Run, Run]]] = {True: [], False: []}
    with serving(args, 1, folder) as server:
        for number in range(args.rounds):
            path = picture(folder / "in", 2 * number, args)
            mine = smolcli(args, folder, "ask", asked[0], *also, path, *detail(args.tiles))
            for cache, runs in rounds.items():
                other = picture(folder / "in", 2 * number + cache, args)
                runs.append((mine, server.run([(question, other) for question in asked], 1, cache)))
    for cache, runs in rounds.items():
        what = f"{len(asked)} questions about a picture of {tiles(args.tiles)}, smolcli's process and a warm server"
        report(f"{what}, cache_prompt {str(cache).lower()}, {about(args)}", runs, args.tiles == 1)


def video(args: argparse.Namespace, folder: Path) -> None:
    """A film of a frame a second, and the same frames as pictures."""
    counts = args.their_frames or [args.frames, args.frames // 2]
    rounds: dict[int, list[tuple[Run, Run]]] = {count: [] for count in counts}
    for number in range(args.rounds):
        film, frames = filmed(folder / f"in-{number}", number, args)
        words = ("--frames", args.frames, "--question", QUESTION)
        mine = smolcli(args, folder, "video-summarize", film, *words)
        for count, runs in rounds.items():
            chosen = [frames[each] for each in np.linspace(0, len(frames) - 1, count, dtype=int)]
            runs.append((mine, mtmd_cli(args, folder, QUESTION, chosen, *limit(1, args.mmproj))))
    for count, runs in rounds.items():
        what = f"a film of {args.frames} frames, smolcli and llama-mtmd-cli with {count} of them as pictures"
        report(f"{what} of two tiles each, {about(args)}", runs, more_tiles=True)


def filmed(place: Path, seed: int, args: argparse.Namespace) -> tuple[Path, list[Path]]:
    import av

    place.mkdir()
    side, paths = shape(args.mmproj).side, []
    with av.open(str(place / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number in range(args.frames):
            image = rough(1000 * seed + number, side, side)
            paths.append(place / f"{number:03}.jpg")
            image.save(paths[-1], quality=90)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return place / "film.mp4", paths


def memory(args: argparse.Namespace, folder: Path) -> None:
    """Peak resident memory: of smolcli the process and its engine together, as its records say."""
    sides: dict[str, list[Run]] = {name: [] for name in (*args.engines, "")}
    for number in range(args.rounds):
        path = picture(folder / "in", number, args)
        for engine in args.engines:
            args.vision_engine = engine
            sides[engine].append(smolcli(args, folder, "ask", QUESTION, path, *detail(args.tiles)))
        sides[""].append(mtmd_cli(args, folder, QUESTION, [path], *limit(args.tiles, args.mmproj)))
    for engine in args.engines:
        what = f"peak memory with a picture of {tiles(args.tiles)}, smolcli with {engine} and llama-mtmd-cli"
        ours, theirs = ([run.peak / 1e6 for run in sides[name]] for name in (engine, ""))
        compared(f"{what}, {about(args)}", ours, theirs, "MB")


def transformers(args: argparse.Namespace, folder: Path) -> None:
    rounds = []
    for number in range(args.rounds):
        path = picture(folder / "in", number, args)
        mine = smolcli(args, folder, "ask", QUESTION, path, *detail(args.tiles))
        same = ("--new", args.new, "--threads", args.threads, "--their-dtype", args.their_dtype)
        command = (sys.executable, __file__, "one-transformers", args.tool, path, *same)
        seconds, peak, said = timed(command, folder / "theirs.log")
        rounds.append((mine, Run(seconds, 1, **json.loads(said), peak=peak, parts="not told apart")))
    what = f"a picture of {tiles(args.tiles)}, smolcli and transformers in {args.their_dtype}, {about(args)}"
    report(what, rounds, args.tiles != 13)


COMMANDS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "picture": one_picture,
    "loop": shell_loop,
    "slots": slots,
    "questions": questions,
    "video": video,
    "memory": memory,
    "transformers": transformers,
}


if __name__ == "__main__":
    main()
