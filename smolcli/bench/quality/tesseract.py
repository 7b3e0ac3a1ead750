"""Tesseract beside the models in `bench quality --suite ocr-pages`, if the program is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from smolcli.bench.quality.rows import Row
from smolcli.bench.report.results import Figure, Result
from smolcli.types import Item, Source

PROGRAM = "tesseract"
PDF = b"%PDF-"


@dataclass(frozen=True)
class Tesseract:
    """The installed program, with its version and its modes."""

    program: str
    version: str
    finds_turns: bool

    @property
    def settings(self) -> dict[str, str | int]:
        """What a report says of it."""
        return {"model": f"{PROGRAM} {self.version}"}

    def read(self, source: Source, timeout: float) -> str | None:
        """The text of all pages of a picture, None where it cannot be read or takes longer than `timeout` seconds.

        The mode is fully automatic, with the page's turn where the data for that are installed; the language is the
        program's default.
        """
        mode = ["--psm", "1"] if self.finds_turns else []
        name = "stdin" if source.data is not None else os.path.abspath(source.word)
        try:
            done = subprocess.run(
                [self.program, name, "stdout", *mode], input=source.data, capture_output=True, timeout=timeout or None
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def find() -> Tesseract | None:
    """The installed program; None if there is none, or none that runs."""
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    try:
        version = _output(program, "--version").split("\n", 1)[0].removeprefix(PROGRAM).strip()
        return Tesseract(program, version, "osd" in _output(program, "--list-langs").split())
    except (OSError, subprocess.SubprocessError):
        return None


def _output(program: str, word: str) -> str:
    done = subprocess.run([program, word], capture_output=True, text=True, errors="replace", timeout=20, check=True)
    return done.stdout or done.stderr


def reads(source: Source) -> bool:
    """Whether Tesseract opens such a source: a picture that is here, and no PDF."""
    if source.data is not None:
        return not source.data.startswith(PDF)
    try:
        with open(source.word, "rb") as file:
            return not file.read(1024).lstrip().startswith(PDF)
    except OSError:
        return False


def result(
    tesseract: Tesseract,
    rows: Iterator[tuple[Row, Item]],
    add: Callable[[int, Row, str], None],
    figures: Callable[[], dict[str, Figure]],
    timeout: float,
) -> tuple[Result, int]:
    """Read all rows: `add` takes the index of a row, the row and its text, `figures` then makes the figures.

    The second value is the number of rows that it cannot open, which are in none of them.
    """
    start, answered, failed, unreadable = time.perf_counter(), 0, 0, 0
    for index, (row, item) in enumerate(rows):
        if not reads(item.sources[0]):
            unreadable += 1
            continue
        text = tesseract.read(item.sources[0], timeout)
        if text is None:
            failed += 1
            continue
        answered += 1
        add(index, row, text)
    rate = answered / (time.perf_counter() - start)
    speed = {"images": Figure(rate, rate, rate, 1)} if answered else {}
    return Result(tesseract.settings, figures() | speed, failed=failed), unreadable
