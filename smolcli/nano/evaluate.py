"""Evaluates nano on held-out pictures with the real backends: `python -m smolcli.nano.evaluate [--count N]`.

Fonts, words, pairs of colour and shape, and sizes are those that training never uses (nano/synthetic_images.py).
--parity compares the answers of PyTorch in float32 and of the f16 GGUF pair instead. --tesseract has Debian's tesseract
read the same pages.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rapidfuzz.distance import Levenshtein

from smolcli import registry
from smolcli.converters.verify import divergence
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.scheduler import generate
from smolcli.models import resolve
from smolcli.nano import dataset, synthetic_images
from smolcli.nano.synthetic_images import TILE, Picture, Rng
from smolcli.options import Generate, Model
from smolcli.tasks.page_reading import QUESTION as OCR
from smolcli.types import Frame, FrameRef, Prompt, Turn

CAPTION = dataset.CAPTION[0]


@dataclass(frozen=True)
class Case:
    """One held-out question and its right answer."""

    prompt: Prompt
    answer: str
    picture: Image.Image


def frame(image: Image.Image) -> Frame:
    """An RGB image as backends take it."""
    return Frame(image.tobytes(), *image.size)


def _case(picture: Picture, question: str, answer: str) -> Case:
    return Case(Prompt.user(frame(picture.image), question), answer, picture.image)


def page(rng: Rng, lines: int, columns: int = 1, rows: int = 1, worn: bool = False) -> Case:
    """A page of exactly `lines` lines, or if `lines` is more than 6 of as many as fit."""
    while True:
        picture = synthetic_images.page(rng, columns * TILE, rows * TILE, lines, held_out=True, dense=True)
        if picture.lines and (len(picture.lines) == lines or lines > 6):
            break
    return _case(synthetic_images.worn(rng, picture) if worn else picture, OCR, "\n".join(picture.lines))


def _lesson_case(rng: Rng, draw_lesson: Callable[[Rng], dataset.Lesson], accepts: Callable[[str], bool]) -> Case:
    """The first lesson whose question `accepts` takes; its pictures must be unsplit."""
    while True:
        lesson = draw_lesson(rng)
        parts = lesson.prompt.turns[0].parts
        if accepts(str(parts[-1])):
            break
    images = [Image.fromarray(tile) for tile in lesson.tiles]
    frames = map(frame, images)
    prompt = Prompt.user(*(next(frames) if isinstance(part, FrameRef) else part for part in parts))
    return Case(prompt, lesson.answer, images[0])


def scene(rng: Rng, question: str | None) -> Case:
    """A caption of one to three shapes, or if `question` is None any other question about one to five."""
    if question == CAPTION:
        return _lesson_case(rng, lambda r: dataset.shapes(r, True, 0.9, wear=0.0, max_count=3), lambda q: q == CAPTION)
    excluded = (*dataset.CAPTION, *dataset.READ, dataset.TAGS)
    return _lesson_case(rng, lambda r: dataset.shapes(r, True, 0.0, wear=0.0), lambda q: q not in excluded)


def motion(rng: Rng) -> Case:
    """A clip, asked for the direction of motion."""
    return _lesson_case(rng, lambda r: dataset.motion(r, True), lambda q: q in dataset.DIRECTION)


def blank(rng: Rng, question: str) -> Case:
    """A picture of one colour."""
    name, paper = synthetic_images.ground(rng)
    return _case(Picture(Image.new("RGB", (TILE, TILE), paper), ground=name), question, "blank")


def without_text(rng: Rng) -> Case:
    """A scene without text, asked for its text."""
    name, paper = synthetic_images.ground(rng)
    shapes = synthetic_images.kinds(rng, name, int(rng.integers(1, 4)), True)
    return _case(synthetic_images.scene(rng, shapes, name, paper, held_out=True), OCR, dataset.NO_TEXT)


SUITES: dict[str, tuple[str, Callable[[Rng], Case]]] = {
    "one line": ("cer", lambda r: page(r, 1)),
    "six lines": ("cer", lambda r: page(r, 6)),
    "page in 3 x 3 tiles": ("cer", lambda r: page(r, 99, 3, 3)),
    "the same, worn": ("cer", lambda r: page(r, 99, 3, 3, worn=True)),
    "captions": ("exact", lambda r: scene(r, CAPTION)),
    "questions": ("exact", lambda r: scene(r, None)),
    "direction of motion": ("exact", motion),
    "blank, caption": ("contains", lambda r: blank(r, CAPTION)),
    "blank, ocr": ("contains", lambda r: blank(r, OCR)),
    "no text invented": ("exact", without_text),
}


def score(metric: str, cases: Sequence[Case], replies: Sequence[str]) -> float:
    """The character error rate over all characters (metric "cer"), or the fraction of right answers."""
    pairs = list(zip((case.answer for case in cases), replies, strict=True))
    if metric == "cer":
        return sum(Levenshtein.distance(answer, text) for answer, text in pairs) / sum(
            len(answer) for answer, _ in pairs
        )
    is_right = [answer in text if metric == "contains" else answer == text for answer, text in pairs]
    return sum(is_right) / len(is_right)


def cases(name: str, count: int, seed: int) -> list[Case]:
    """The first `count` cases of a suite for a seed."""
    rng = np.random.default_rng((seed, *name.encode()))
    return [SUITES[name][1](rng) for _ in range(count)]


def answers(backend: Any, prompts: Iterable[Prompt], tokens: int) -> list[str]:
    """The text of the reply to each prompt, in their order. Raises RuntimeError if a reply ended in a fault."""
    replies, texts = ReplyCollector(), dict[int, str]()
    for piece in generate(backend, prompts, Generate(max_tokens=tokens)):
        if reply := replies.add(piece):
            if reply.finish.fault:
                raise RuntimeError(reply.finish.fault.message)
            texts[piece.index] = reply.text
    return [texts[index] for index in sorted(texts)]


def make_backend(name: str, model: str, threads: int | None) -> Any:
    """A backend on the CPU in float32, in this process, so that its exceptions are not caught."""
    options = Model(model=model, threads=threads, dtype="float32", device="cpu")
    return registry.load(registry.BACKENDS, name)(resolve.resolve(options, name), options)


def tesseract(image: Image.Image) -> str:
    """The text that tesseract 5 reads in the picture, enlarged threefold as its guide advises for small print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.png"
        image.resize((image.width * 3, image.height * 3), Image.Resampling.LANCZOS).save(path)
        done = subprocess.run(
            ["tesseract", path, "-", "--psm", "6", "--dpi", "300"], capture_output=True, text=True, check=True
        )
    return "\n".join(line.strip() for line in done.stdout.splitlines() if line.strip())


def half_said(prompt: Prompt, answer: str) -> Prompt:
    """The prompt followed by the first half of an answer, where the next token is less certain than at the start."""
    return replace(prompt, turns=(*prompt.turns, Turn("assistant", (answer[: (len(answer) + 1) // 2],))))


def kl(backends: Sequence[Any], prompts: Iterable[Prompt]) -> list[float]:
    """For each prompt the KL divergence, in nats, of the second backend's next-token distribution from the first's."""
    return [float(divergence(*(np.asarray(backend.logits(prompt)) for backend in backends))[0]) for prompt in prompts]


def evaluate(args: argparse.Namespace) -> None:
    """Print a JSON line for every suite: its character error rate, or the fraction of right answers."""
    backend = make_backend(args.backend, args.model, args.threads)
    for name, (metric, _) in SUITES.items():
        if args.only and args.only not in name:
            continue
        suite = cases(name, args.count, args.seed)
        replies = answers(backend, [case.prompt for case in suite], 700)
        line: dict[str, object] = {"suite": name, "metric": metric, "count": args.count}
        line["nano"] = round(score(metric, suite, replies), 4)
        if metric == "cer" and args.tesseract and shutil.which("tesseract"):
            line["tesseract"] = round(score(metric, suite, [tesseract(case.picture) for case in suite]), 4)
        print(json.dumps(line), flush=True)
        if args.show:
            for case, text in list(zip(suite, replies, strict=True))[: args.show]:
                print(f"    {case.answer!r}\n    {text!r}")


def parity(args: argparse.Namespace) -> None:
    """Print on how many held-out pictures two backends give the same answer, and how far their logits differ.

    The first reads the checkpoint, the second the GGUF pair; the logits are those after half of the first's answer.
    """
    names = ("one line", "six lines", "captions", "questions", "direction of motion")
    prompts = [case.prompt for name in names for case in cases(name, args.count // len(names), args.seed + 1)]
    backends = [
        make_backend(registry.backends(file_format)[0], args.model, args.threads)
        for file_format in ("checkpoint", "gguf")
    ]
    first, second = (answers(backend, prompts, 200) for backend in backends)
    divergences = kl(backends, map(half_said, prompts, first))
    same = sum(a == b for a, b in zip(first, second, strict=True))
    print(json.dumps({"pictures": len(prompts), "same text": same, "largest KL": max(divergences)}))
    for a, b in zip(first, second, strict=True):
        if a != b:
            print(f"    {a!r}\n    {b!r}")


def main() -> None:
    """Parse the command line and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--backend", default=registry.backends("gguf")[0], choices=registry.backends())
    parser.add_argument("--count", type=int, default=200, help="pictures a suite")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", help="suites whose name contains this")
    parser.add_argument("--show", type=int, default=0, help="right answers and replies to print for each suite")
    parser.add_argument("--tesseract", action="store_true")
    parser.add_argument("--parity", action="store_true")
    args = parser.parse_args()
    (parity if args.parity else evaluate)(args)


if __name__ == "__main__":
    main()
