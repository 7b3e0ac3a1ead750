"""Evaluates nano on held-out pictures with the real backends: `python -m smolcli.nano.evaluate [--count N] > FILE`.

One JSON line a suite (nano/suites.py), with what is wanted beside what nano does. --table FILE prints such lines as a
table instead. --parity compares the answers of PyTorch in float32 and of the f16 GGUF pair. --tesseract has Debian's
tesseract read the same pages. Needs the materials of nano/materials.py.
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
from smolcli.generation.scheduler import generate
from smolcli.models import resolve
from smolcli.nano import suites
from smolcli.nano.judges import (
    beginning,
    character_error_rate,
    contains_answer,
    invents_nothing,
    is_equal,
    likely_names,
    name_said,
    names_same_shapes,
    says_kind,
    says_right_colours,
    says_unknown,
)
from smolcli.nano.suites import CAPTION, Case, Cases, chart, each, screen
from smolcli.nano.thing_names import NAMES
from smolcli.nano.tokenizer import tokenizer
from smolcli.options import Generate, Model
from smolcli.tasks.page_reading import QUESTION as OCR
from smolcli.types import Prompt, Reply, Turn

MOST_TOKENS = 700  # of a reply
SHORT = 64  # tokens in which an answer must end, unless it reads
GUESSES = 3

Judge = Callable[[Case, str], bool]
# Makes of a backend, cases and their replies the measures of a suite by name, "nano" the one that is wanted.
Measure = Callable[[Any, Sequence[Case], Sequence[Reply]], dict[str, float]]


# ---- measures --------------------------------------------------------------------------------------


def right(judge: Judge) -> Measure:
    """The share of replies that a judge takes for right."""
    return lambda backend, cases, replies: {"nano": _share(map(judge, cases, (reply.text for reply in replies)))}


def _share(are_right: Iterable[bool]) -> float:
    return float(np.mean([*are_right]))


def error_rate(backend: Any, cases: Sequence[Case], replies: Sequence[Reply]) -> dict[str, float]:
    """The character error rate."""
    return {"nano": character_error_rate(cases, [reply.text for reply in replies])}


def first_answer(backend: Any, cases: Sequence[Case], replies: Sequence[Reply]) -> dict[str, float]:
    """The share of captions that name the thing, of those that say the kind alone, and of those that name another."""
    said = [name_said(reply.text, NAMES) for reply in replies]
    return {
        "nano": _share(name == case.answer for name, case in zip(said, cases, strict=True)),
        "kind alone": _share(reply.text.startswith("a drawing") for reply in replies),
        "wrong name": _share(name not in ("", case.answer) for name, case in zip(said, cases, strict=True)),
    }


def three_guesses(backend: Any, cases: Sequence[Case], replies: Sequence[Reply]) -> dict[str, float]:
    """The share of things whose name is among the three with which the caption most probably begins."""
    tokens = {name: tuple(tokenizer().encode(f" {beginning(name)}").ids) for name in NAMES}

    def is_guessed(case: Case) -> bool:
        return case.answer in likely_names(lambda ids: _last_logits(backend, case.prompt, ids), tokens, GUESSES)

    return {"nano": _share(map(is_guessed, cases))}


def _last_logits(backend: Any, prompt: Prompt, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.asarray(backend.logits(prompt, tokens)[-1])


def endings(backend: Any, cases: Sequence[Case], replies: Sequence[Reply]) -> dict[str, float]:
    """The share of replies without a loop, and of those that end in time."""
    is_long = [reply.finish.tokens.new > SHORT for reply in replies]
    return {
        "nano": _share(not is_loop(reply) for reply in replies),
        "in time": _share(suites.is_reading(case) or not long for case, long in zip(cases, is_long, strict=True)),
    }


def is_loop(reply: Reply) -> bool:
    """Whether a reply, or the first attempt at it, repeated itself without end, or did not end at all."""
    return reply.finish.reason in ("repetition", "length") or reply.finish.text is not None


@dataclass(frozen=True)
class Suite:
    """What draws the cases of a suite, how replies are measured, and the measure that is wanted, if one is."""

    draw: Cases
    measure: Measure
    wanted: float | None = None


EXACT, RATE = right(is_equal), error_rate
SUITES: dict[str, Suite] = {
    "one line": Suite(each(lambda rng: suites.page(rng, 1)), RATE, 0.015),
    "six lines": Suite(each(lambda rng: suites.page(rng, 6)), RATE, 0.02),
    **{f"piece of a page: {name}": Suite(draw, RATE) for name, draw in suites.READING.items()},
    **{f"kind: {kind}": Suite(suites.captions_of(kind), right(says_kind), 0.97) for kind in suites.PICTURES},
    "kind, asked": Suite(suites.kinds_asked, EXACT, 0.97),
    "photographs: nothing invented": Suite(suites.photograph_captions, right(invents_nothing), 1.0),
    "photographs: colours": Suite(suites.photograph_captions, right(says_right_colours), 0.9),
    "photographs: brighter side": Suite(each(suites.photograph_brightness), EXACT),
    "photographs: says that it cannot tell": Suite(each(suites.photograph_unanswerable), EXACT, 1.0),
    "things: first answer": Suite(suites.things_alone, first_answer, 0.55),
    "things: one of three guesses": Suite(suites.things_alone, three_guesses, 0.75),
    "things: colour": Suite(each(suites.thing_colour), EXACT, 0.9),
    "things: counts to five": Suite(suites.things_counted, EXACT, 0.95),
    "things: unknown drawings not named": Suite(each(suites.unknown_drawing), right(says_unknown)),
    "captions": Suite(each(lambda rng: suites.scene(rng, CAPTION)), EXACT, 0.95),
    "questions": Suite(each(lambda rng: suites.scene(rng, None)), EXACT, 0.95),
    "pairs never seen together": Suite(each(suites.unseen_pair), EXACT, 0.95),
    "order of three": Suite(each(suites.order_of_three), EXACT, 0.95),
    "in no row or column": Suite(each(suites.in_no_row), right(names_same_shapes), 0.95),
    "direction of motion": Suite(each(suites.motion), EXACT, 0.97),
    "blank, caption": Suite(each(lambda rng: suites.blank(rng, CAPTION)), right(contains_answer), 1.0),
    "blank, ocr": Suite(each(lambda rng: suites.blank(rng, OCR)), right(contains_answer), 1.0),
    "no text invented": Suite(each(suites.without_text), EXACT, 0.99),
    "chart: kind": Suite(chart(r"^What (kind|type) of chart"), EXACT),
    "chart: how many": Suite(chart(r"^How many (bar|line|slice)s"), EXACT),
    "chart: highest": Suite(chart(r"^Which .*(highest|longest|largest)"), EXACT),
    "chart: lowest": Suite(chart(r"^Which .*(lowest|shortest|smallest)"), EXACT),
    "chart: title": Suite(chart(r"^What is the .*title"), EXACT),
    "screen: title": Suite(screen(r"^What is the title"), EXACT),
    "screen: buttons": Suite(screen(r"^What do(es)? the buttons? say"), EXACT),
    "screen: how many buttons": Suite(screen(r"^How many buttons"), EXACT),
    "screen: error or not": Suite(screen(r"^(Is there|Does it show) an error"), EXACT),
    "no loops": Suite(suites.everything, endings, 1.0),
}


def cases(name: str, count: int, seed: int) -> list[Case]:
    """The first `count` cases of a suite for a seed, five times as many of "no loops"."""
    return SUITES[name].draw(np.random.default_rng((seed, *name.encode())), count)


# ---- replies ---------------------------------------------------------------------------------------


def replies_to(backend: Any, prompts: Iterable[Prompt], tokens: int) -> list[Reply]:
    """The reply to each prompt, in their order. Raises RuntimeError if one ended in a fault."""
    collector, replies = ReplyCollector(), dict[int, Reply]()
    for piece in generate(backend, prompts, Generate(max_tokens=tokens)):
        if reply := collector.add(piece):
            if reply.finish.fault:
                raise RuntimeError(reply.finish.fault.message)
            replies[piece.index] = reply
    return [replies[index] for index in sorted(replies)]


def answers(backend: Any, prompts: Iterable[Prompt], tokens: int) -> list[str]:
    """The text of each reply of `replies_to`."""
    return [reply.text for reply in replies_to(backend, prompts, tokens)]


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


# ---- commands --------------------------------------------------------------------------------------


def evaluate(args: argparse.Namespace) -> None:
    """Print a JSON line for every suite: its measures, and what is wanted."""
    backend = make_backend(args.backend, args.model, args.threads)
    for name, suite in SUITES.items():
        if args.only and args.only not in name:
            continue
        drawn = cases(name, args.count, args.seed)
        replies = replies_to(backend, [case.prompt for case in drawn], MOST_TOKENS)
        line: dict[str, object] = {"suite": name, "metric": "cer" if suite.measure is RATE else "right"}
        line |= {"count": len(drawn), "wanted": suite.wanted}
        line |= {measure: round(value, 4) for measure, value in suite.measure(backend, drawn, replies).items()}
        if suite.measure is RATE and args.tesseract and shutil.which("tesseract"):
            line["tesseract"] = round(character_error_rate(drawn, [tesseract(case.picture) for case in drawn]), 4)
        print(json.dumps(line), flush=True)
        for case, reply in list(zip(drawn, replies, strict=True))[: args.show]:
            print(f"    {case.question!r}\n    {case.answer!r}\n    {reply.text!r}")


def table(lines: Iterable[str]) -> str:
    """What `evaluate` printed, as a table in Markdown.

    >>> print(table(['{"suite": "x", "metric": "cer", "count": 9, "wanted": 0.02, "nano": 0.031, "tesseract": 0.1}']))
    | | nano | wanted | tesseract 5 |
    |---|---|---|---|
    | x, character error rate | 3.1 % | 2 % | 10 % |
    """
    rows = ["| | nano | wanted | tesseract 5 |", "|---|---|---|---|"]
    for line in filter(lambda line: line.startswith("{"), lines):
        found = json.loads(line)
        name = found["suite"] + (", character error rate" if found["metric"] == "cer" else "")
        rows.append(f"| {name} | {' | '.join(_percent(found.get(key)) for key in ('nano', 'wanted', 'tesseract'))} |")
        known = ("suite", "metric", "count", "wanted", "nano", "tesseract")
        rows += [f"| {name}: {key} | {_percent(found[key])} | | |" for key in found if key not in known]
    return "\n".join(rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.3g} %"


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
    parser.add_argument("--show", type=int, default=0, help="questions, right answers and replies to print of a suite")
    parser.add_argument("--tesseract", action="store_true")
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--table", type=Path, help="print the table of a file of JSON lines that this command printed")
    args = parser.parse_args()
    if args.table:
        print(table(args.table.read_text(encoding="utf-8").splitlines()))
    else:
        (parity if args.parity else evaluate)(args)


if __name__ == "__main__":
    main()
