"""Compares two versions of smolcli on the same files: whole runs in turns, and whether their answers are equal.

    python benchmarks/before_after.py OLD/bin/python NEW/bin/python [--rounds 5] [--workloads loop video]

OLD and NEW are virtual environments with a version each. The sides take turns, every round with new pictures; the
result is the median of the rounds' ratios of the new version's time to the old one's. --language and --mmproj name the
GGUF pair of both sides. Every answer must be equal, word
for word, unless --answers-may-differ.

    picture     one picture of --tiles tiles
    loop        a folder of --pictures pictures, one answer at a time (-j 1)
    slots       the same, --slots answers at once (-j)
    short       the same, with answers of at most 5 tokens
    questions   eight questions about one picture
    video       a film of --frames frames in one prompt
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cpu import QUESTIONS, filmed, new_pictures
from rivals import GRIDS, QUESTION, detail, timed
from sides import compared

from smolcli.models.files import BUILT_IN


def words_of(args: argparse.Namespace, folder: Path, number: int) -> dict[str, Callable[[], list[object]]]:
    """The arguments of each workload, made when they are asked for: each makes its pictures."""

    def pictures(count: int) -> Path:
        place = folder / f"{count}"
        args.pictures = count
        return new_pictures(place, number, args)[0].parent

    several = [word for question in QUESTIONS[1:] for word in ("-Q", question)]
    tiles, count = detail(args.tiles), args.pictures
    length = ("-n", args.new, "--min-tokens", args.new)
    return {
        "picture": lambda: ["ask", QUESTION, pictures(1), *tiles, *length],
        "loop": lambda: ["ask", QUESTION, pictures(count), *tiles, *length, "-j", 1],
        "slots": lambda: ["ask", QUESTION, pictures(count), *tiles, *length, "-j", args.slots],
        "short": lambda: ["ask", QUESTION, pictures(count), *tiles, "-n", 5, "-j", args.slots],
        "questions": lambda: ["ask", QUESTIONS[0], *several, pictures(1), *tiles, *length],
        "video": lambda: [
            "video-summarize", filmed(folder / "film", number, args)[0], "--frames", args.frames, "--question",
            QUESTION, *length,
        ],
    }  # fmt: skip


def run(python: Path, words: list[object], args: argparse.Namespace, folder: Path) -> tuple[float, list[str]]:
    """The seconds of a run and the texts of its answers."""
    out = folder / "out.jsonl"
    out.unlink(missing_ok=True)
    command = (python, "-m", "smolcli", *words, *args.model, "-q", "--timeout", 3600, "-o", out, *args.smolcli)
    seconds, _, _ = timed(command, folder / "run.log")
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert not any(record["error"] for record in records), records
    return seconds, [record["text"] for record in records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new_version", type=Path, metavar="new")
    parser.add_argument("--language", type=Path, default=BUILT_IN / "nano-F16.gguf")
    parser.add_argument("--mmproj", type=Path, default=BUILT_IN / "mmproj-nano-F16.gguf")
    parser.add_argument("--backend", default="llamacpp")
    parser.add_argument("--workloads", nargs="+", default=["picture", "loop", "slots", "short", "questions", "video"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, choices=GRIDS, default=3)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--smolcli", type=shlex.split, default=[], metavar="WORDS", help="more arguments for both")
    parser.add_argument("--answers-may-differ", action="store_true")
    args = parser.parse_args()
    args.model = ("-m", args.language, "--mmproj", args.mmproj, "-b", args.backend)
    for workload in args.workloads:
        old_seconds, new_seconds, equal, answers = [], [], 0, 0
        for number in range(args.rounds + 1):  # the first is a warm-up
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                words = words_of(args, folder, number)[workload]()
                old, old_texts = run(args.old, words, args, folder)
                new, new_texts = run(args.new_version, words, args, folder)
            equal += sum(mine == theirs for mine, theirs in zip(new_texts, old_texts, strict=True))
            answers += len(new_texts)
            if number:
                old_seconds.append(old)
                new_seconds.append(new)
        compared(f"{workload}, new and old version, {args.language.stem}", new_seconds, old_seconds, "s")
        print(f"    {equal} of {answers} answers equal", flush=True)
        if equal < answers and not args.answers_may_differ:
            sys.exit("the answers differ")


if __name__ == "__main__":
    main()
