"""Judges nano on held-out pictures: `python -m smolcli.nano.evaluate [--count N]`, through the real backends.

Faces, words, colour-shape pairs and sizes are those that training never sees (nano/synthetic_images.py). With --parity
the answers of PyTorch in float32 and of the f16 GGUF pair are compared instead; with --tesseract
Debian's tesseract reads the same pages.
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

from smolcli import registry
from smolcli.converters.verify import divergence
from smolcli.generation.replies import ReplyCollector
from smolcli.models import resolve
from smolcli.nano import dataset, synthetic_images
from smolcli.nano.synthetic_images import TILE, Picture, Rng
from smolcli.options import Generate, Model
from smolcli.tasks.ocr import QUESTION as OCR
from smolcli.types import Frame, Prompt, Turn

CAPTION = dataset.CAPTION[0]


@dataclass(frozen=True)
class Case:
    """One held-out question and its right answer."""

    prompt: Prompt
    answer: str
    picture: Image.Image


def frame(image: Image.Image) -> Frame:
    """A picture as the backends take it."""
    return Frame(image.tobytes(), *image.size)


def _about(picture: Picture, question: str, answer: str) -> Case:
    return Case(Prompt.user(frame(picture.image), question), answer, picture.image)


def page(rng: Rng, lines: int, columns: int = 1, rows: int = 1, worn: bool = False) -> Case:
    """A page of exactly `lines` lines where they fit, else as many as do."""
    while True:
        made = synthetic_images.page(rng, columns * TILE, rows * TILE, lines, judging=True, dense=True)
        if made.lines and (len(made.lines) == lines or lines > 6):
            break
    return _about(synthetic_images.worn(rng, made) if worn else made, OCR, "\n".join(made.lines))


def _lesson(rng: Rng, make: Callable[[Rng], dataset.Lesson], wanted: Callable[[str], bool]) -> Case:
    """The first lesson whose question is wanted; one of unsplit pictures."""
    while True:
        lesson = make(rng)
        parts = lesson.prompt.turns[0].parts
        if wanted(str(parts[-1])):
            break
    images = [Image.fromarray(tile) for tile in lesson.tiles]
    frames = map(frame, images)
    prompt = Prompt.user(*(next(frames) if isinstance(part, Frame) else part for part in parts))
    return Case(prompt, lesson.answer, images[0])


def scene(rng: Rng, question: str | None) -> Case:
    """A caption of one to three objects, or (`question` None) any question on one to five."""
    if question == CAPTION:
        return _lesson(rng, lambda r: dataset.objects(r, True, 0.9, wear=0.0, most=3), lambda q: q == CAPTION)
    known = (*dataset.CAPTION, *dataset.READ, dataset.TAGS)
    return _lesson(rng, lambda r: dataset.objects(r, True, 0.0, wear=0.0), lambda q: q not in known)


def motion(rng: Rng) -> Case:
    """In which direction something moves."""
    return _lesson(rng, lambda r: dataset.motion(r, True), lambda q: q in dataset.DIRECTION)


def blank(rng: Rng, question: str) -> Case:
    """An empty picture of one colour."""
    name, paper = synthetic_images.ground(rng)
    return _about(Picture(Image.new("RGB", (TILE, TILE), paper), ground=name), question, "blank")


def without_text(rng: Rng) -> Case:
    """A scene that is asked for its text."""
    name, paper = synthetic_images.ground(rng)
    things = synthetic_images.kinds(rng, name, int(rng.integers(1, 4)), True)
    return _about(synthetic_images.scene(rng, things, name, paper, judging=True), OCR, dataset.NO_TEXT)


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


def edits(a: str, b: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def score(metric: str, cases: Sequence[Case], said: Sequence[str]) -> float:
    """Character error rate over all characters, or the share of right answers."""
    pairs = list(zip((case.answer for case in cases), said, strict=True))
    if metric == "cer":
        return sum(edits(a, b) for a, b in pairs) / sum(len(a) for a, _ in pairs)
    right = [answer in text if metric == "contains" else answer == text for answer, text in pairs]
    return sum(right) / len(right)


def cases(name: str, count: int, seed: int) -> list[Case]:
    """`count` cases of a suite, the same for a seed."""
    rng = np.random.default_rng((seed, *name.encode()))
    return [SUITES[name][1](rng) for _ in range(count)]


def answers(backend: Any, prompts: Iterable[Prompt], tokens: int) -> list[str]:
    """The reply to each prompt, in their order. Raises RuntimeError for a fault: it is no answer to be judged."""
    replies, said = ReplyCollector(), {}
    for piece in backend.generate(prompts, Generate(max_tokens=tokens)):
        if reply := replies.add(piece):
            if reply.finish.fault:
                raise RuntimeError(reply.finish.fault.message)
            said[piece.index] = reply.text
    return [said[n] for n in sorted(said)]


def make_backend(name: str, model: str, threads: int | None) -> Any:
    """The backend in this process, not in a child: faults shall show."""
    options = Model(model=model, threads=threads, dtype="float32", device="cpu")
    return registry.load(registry.BACKENDS, name)(resolve.resolve(options, name), options)


def tesseract(image: Image.Image) -> str:
    """What tesseract 5 reads in the picture, enlarged threefold as its guide advises for small print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.png"
        image.resize((image.width * 3, image.height * 3), Image.Resampling.LANCZOS).save(path)
        done = subprocess.run(
            ["tesseract", path, "-", "--psm", "6", "--dpi", "300"], capture_output=True, text=True, check=True
        )
    return "\n".join(line.strip() for line in done.stdout.splitlines() if line.strip())


def half_said(prompt: Prompt, answer: str) -> Prompt:
    """The same prompt with the first half of an answer given: what comes next is less certain than how it begins."""
    return replace(prompt, turns=(*prompt.turns, Turn("assistant", (answer[: (len(answer) + 1) // 2],))))


def kl(backends: Sequence[Any], prompts: Iterable[Prompt]) -> list[float]:
    """KL divergence of the second backend's next-token distribution from the first's, in nats, a number a prompt."""
    return [float(divergence(*(np.asarray(backend.logits(each)) for backend in backends))[0]) for each in prompts]


def judge(args: argparse.Namespace) -> None:
    """Prints a JSON line for every suite: character error rates, or shares of right answers."""
    backend = make_backend(args.backend, args.model, args.threads)
    for name, (metric, _) in SUITES.items():
        if args.only and args.only not in name:
            continue
        made = cases(name, args.count, args.seed)
        said = answers(backend, [case.prompt for case in made], 700)
        line: dict[str, object] = {"suite": name, "metric": metric, "count": args.count}
        line["nano"] = round(score(metric, made, said), 4)
        if metric == "cer" and args.tesseract and shutil.which("tesseract"):
            line["tesseract"] = round(score(metric, made, [tesseract(case.picture) for case in made]), 4)
        print(json.dumps(line), flush=True)
        if args.show:
            for case, text in list(zip(made, said, strict=True))[: args.show]:
                print(f"    {case.answer!r}\n    {text!r}")


def parity(args: argparse.Namespace) -> None:
    """Prints on how many held-out pictures both backends say the same, and by how much their logits differ half-way."""
    names = ("one line", "six lines", "captions", "questions", "direction of motion")
    made = [case for name in names for case in cases(name, args.count // len(names), args.seed + 1)]
    prompts = [case.prompt for case in made]
    backends = [make_backend(name, args.model, args.threads) for name in ("torch", "llamacpp")]
    first, second = (answers(backend, prompts, 200) for backend in backends)
    divergence = kl(backends, map(half_said, prompts, first))
    same = sum(a == b for a, b in zip(first, second, strict=True))
    print(json.dumps({"pictures": len(made), "same text": same, "largest KL": max(divergence)}))
    for a, b in zip(first, second, strict=True):
        if a != b:
            print(f"    {a!r}\n    {b!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--backend", default="llamacpp", choices=("torch", "llamacpp"))
    parser.add_argument("--count", type=int, default=200, help="pictures a suite")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", help="suites whose name has this")
    parser.add_argument("--show", type=int, default=0, help="right and given answers to print a suite")
    parser.add_argument("--tesseract", action="store_true")
    parser.add_argument("--parity", action="store_true")
    args = parser.parse_args()
    (parity if args.parity else judge)(args)


if __name__ == "__main__":
    main()
