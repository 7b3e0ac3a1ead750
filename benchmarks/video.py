"""Measures fifty frames of a video: smolcli's decoder against decord and ffmpeg, whole runs against transformers.

    python benchmarks/video.py make DIR                   # write two_hours.mp4 (1280x720) and 4k.mp4, with ffmpeg
    python benchmarks/video.py readers FILE [--rounds 3]  # seconds and peak memory of each, in a process of its own
    python benchmarks/video.py seed CHECKPOINT FILE       # transformers on 50 frames of decord, smolcli on the same
    python benchmarks/video.py nano [--clips 200]         # accuracy of the built-in model: what moves, and where to

`readers` decodes the frames numpy.linspace(0, n - 1, 50) once a round with every reader, and compares the frames.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COUNT = 50
PART_SECONDS, PARTS = 300, 24
QUESTION = "What happens in this video?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("folder", type=Path)
    readers = commands.add_parser("readers")
    readers.add_argument("file", type=Path)
    readers.add_argument("--rounds", type=int, default=3)
    seed = commands.add_parser("seed")
    seed.add_argument("checkpoint", type=Path)
    seed.add_argument("file", type=Path)
    commands.add_parser("nano").add_argument("--clips", type=int, default=200)
    for name in ("one-reader", "one-run"):
        measured = commands.add_parser(name)
        measured.add_argument("name")
        measured.add_argument("file", type=Path)
        measured.add_argument("--checkpoint", type=Path)
    args = parser.parse_args()
    if args.command == "make":
        make(args.folder)
    elif args.command == "readers":
        compare_readers(args.file, args.rounds)
    elif args.command == "seed":
        compare_runs(args.checkpoint, args.file)
    elif args.command == "nano":
        judge_nano(args.clips)
    else:
        started = time.perf_counter()
        result = RUNS[args.name](args.checkpoint, args.file) if args.checkpoint else digests(args.name, args.file)
        memory = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(json.dumps({"seconds": time.perf_counter() - started, "MB": memory / 1e3, "result": result}))


def make(folder: Path) -> None:
    """Write the two files; the first is five minutes, encoded once and repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise SystemExit("ffmpeg is not on PATH")

    def encode(source: str, *options: str) -> None:
        subprocess.run([ffmpeg, "-y", "-v", "error", "-f", "lavfi", "-i", source, *options], check=True)

    x264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset")
    part = folder / "part.mp4"
    encode(f"testsrc2=s=1280x720:r=25:d={PART_SECONDS}", *x264, "veryfast", "-b:v", "1200k", str(part))
    encode("testsrc2=s=3840x2160:r=30:d=10", *x264, "ultrafast", "-b:v", "30M", str(folder / "4k.mp4"))
    listed = folder / "parts.txt"
    listed.write_text("file part.mp4\n" * PARTS)
    subprocess.run(
        [ffmpeg, "-y", "-v", "error", "-f", "concat", "-i", str(listed), "-c", "copy", str(folder / "two_hours.mp4")],
        check=True,
    )


# ---- readers ---------------------------------------------------------------------------------------


def chosen(count: int) -> list[int]:
    """The indices of the frames that every reader decodes."""
    return [int(index) for index in np.linspace(0, count - 1, COUNT, dtype=int)]


def by_smolcli(file: Path) -> Iterator[np.ndarray]:
    from smolcli.inputs.video import Video
    from smolcli.options import Sampling

    video = Video(str(file), Sampling(frames=COUNT), 200_000_000)
    for _, frame in video.pictures(range(len(video.times))):
        yield np.frombuffer(frame.rgb, np.uint8).reshape(frame.height, frame.width, 3)


def by_decord(file: Path) -> Iterator[np.ndarray]:
    import decord

    reader = decord.VideoReader(str(file))
    for number in chosen(len(reader)):
        yield reader[number].asnumpy()


def by_ffmpeg(file: Path) -> Iterator[np.ndarray]:
    """Select the frames by index in one ffmpeg process; PyAV tells their count and size before."""
    import av

    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        count, width, height = stream.frames, stream.width, stream.height
    selected = "+".join(f"eq(n\\,{number})" for number in chosen(count))
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(file), "-vf", f"select={selected}", "-fps_mode", "vfr"]
    with subprocess.Popen([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while raw := process.stdout.read(width * height * 3):
            yield np.frombuffer(raw, np.uint8).reshape(height, width, 3)


READERS: dict[str, Callable[[Path], Iterator[np.ndarray]]] = {
    "smolcli": by_smolcli,
    "decord": by_decord,
    "ffmpeg select": by_ffmpeg,
}


def digests(name: str, file: Path) -> list[list[int]]:
    """Mean colours of 8 x 8 parts of each frame: they differ between frames, hardly between conversions to RGB."""
    pictures = (Image.fromarray(pixels).resize((8, 8), Image.Resampling.BOX) for pixels in READERS[name](file))
    return [list(picture.tobytes()) for picture in pictures]


def compare_readers(file: Path, rounds: int) -> None:
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in READERS}
    for _ in range(rounds):
        for name in READERS:
            measured[name].append(child("one-reader", name, file))
    ours = statistics.median(run["seconds"] for run in measured["smolcli"])
    for name, runs in measured.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        pairs = zip(runs[0]["result"], measured["smolcli"][0]["result"], strict=True)
        apart = max(int(np.abs(np.subtract(a, b)).max()) for a, b in pairs)
        line = {
            "reader": name,
            "frames": len(runs[0]["result"]),
            "seconds": round(seconds, 2),
            "times smolcli's": round(seconds / ours, 2),
            "peak MB": round(max(run["MB"] for run in runs)),
            "largest difference of colour": apart,
        }
        print(json.dumps(line), flush=True)


# ---- whole runs ------------------------------------------------------------------------------------


def by_transformers(checkpoint: Path, file: Path) -> dict[str, Any]:
    """Run transformers: frames of decord, SmolVLMProcessor's prompt, float32, all frames in one batch."""
    from types import SimpleNamespace

    import decord
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForImageTextToText
    from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor
    from transformers.video_utils import VideoMetadata

    from smolcli.backends.image_processor import cut
    from smolcli.models import chat_template
    from smolcli.types import Frame

    reader = decord.VideoReader(str(file))
    indices = chosen(len(reader))
    pictures = [Image.fromarray(pixels) for pixels in reader.get_batch(indices).asnumpy()]
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()  # type: ignore[no-untyped-call]
    side = model.config.vision_config.image_size
    tokens = (side // model.config.vision_config.patch_size // model.config.scale_factor) ** 2
    from smolcli.backends.image_processor import Layout

    layout = Layout(side, tokens, side)  # its processor needs torchvision; tests show that the resize is the same
    tiles = [cut(Frame(picture.tobytes(), *picture.size), layout, "low", False).pixels[0] for picture in pictures]
    pixels = torch.stack([torch.frombuffer(bytearray(tile), dtype=torch.uint8).view(side, side, 3) for tile in tiles])
    pixels = pixels.permute(0, 3, 1, 2).float() / 255 * 2 - 1
    names: Any = SimpleNamespace(
        image_seq_len=tokens,
        image_token=chat_template.IMAGE,
        fake_image_token=chat_template.FAKE,
        global_image_token=chat_template.GLOBAL,
    )
    fps = reader.get_avg_fps()
    about = VideoMetadata(
        total_num_frames=len(reader), fps=fps, duration=len(reader) / fps, frames_indices=list(indices)
    )
    inputs = {"pixel_values": pixels[None], "video_metadata": [about]}
    shown = SmolVLMProcessor.replace_video_token(names, inputs, 0)
    text = f"<|im_start|>User: {shown}{QUESTION}<end_of_utterance>\nAssistant:"
    ids = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    with torch.inference_mode():
        out = model.generate(
            input_ids=torch.tensor([ids]), pixel_values=pixels[None], attention_mask=torch.ones(1, len(ids)).long(),
            max_new_tokens=16, do_sample=False,
        )  # fmt: skip
    return {"prompt": len(ids), "image": ids.count(model.config.image_token_id), "new": out.shape[1] - len(ids)}


def by_command(backend: str) -> Callable[[Path, Path], dict[str, Any]]:
    def run(checkpoint: Path, file: Path) -> dict[str, Any]:
        command = [sys.executable, "-m", "smolcli", "video-summarize", str(file), "--frames", str(COUNT), "-f", "jsonl"]
        options = ["-m", str(checkpoint), "-b", backend, "-n", "16", "-q", "--timeout", "3600"]
        options += ["--dtype", "float32"] if backend == "torch" else []
        done = subprocess.run([*command, *options], stdout=subprocess.PIPE, check=True)
        record: dict[str, Any] = json.loads(done.stdout)
        tokens: dict[str, Any] = record["tokens"]
        return tokens

    return run


RUNS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "transformers": by_transformers,
    "smolcli torch": by_command("torch"),
    "smolcli llamacpp": by_command("llamacpp"),
}


def compare_runs(checkpoint: Path, file: Path) -> None:
    for name in RUNS:
        run = child("one-run", name, file, "--checkpoint", str(checkpoint))
        line = {"run": name, "seconds": round(run["seconds"], 1), "peak MB": round(run["MB"]), **run["result"]}
        print(json.dumps(line), flush=True)


# ---- the built-in model ----------------------------------------------------------------------------


def judge_nano(clips: int) -> None:
    """Print the fractions of held-out clips whose direction and colour `smolcli video-summarize` names."""
    rng = np.random.default_rng(2026)
    with tempfile.TemporaryDirectory() as place:
        truths = [render(rng, Path(place) / f"{number}.mp4") for number in range(clips)]
        command = [sys.executable, "-m", "smolcli", "video-summarize", place, "-m", "nano", "-f", "jsonl", "-q"]

        def answers(*asked: str) -> list[str]:
            done = subprocess.run([*command, *asked], stdout=subprocess.PIPE, check=True)
            return [json.loads(line)["text"].strip().lower().rstrip(".") for line in done.stdout.splitlines()]

        summaries = answers()
        ways = answers("--question", "Which way does it move?")
        colours = answers("--question", "What colour is it?")
    for name, rights in (
        (
            "summary names the direction",
            [way in text.split() for (way, _), text in zip(truths, summaries, strict=True)],
        ),
        (
            "summary names the colour",
            [colour in text.split() for (_, colour), text in zip(truths, summaries, strict=True)],
        ),
        ("direction, asked for", [way == text for (way, _), text in zip(truths, ways, strict=True)]),
        ("colour, asked for", [colour == text for (_, colour), text in zip(truths, colours, strict=True)]),
    ):
        print(json.dumps({"clips": clips, "what": name, "right": f"{sum(rights) / clips:.1%}"}), flush=True)


def render(rng: np.random.Generator, file: Path) -> tuple[str, str]:
    """Write a clip of 2 to 5 seconds in which a held-out shape moves; return its direction and colour."""
    import av

    from smolcli.nano import dataset, synthetic_images

    side = 2 * synthetic_images.TILE
    name, paper = synthetic_images.ground(rng)
    [(colour, shape)] = synthetic_images.kinds(rng, name, 1, True)
    fill, way = synthetic_images.shade(rng, colour), synthetic_images.pick(rng, list(dataset.MOVES))
    radius, count = float(rng.integers(24, 50)), int(rng.integers(50, 126))
    dx, dy = dataset.MOVES[way]
    span = rng.uniform(0.4, 0.95) * (side - 2 * radius - 8)
    low, high = radius + 4, side - radius - 4
    x0 = rng.uniform(low + (span if dx < 0 else 0), high - (span if dx > 0 else 0))
    y0 = rng.uniform(low + (span if dy < 0 else 0), high - (span if dy > 0 else 0))
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            image = Image.new("RGB", (side, side), paper)
            along = span * number / (count - 1)
            synthetic_images.draw_shape(image, shape, fill, x0 + dx * along, y0 + dy * along, radius, paper)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode())
    return way, colour


def child(command: str, name: str, file: Path, *more: str) -> dict[str, Any]:
    """Run a command of this script in a process of its own, so that its peak memory is its own."""
    done = subprocess.run(
        [sys.executable, __file__, command, name, str(file), *more], stdout=subprocess.PIPE, check=True
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


if __name__ == "__main__":
    main()
