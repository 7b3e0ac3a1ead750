"""Pages whose print is set like typewriting: each character is CHARACTER pixels wide."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from smolcli.inputs.page import Cell, Line, Page, Region, RegionKind, Word
from smolcli.types import Box

CHARACTER, X_HEIGHT, PITCH = 20, 20, 48
WORDS = [
    *("Haus", "Würde", "naïve", "10%", "(see)", "it's", "A&B", "<tag>", "*bold*", "_under_", "#1", "1.", "-", "+", ">"),
    *("|", "`code`", "[x](y)", "~~", "\\n", "3.5", "$5", "\u05e9\u05dc\u05d5\u05dd", "\u6f22\u5b57", "\U0001d538"),
    *("fi-", "well-known", "end.", "=", "==", "---", "&amp;", "]]>", '"', "'"),
]


def line(text: str, left: int = 100, top: int = 100, confidence: float | None = 0.9, cell: int | None = None) -> Line:
    """A line whose words stand where the typewriter puts them; leading spaces are an indent."""
    words, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        start = left + at * CHARACTER
        words.append(Word(Box(start, top, start + len(word) * CHARACTER, top + 36), word))
        at += len(word)
    box = Box(words[0].box.left, top, words[-1].box.right, top + 36) if words else Box(left, top, left + 1, top + 36)
    return Line(box, tuple(words), float(X_HEIGHT), top + 30, " ".join(text.split()), confidence, cell)


def region(
    texts: Sequence[str], left: int = 100, top: int = 100, kind: RegionKind = "text", level: int = 0, pitch: int = PITCH
) -> Region:
    """A region with a line for each text; "" leaves a line free."""
    lines = tuple(line(text, left, top + number * pitch) for number, text in enumerate(texts) if text.strip())
    return Region(kind, around(lines), lines, level=level)


def around(lines: Sequence[Line]) -> Box:
    boxes = [line.box for line in lines]
    return Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )


def page(*regions: Region, number: int = 1, **fields: object) -> Page:
    return replace(Page(number, 2480, 3508, regions, dpi=300.0), **fields)  # type: ignore[arg-type]


def table(rows: Sequence[Sequence[str | None]], left: int = 100, top: int = 100, width: int = 400) -> Region:
    """A ruled table; None means that the cell before it, or in the first column that above it, spans this square."""
    cells: list[Cell] = []
    texts: list[str] = []
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            if value is not None:
                box = Box(left + column * width, top + row * 60, left + (column + 1) * width, top + (row + 1) * 60)
                cells.append(Cell(row, column, box))
                texts.append(value)
            elif column:
                cells[-1] = replace(cells[-1], column_span=cells[-1].column_span + 1)
            else:
                index = max(i for i, cell in enumerate(cells) if cell.column == 0)
                cells[index] = replace(cells[index], row_span=cells[index].row_span + 1)
    lines = [
        line(text, cell.box.left + 10, cell.box.top + 10, cell=index)
        for index, (cell, text) in enumerate(zip(cells, texts, strict=True))
        if text
    ]
    box = Box(left, top, left + len(rows[0]) * width, top + len(rows) * 60)
    return Region("table", box, tuple(lines), tuple(cells))


def random_page(seed: int, number: int = 1) -> Page:
    """A page of random regions with awkward words, some of whose lines have other numbers of boxes than words."""
    chosen = random.Random(seed)
    kinds: list[RegionKind] = ["text", "heading", "list", "table", "header", "footer", "note", "picture"]
    regions, top = [], 60
    for _ in range(chosen.randrange(1, 7)):
        kind = chosen.choice(kinds)
        if kind == "picture":
            regions.append(Region("picture", Box(100, top, 600, top + 200)))
            top += 250
            continue
        if kind == "table":
            made = table([chosen.choices(WORDS, k=3) for _ in range(chosen.randrange(1, 4))], top=top)
        else:
            texts = [
                " " * chosen.choice((0, 0, 4)) + " ".join(chosen.choices(WORDS, k=chosen.randrange(1, 9)))
                for _ in range(chosen.randrange(1, 6))
            ]
            made = region(texts, top=top, kind=kind, level=chosen.randrange(0, 4) if kind == "heading" else 0)
        made = replace(made, lines=tuple(_unlike(item, chosen) for item in made.lines))
        regions.append(made)
        top = made.box.bottom + 80
    skew, turn = chosen.choice((0.0, 1.5, -3.0)), chosen.choice((0, 90, 180, 270))
    return page(*regions, number=number, skew=skew, turn=turn, has_text_layer=chosen.random() < 0.2)


def _unlike(item: Line, chosen: random.Random) -> Line:
    """Return the line, sometimes as a reply leaves it that has another number of words."""
    if chosen.random() < 0.7:
        return item
    boxes = tuple(Word(word.box) for word in item.words)
    return replace(item, words=boxes[: chosen.randrange(0, len(boxes) + 1)], confidence=None)


def printed_words(pages: Sequence[Page]) -> list[str]:
    """The words of all lines in reading order."""
    return [word for item in pages for text in item.lines for word in text.text.split()]


def without_lists(document: Page) -> Page:
    """The page with lists as text, for forms in which the markers of lists are no text."""
    changed = [replace(part, kind="text" if part.kind == "list" else part.kind) for part in document.regions]
    return replace(document, regions=tuple(changed))
