"""Prints made-up text on small grey pages, with each word's box: what nano's pieces are cut from.

    sheet = printed(rng, held_out=False, has_rules=False)
    sheet = damaged(rng, sheet)                 # damage.py: sheet.image in mode L, turned by sheet.angle degrees

A page is a part of one, since only its pieces are looked at: some lines, one or two columns wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smolcli.nano import fonts
from smolcli.nano.print_text import Writer
from smolcli.nano.synthetic_images import ACCENTED, CHARS, SIGNS, Rng, pick

SIZES = (10, 40)  # pixels of an em
HELD_OUT_SIZES = (13, 17, 22, 27, 33)  # never trained
SHARP = 17  # pixels of an em, below which print is not made of black and white alone
ALL_CHARS = CHARS + ACCENTED + SIGNS
_VISIBLE = [0] * 40 + [255] * 216
COMMAS = frozenset(",;„")
BULLETS = "•–-*·»"  # noqa: RUF001
_JAGGED = [0] * 90 + [255] * 166
_INKED = [0] * 103 + [255] * 153  # what the layout takes for ink: layout/ground.py INK_SHARE


@dataclass(frozen=True)
class Style:
    """A face at a size in pixels: `x_height` is that of its letter x, `pitch` the distance of baselines."""

    path: str
    size: int
    pitch: float

    @property
    def font(self) -> ImageFont.FreeTypeFont:
        return fonts.load_font(self.path, self.size)

    @property
    def x_height(self) -> float:
        return self.size * _x_share(self.path)

    @property
    def space(self) -> float:
        return max(fonts.advance(self.font, " "), 0.2 * self.size)


@lru_cache
def _x_share(path: str) -> float:
    _, top, _, bottom = fonts.load_font(path, 100).getbbox("x", anchor="ls")
    return (bottom - top) / 100


@dataclass(frozen=True)
class PrintedWord:
    """A printed word: its left end, its baseline and the box of its ink, all in pixels; `line` numbers its line.

    `tail` is the lowest y that shows whether it has a comma or a full stop, also where the ink of that is faint.
    """

    text: str
    line: int
    x: float
    baseline: float
    box: tuple[float, float, float, float]
    tail: float
    style: Style

    def centres(self) -> list[float]:
        """The x of the middle of each character."""
        widths = [fonts.advance(self.style.font, char) for char in self.text]
        ends = np.cumsum([0.0, *widths])
        ends *= self.style.font.getlength(self.text) / max(1e-6, float(ends[-1]))
        return [float(self.x + middle) for middle in (ends[1:] + ends[:-1]) / 2]


@dataclass
class Sheet:
    """A page: `image` in mode L, turned counterclockwise by `angle` degrees about its centre after it was printed.

    `kind` is what is printed on it, a key of _KINDS.
    """

    image: Image.Image
    paper: int
    ink: int
    has_jagged_edges: bool = False  # print of black and white pixels alone
    words: list[PrintedWord] = field(default_factory=list)
    line_count: int = 0
    angle: float = 0.0
    kind: str = ""

    def print(self, words: Sequence[tuple[str, Style]], x: float, baseline: float, space: float = 1.0) -> float:
        """Print words as a line that begins at `x`, its spaces `space` times as wide as usual; return its end."""
        is_ragged = self.has_jagged_edges and words and words[0][1].size >= SHARP
        for text, style in words:
            font, column = style.font, math.floor(x)
            pixels, (left, top) = font.getmask2(text, mode="L", anchor="ls", start=(x - column, 0))
            mask = Image.frombytes("L", pixels.size, bytes(pixels))
            if is_ragged:
                mask = mask.point(_JAGGED)
            if ink := mask.point(_INKED).getbbox():
                left, top = column + left, round(baseline) + top
                self.image.paste(self.ink, (left, top), mask)
                box = (left + ink[0], top + ink[1], left + ink[2], top + ink[3])
                faint = mask.point(_VISIBLE).getbbox() or ink
                tail = top + faint[3] if COMMAS.intersection(text) else box[3]
                self.words.append(PrintedWord(text, self.line_count, x, baseline, box, tail, style))
            x += font.getlength(text) + space * style.space
        self.line_count += 1
        return x


# ---- what is printed ---------------------------------------------------------------------------------


@dataclass
class Column:
    """A column that is being filled: where its next line is, and what is printed into it."""

    sheet: Sheet
    writer: Writer
    left: float
    right: float
    y: float
    bottom: float

    def feed(self, style: Style) -> float:
        """The baseline of the next line in `style`; -1 where the column is full."""
        baseline = self.y + 0.95 * style.size
        if baseline + 0.3 * style.size > self.bottom:
            self.y = self.bottom
            return -1.0
        self.y += style.pitch
        return round(baseline)


def printed(rng: Rng, held_out: bool, has_rules: bool) -> Sheet:
    """A page of one or two columns of one kind each; `has_rules` draws rules around and between cells of tables."""
    sizes = [size for size in range(SIZES[0], SIZES[1] + 1) if (size in HELD_OUT_SIZES) == held_out]
    weights = np.array([1 / size for size in sizes])
    size = int(rng.choice(sizes, p=weights / weights.sum()))
    path = pick(rng, fonts.upright_faces(held_out) if rng.random() < 0.5 else fonts.faces(held_out))
    kind = pick(rng, ("prose", "prose", "prose", "headed", "list", "table", "table", "receipt", "code"))
    if kind in ("code", "receipt") and rng.random() < 0.7:
        path = pick(rng, _typewriters(held_out))
    body = Style(path, size, size * rng.uniform(1.12, 1.55))
    columns = 2 if kind in ("prose", "list") and rng.random() < 0.3 else 1
    width = int(size * rng.uniform(14, 24)) * columns
    height = int(body.pitch * rng.uniform(6, 12) + 2 * size)
    paper, ink = _paper_and_ink(rng)
    sheet = Sheet(Image.new("L", (width + 2 * size, height), paper), paper, ink, rng.random() < 0.1, kind=kind)
    chars = fonts.printable(path, ALL_CHARS)
    is_fixed, has_capitals = path in _typewriters(held_out), fonts.has_small_capitals(path)
    for number in range(columns):
        left = size + number * (width + size) / columns
        right = left + (width - size * (columns - 1)) / columns
        writer = Writer(rng, held_out, chars, is_fixed, has_capitals)
        column = Column(sheet, writer, left, right, size * 0.7, height - 0.4 * size)
        _KINDS[kind](rng, column, body, held_out, has_rules)
    return sheet


@lru_cache
def _typewriters(held_out: bool) -> tuple[str, ...]:
    mono = [path for path in fonts.faces(held_out) if is_typewriter(path)]
    return tuple(mono) or fonts.faces(held_out)


def is_typewriter(path: str) -> bool:
    """Whether all characters of a face have one width."""
    font = fonts.load_font(path, 40)
    return abs(fonts.advance(font, "i") - fonts.advance(font, "W")) < 0.5


def _paper_and_ink(rng: Rng) -> tuple[int, int]:
    """Two grey levels: black on white, with little contrast, or light on dark."""
    kind = rng.random()
    if kind < 0.55:
        return int(rng.integers(235, 256)), int(rng.integers(0, 60))
    if kind < 0.85:
        paper = int(rng.integers(150, 256))
        return paper, max(0, paper - int(rng.integers(75, 180)))
    paper = int(rng.integers(0, 90))
    return paper, min(255, paper + int(rng.integers(90, 250)))


def _take(words: list[str], style: Style, width: float, space: float = 1.0) -> list[str]:
    """Take the first words that fit a line of `width` pixels out of `words`."""
    taken, x = [], 0.0
    while words and x + style.font.getlength(words[0]) <= width:
        taken.append(words.pop(0))
        x += style.font.getlength(taken[-1]) + space * style.space
    if words and not taken:
        words.pop(0)  # wider than the column
    return taken


def _fill(rng: Rng, column: Column, style: Style, words: list[str], indent: float = 0.0, hang: float = 0.0) -> None:
    """Print words in lines, the first one indented by `indent`, the others by `hang` pixels."""
    is_justified, space = rng.random() < 0.3, rng.uniform(0.85, 1.4)
    emphasis = style
    if rng.random() < 0.25:
        others = fonts.relatives(style.path, style.path not in fonts.faces(False))
        upright = [path for path in others if not fonts.has_small_capitals(path)]
        emphasis = replace(style, path=pick(rng, upright or others))
        if not fonts.printable(emphasis.path, ALL_CHARS).issuperset(fonts.printable(style.path, ALL_CHARS)):
            emphasis = style
    while words:
        width = column.right - column.left - indent
        taken = _take(words, style, width, space)
        baseline = column.feed(style)
        if baseline < 0:
            return
        if not taken:
            continue
        spare = width - sum(style.font.getlength(word) for word in taken)
        wide = spare / max(1, len(taken) - 1) / style.space
        is_emphasised = emphasis is not style and rng.random() < 0.4
        start = int(rng.integers(len(taken))) if is_emphasised else len(taken)
        styled = [(word, style if place < start else emphasis) for place, word in enumerate(taken)]
        is_full = is_justified and words and wide < 2.5 and not is_emphasised
        column.sheet.print(styled, column.left + indent, baseline, wide if is_full else space)
        indent = hang


def _prose(rng: Rng, column: Column, body: Style, held_out: bool, has_rules: bool) -> None:
    """Paragraphs, indented or set apart."""
    indent = pick(rng, (0.0, 0.0, 1.5 * body.size))
    while column.y < column.bottom:
        _fill(rng, column, body, column.writer.prose(int(rng.integers(8, 45))), indent)
        column.y += 0.0 if indent else body.pitch * rng.uniform(0.3, 0.9)


def _headed(rng: Rng, column: Column, body: Style, held_out: bool, has_rules: bool) -> None:
    """Headings of larger print over paragraphs."""
    path = pick(rng, fonts.relatives(body.path, held_out)) if rng.random() < 0.7 else pick(rng, fonts.faces(held_out))
    size = round(body.size * rng.uniform(1.0, 2.0))
    head = Style(path, size, size * 1.25)
    writer = Writer(rng, held_out, fonts.printable(path, ALL_CHARS), is_title=fonts.has_small_capitals(path))
    while column.y < column.bottom:
        words = writer.heading(int(rng.integers(1, 5)))
        taken = _take(words, head, column.right - column.left)
        baseline = column.feed(head)
        if taken and baseline > 0:
            spare = column.right - column.left - head.font.getlength(" ".join(taken))
            offset = max(0.0, spare / 2) if rng.random() < 0.3 else 0.0
            column.sheet.print([(word, head) for word in taken], column.left + offset, baseline)
        column.y += body.pitch * rng.uniform(0.1, 0.6)
        _fill(rng, column, body, column.writer.prose(int(rng.integers(8, 25))))
        column.y += body.pitch * rng.uniform(0.3, 0.8)


def _list(rng: Rng, column: Column, body: Style, held_out: bool, has_rules: bool) -> None:
    """Items after bullets, dashes, numbers or letters."""
    marks = [mark for mark in BULLETS if mark in fonts.printable(body.path, ALL_CHARS)]
    mark, form = pick(rng, marks), pick(rng, ("{mark}", "{number}.", "{number})", "{letter})", "({letter})"))
    hang = body.size * rng.uniform(1.0, 1.8)
    number = int(rng.integers(1, 20))
    while column.y < column.bottom:
        words = column.writer.prose(int(rng.integers(2, 14)))
        label = form.format(mark=mark, number=number, letter="abcdefghijkmnopqrstuvwxyz"[number % 25])
        taken = _take(words, body, column.right - column.left - hang)
        baseline = column.feed(body)
        if baseline < 0:
            return
        end = column.left + body.font.getlength(label)
        gap = max(hang, end - column.left + 0.3 * body.size)
        x = column.left
        column.sheet.print([(label, body)], x, baseline)
        column.sheet.line_count -= 1  # the label and what follows it are one line
        column.sheet.print([(word, body) for word in taken[: len(taken) - (gap > hang)]], x + gap, baseline)
        _fill(rng, column, body, words, hang, hang)
        number += 1


def _table(rng: Rng, column: Column, body: Style, held_out: bool, has_rules: bool) -> None:
    """Rows of cells, the columns of numbers on the right."""
    count = int(rng.integers(2, 5))
    edges = np.linspace(column.left, column.right, count + 1)
    on_right = rng.random(count) < 0.5
    first = column.y
    draw = ImageDraw.Draw(column.sheet.image)
    is_ruled = has_rules and rng.random() < 0.6
    pad = 0.35 * body.size
    step = body.pitch * rng.uniform(1.0, 1.5)
    while column.y < column.bottom:
        y = column.y
        baseline = column.feed(body)
        if baseline < 0:
            break
        column.y = y + step
        for cell in range(count):
            width = edges[cell + 1] - edges[cell] - 2 * pad
            taken = _take(column.writer.cell(), body, width)
            spare = width - body.font.getlength(" ".join(taken)) - 0.2 * body.size * len(taken)
            if taken:
                x = edges[cell] + pad + (max(0.0, spare) if on_right[cell] else 0.0)
                column.sheet.print([(word, body) for word in taken], x, baseline)
        if is_ruled:
            below = round(y + step)
            draw.line((edges[0], below, edges[-1], below), column.sheet.ink, 1 + body.size // 25)
    if is_ruled and rng.random() < 0.6:
        for edge in edges:
            draw.line((edge, first, edge, column.y), column.sheet.ink, 1 + body.size // 25)


def _receipt(rng: Rng, column: Column, body: Style, held_out: bool, has_rules: bool) -> None:
    """Goods and their prices at the right edge."""
    is_upper = rng.random() < 0.5
    while (baseline := column.feed(body)) > 0:
        price = column.writer.cell()[:1] if rng.random() < 0.3 else [column.writer.money()]
        price = [text for text in price if fonts.printable(body.path, ALL_CHARS).issuperset(text)]
        goods = column.writer.heading(int(rng.integers(1, 4)))
        goods = [word.upper() for word in goods if word.upper().isalnum()] if is_upper else goods
        goods = [word for word in goods if fonts.printable(body.path, ALL_CHARS).issuperset(word)]
        room = column.right - column.left - sum(body.font.getlength(text) for text in price)
        taken = _take(goods, body, room - 2 * body.size)
        if taken:
            column.sheet.print([(word, body) for word in taken], column.left, baseline)
        if price:
            column.sheet.print([(price[0], body)], column.right - body.font.getlength(price[0]), baseline)


def _code(rng: Rng, column: Column, body: Style, held_out: bool, has_rules: bool) -> None:
    """Lines of a program with their indents."""
    indent = 0
    while (baseline := column.feed(body)) > 0:
        indent = int(np.clip(indent + rng.integers(-1, 2), 0, 4))
        x = column.left + 2 * indent * fonts.advance(body.font, " ")
        taken = _take(column.writer.code(), body, column.right - x)
        if taken:
            column.sheet.print([(word, body) for word in taken], x, baseline)


_KINDS = {"prose": _prose, "headed": _headed, "list": _list, "table": _table, "receipt": _receipt, "code": _code}
