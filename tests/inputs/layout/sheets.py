"""Draws sheets of print whose lines and words have known boxes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

from smolcli.inputs.layout import UprightPage, lay_out
from smolcli.inputs.page import Page
from smolcli.types import Box, Frame

WORDS = "the quick brown fox jumps over a lazy dog and finds that every box holds much good type for six grey wagons"


@dataclass
class Printed:
    """A line that was drawn: its text, the box of its ink, those of its words, and its baseline."""

    text: str
    box: Box
    words: list[Box]
    baseline: int


@dataclass
class Sheet:
    """A sheet of paper with the lines that are printed on it, in the order of reading."""

    width: int = 620
    height: int = 877
    paper: str = "white"
    lines: list[Printed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width, self.height), self.paper)
        self.draw = ImageDraw.Draw(self.image)

    def line(
        self, x: float, baseline: float, text: str, size: int = 16, ink: str = "black", *, width: float = 0
    ) -> Box:
        """Print a line with Pillow's own font, spread to `width` if that is not 0, and return the box of its ink."""
        font = ImageFont.load_default(size)
        words = []
        gap = (width - font.getlength(text)) / text.count(" ") if width else 0
        for number, word in enumerate(text.split(" ")):
            start = x + font.getlength(" ".join(text.split(" ")[:number]) + " " * bool(number)) + number * gap
            if word:
                left, top, right, bottom = self.draw.textbbox((start, baseline), word, font, "ls")
                words.append(Box(round(left), round(top), round(right), round(bottom)))
                self.draw.text((start, baseline), word, ink, font, "ls")
        self.lines.append(Printed(text, around(words), words, round(baseline)))
        return around(words)

    def paragraph(self, x: float, y: float, count: int, size: int = 16, words: int = 9, ink: str = "black") -> float:
        """Print `count` lines and return the baseline of the next."""
        chosen = random.Random(f"{x} {y}")
        for number in range(count):
            text = " ".join(chosen.choice(WORDS.split()) for _ in range(words))
            self.line(x, y + number * round(1.5 * size), f"{text.capitalize()}.", size, ink)
        return y + count * round(1.5 * size)

    def column(
        self, x: float, y: float, count: int, width: float, *, seed: int = 0, indent: float = 0, fill: float = 1
    ) -> None:
        """Print `count` lines that are spread to `width`, which their words `fill`; the last one is short.

        The first has an `indent`.
        """
        chosen, font = random.Random(seed), ImageFont.load_default(16)
        for number in range(count):
            room, words = width - (0 if number else indent), [chosen.choice(WORDS.split())]
            while font.getlength(" ".join([*words, longer := chosen.choice(WORDS.split())])) <= fill * room:
                words.append(longer)
            is_last = number == count - 1
            text = " ".join(words[:2] if is_last else words)
            self.line(x + width - room, y + number * 24, text, width=0 if is_last else room)


def around(boxes: list[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return Box(min(lefts), min(tops), max(rights), max(bottoms))


def laid_out(image: Image.Image) -> UprightPage:
    return lay_out(Frame(image.convert("RGB").tobytes(), *image.size))


def overlap(one: Box, other: Box) -> float:
    """The area that two boxes share, as a part of the area that they cover together."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0, width) * max(0, height)
    areas = sum((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return shared / (areas - shared)


def matches(page: Page, printed: list[Printed]) -> list[int | None]:
    """For each found line, in reading order, the number of the printed line that it is; None if it is none."""
    found: list[int | None] = []
    for line in page.lines:
        best = max(range(len(printed)), key=lambda number: overlap(line.box, printed[number].box))
        found.append(best if overlap(line.box, printed[best].box) >= 0.5 else None)
    return found


def assert_read(page: Page, printed: list[Printed]) -> None:
    """Each printed line is found once, in the order of reading, and nothing else."""
    assert matches(page, printed) == list(range(len(printed)))
