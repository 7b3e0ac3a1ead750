"""What nano is taught: pictures from nano/synthetic_images.py with a question and the right answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from smolcli.models.chat_template import UNSPLIT, Grid, in_words, video_parts
from smolcli.nano import synthetic_images
from smolcli.nano.synthetic_images import TILE, Picture, Rng, pick
from smolcli.types import Frame, Prompt

CELLS = 8  # a tile's tokens a side: cells of 16 x 16 pixels
THINGS = (
    "",
    *synthetic_images.CHARS[1:],
    *(f"<{s}>" for s in synthetic_images.SHAPES),
    *(f"<{c}>" for c in synthetic_images.COLOURS),
)
CELL_CLASSES = (*THINGS, *(f"<on {g}>" for g in synthetic_images.GROUNDS))
CELL_CLASS = {name: number for number, name in enumerate(CELL_CLASSES)}
IGNORE = -100
LEGIBLE = 9.0  # pixels of print height under which a cell is not asked for its characters

CAPTION = (
    "Describe this image in one sentence.",
    "Can you describe this image?",
    "Describe this image.",
    "Write a short alt text for this image.",
    "What is in this picture?",
)
TAGS = "List the main things in this image as tags, separated by commas."
READ = ("What is written in the image?", "What is written in the image?", "Read the text.", "What does it say?")
VIDEO = ("Describe this video.", "What happens in this video?", "What happens?")
DIRECTION = ("In which direction does it move?", "Which way does it move?")
NO_TEXT = "(no text)"
BLANK = "(blank)"
FURTHER = 4  # questions after the first: the picture is the dear part of a lesson
MOVES = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass
class Lesson:
    """One question on one picture (or the frames of a clip).

    `tiles` is uint8 (n, 128, 128, 3); `cells` int16 (n, 64, 2), classes of CELL_CLASSES or IGNORE;
    `prompt` what is asked, with stand-ins for the pictures, and `grids` how they are cut; `answer` what must follow;
    `further` more questions and answers after it.
    """

    tiles: np.ndarray[Any, Any]
    cells: np.ndarray[Any, Any]
    prompt: Prompt
    grids: Sequence[Grid]
    answer: str
    further: Sequence[tuple[str, str]] = ()


_STAND_IN = Frame(bytes(3), 1, 1)


def still(picture: Picture, question: str, answer: str, grid: Grid = UNSPLIT) -> Lesson:
    """A lesson on one still picture, cut as `grid`; its size must be that of the grid (one tile if unsplit)."""
    views = [
        (synthetic_images.resized(picture, TILE, TILE) if grid.rows or picture.image.size != (TILE, TILE) else picture)
    ]
    if grid.rows:
        views = [_part(picture, row, column) for row in range(grid.rows) for column in range(grid.columns)] + views
    return _lesson(views, Prompt.user(_STAND_IN, question), [grid], answer)


def clip(frames: Sequence[Picture], seconds: Sequence[float], question: str, answer: str) -> Lesson:
    """A lesson on a clip whose frames were taken at `seconds`."""
    taken = [replace(_STAND_IN, time=second) for second in seconds]
    prompt = Prompt.user(*video_parts(taken, seconds[-1]), question)
    return _lesson(frames, prompt, [UNSPLIT] * len(frames), answer)


def _lesson(views: Sequence[Picture], prompt: Prompt, grids: Sequence[Grid], answer: str) -> Lesson:
    pixels, cells = [np.asarray(view.image) for view in views], [_cells(view) for view in views]
    return Lesson(np.stack(pixels), np.stack(cells), prompt, grids, answer)


def _part(picture: Picture, row: int, column: int) -> Picture:
    x, y = column * TILE, row * TILE
    image = picture.image.crop((x, y, x + TILE, y + TILE))
    return Picture(
        image,
        [synthetic_images.Mark(m.name, m.x - x, m.y - y, m.size, m.colour) for m in picture.marks],
        ground=picture.ground,
    )


def _cells(view: Picture) -> np.ndarray[Any, Any]:
    """int16 (64, 2): what each 16-pixel cell holds: two characters in reading order, a shape and its colour,
    or nothing and the colour of the ground."""
    cells = np.zeros((CELLS, CELLS, 2), np.int16)
    side = TILE // CELLS
    for mark in view.marks:
        if mark.colour:
            _cover(cells, mark, side)
            continue
        row, column = int(mark.y // side), int(mark.x // side)
        if not (0 <= row < CELLS and 0 <= column < CELLS):
            continue
        if mark.size < LEGIBLE:
            cells[row, column] = IGNORE
        else:
            slot = 0 if cells[row, column, 0] == 0 else 1
            if cells[row, column, slot] == 0:
                cells[row, column, slot] = CELL_CLASS[mark.name]
    if view.ground:
        cells[(cells == 0).all(-1), 1] = CELL_CLASS[f"<on {view.ground}>"]
    return cells.reshape(-1, 2)


def _cover(cells: np.ndarray[Any, Any], mark: synthetic_images.Mark, side: int) -> None:
    centre = (np.arange(CELLS) + 0.5) * side
    reach = max(0.42 * mark.size, 0.75 * side)
    near = np.hypot(centre[:, None] - mark.y, centre[None, :] - mark.x) <= reach
    cells[near] = CELL_CLASS[f"<{mark.name}>"], CELL_CLASS[f"<{mark.colour}>"]


# ---- the lessons ---------------------------------------------------------------------------------


def _wear(rng: Rng, picture: Picture, share: float) -> Picture:
    return synthetic_images.worn(rng, picture) if rng.random() < share else picture


def read(rng: Rng, judging: bool, max_lines: int = 6, wear: float = 0.35, grid: Grid = UNSPLIT) -> Lesson:
    """The print of a page, in one tile or in a grid of them."""
    return _about_page(rng, _page(rng, judging, max_lines, wear, grid), grid)


def dense(rng: Rng) -> Lesson:
    """A full page, for the cells alone: as many labels a picture as there can be."""
    return still(_wear(rng, synthetic_images.page(rng, TILE, TILE, 7, (13, 26), dense=True), 0.2), "", "")


def _page(rng: Rng, judging: bool, max_lines: int, wear: float, grid: Grid) -> Picture:
    width, height = max(1, grid.columns) * TILE, max(1, grid.rows) * TILE
    if grid.rows:
        big = rng.random() < 0.12
        sizes = (30, 30 + 12 * min(grid.rows, grid.columns)) if big else (13, 30)
        return _wear(rng, synthetic_images.page(rng, width, height, 100, sizes, judging), wear)
    if rng.random() < 0.3 and not judging:  # a picture of another shape, squeezed into the tile as the processor does
        fx, fy = rng.uniform(0.75, 1.6), rng.uniform(0.75, 1.6)
        drawn = synthetic_images.page(
            rng, int(TILE * fx), int(TILE * fy), max_lines, (max(12, round(13 * fy)), round(30 * fy)), judging
        )
        return _wear(rng, synthetic_images.resized(drawn, TILE, TILE), wear)
    return _wear(rng, synthetic_images.page(rng, width, height, max_lines, judging=judging), wear)


def _about_page(rng: Rng, page: Picture, grid: Grid) -> Lesson:
    kind = rng.random()
    if not page.lines:
        return still(page, pick(rng, READ), BLANK, grid)
    if kind < 0.9:
        return still(page, pick(rng, READ), "\n".join(page.lines), grid)
    if kind < 0.94:
        return still(page, "Is there any text?", "yes", grid)
    return still(page, pick(rng, CAPTION), page_caption(page), grid)


def page_caption(page: Picture) -> str:
    """The one right caption of a page: its words if they are one line, else how many lines."""
    lines = len(page.lines)
    if lines == 1:
        return f'the text "{page.lines[0]}"'
    return f"a page with {in_words(lines)} lines of text" if lines <= 6 else "a page of text"


def blank(rng: Rng, judging: bool, grid: Grid = UNSPLIT) -> Lesson:
    """An empty page, perhaps with noise or uneven light."""
    name, paper = synthetic_images.ground(rng)
    width, height = max(1, grid.columns) * TILE, max(1, grid.rows) * TILE
    picture = _wear(rng, Picture(Image.new("RGB", (width, height), paper), ground=name), 0.5)
    questions = (
        (pick(rng, READ), BLANK),
        (pick(rng, CAPTION), f"a blank {name} picture"),
        ("Is the picture blank?", "yes"),
        ("Is there any text?", "no"),
        ("How many shapes are there?", "0"),
    )
    number = int(rng.choice(len(questions), p=(0.4, 0.3, 0.1, 0.1, 0.1)))
    return still(picture, *questions[number], grid)


def one(rng: Rng, judging: bool) -> Lesson:
    """One object: the first lesson on shapes."""
    name, paper = synthetic_images.ground(rng)
    picture = synthetic_images.scene(rng, synthetic_images.kinds(rng, name, 1, judging), name, paper, judging=judging)
    return _about_scene(rng, picture, "free")


def objects(
    rng: Rng, judging: bool, caption: float = 0.45, grid: Grid = UNSPLIT, wear: float = 0.25, most: int = 5
) -> Lesson:
    """One to three different objects, or up to five of few kinds, `most` at most; a caption or a question."""
    name, paper = synthetic_images.ground(rng)
    count = min(most, int(rng.choice((1, 2, 3, 4, 5), p=(0.2, 0.35, 0.25, 0.1, 0.1))))
    layout = "free"
    if count in (2, 3):
        layout = pick(rng, ("row", "column"))
        things = synthetic_images.kinds(rng, name, count, judging)
        if rng.random() < 0.15:
            things = [things[0]] * count
    else:
        few = synthetic_images.kinds(rng, name, 1 if count == 1 or rng.random() < 0.4 else 2, judging)
        things = [few[int(rng.integers(len(few)))] for _ in range(count)]
    picture = synthetic_images.scene(
        rng, things, name, paper, side=TILE * max(1, grid.rows, grid.columns), layout=layout, judging=judging
    )
    if grid.rows != grid.columns:
        picture = synthetic_images.resized(picture, grid.columns * TILE, grid.rows * TILE)
    return _about_scene(rng, _wear(rng, picture, wear), layout, caption, grid)


def _named(mark: synthetic_images.Mark) -> str:
    article = "an" if mark.colour == "orange" else "a"
    return f"{article} {mark.colour} {mark.name}"


def plural(shape: str) -> str:
    """The name of more than one."""
    return "crosses" if shape == "cross" else f"{shape}s"


def scene_caption(picture: Picture, layout: str) -> str:
    """The one right caption of a scene: counts of like things, places of two, the order of three."""
    marks, on = picture.marks, f" on a {picture.ground} background"
    pairs = [(m.colour, m.name) for m in marks]
    if len(marks) == 1:
        return _named(marks[0]) + on
    if len(set(pairs)) == 1:
        return f"{synthetic_images.NUMBERS[len(marks)]} {marks[0].colour} {plural(marks[0].name)}{on}"
    if len(marks) == 2 and layout != "free":
        where = "to the left of" if layout == "row" else "above"
        return f"{_named(marks[0])} {where} {_named(marks[1])}{on}"
    if len(marks) == 3 and layout != "free":
        order = "from left to right" if layout == "row" else "from top to bottom"
        return f"{order}: {_named(marks[0])}, {_named(marks[1])} and {_named(marks[2])}{on}"
    kinds = sorted(set(pairs), key=lambda pair: (-pairs.count(pair), pair))
    parts = [
        f"{synthetic_images.NUMBERS[pairs.count(k)]} {k[0]} {plural(k[1]) if pairs.count(k) > 1 else k[1]}"
        for k in kinds
    ]
    return " and ".join(parts) + on


def tags(picture: Picture) -> str:
    """Each kind of thing in a scene once, in the order of its marks."""
    return ", ".join(dict.fromkeys(f"{m.colour} {m.name}" for m in picture.marks))


def _about_scene(rng: Rng, picture: Picture, layout: str, caption: float = 0.5, grid: Grid = UNSPLIT) -> Lesson:
    kind = rng.random()
    if kind < caption:
        first = pick(rng, CAPTION), scene_caption(picture, layout)
    elif kind < caption + 0.08:
        first = pick(rng, READ), NO_TEXT
    elif kind < caption + 0.11 and layout != "free":
        first = TAGS, tags(picture)
    else:
        first = pick(rng, QUESTIONS)(rng, picture, layout)
    further = [pick(rng, DEEPER)(rng, picture, layout) for _ in range(FURTHER)]
    return replace(still(picture, *first, grid), further=further)


def _how_many(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    if rng.random() < 0.3:
        return pick(rng, ("How many shapes are there?", "How many objects are there?")), str(len(picture.marks))
    present = [m.name for m in picture.marks]
    shape = pick(rng, present) if rng.random() < 0.75 else pick(rng, synthetic_images.SHAPES)
    ask = pick(rng, ("How many {} are there?", "How many {}?")).format(plural(shape))
    return ask, str(present.count(shape))


def _what_colour(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    word = pick(rng, ("colour", "color"))
    if rng.random() < 0.15:
        return f"What {word} is the background?", picture.ground
    shape = pick(rng, [m.name for m in picture.marks]) if rng.random() < 0.9 else pick(rng, synthetic_images.SHAPES)
    colours = {m.colour for m in picture.marks if m.name == shape}
    if not colours:
        return f"What {word} is the {shape}?", f"there is no {shape}"
    if len(colours) > 1:
        return _how_many(rng, picture, layout)
    return f"What {word} is the {shape}?", colours.pop()


def _what_shape(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    colour = pick(rng, [m.colour for m in picture.marks])
    shapes = {m.name for m in picture.marks if m.colour == colour}
    if len(shapes) > 1:
        return _is_there(rng, picture, layout)
    return pick(rng, ("What shape is {}?", "What shape is the {} object?")).format(colour), shapes.pop()


def _is_there(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    present = {(m.colour, m.name) for m in picture.marks}
    colour, shape = pick(rng, sorted(present))
    if rng.random() < 0.5:
        colour, shape = (
            (pick(rng, list(synthetic_images.COLOURS)), shape)
            if rng.random() < 0.5
            else (colour, pick(rng, synthetic_images.SHAPES))
        )
    article = "an" if colour == "orange" else "a"
    return f"Is there {article} {colour} {shape}?", "yes" if (colour, shape) in present else "no"


def _where(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    marks = picture.marks
    if layout == "free" or len(marks) < 2 or len({(m.colour, m.name) for m in marks}) < len(marks):
        return _how_many(rng, picture, layout)
    first, second = sorted(rng.choice(len(marks), 2, replace=False))
    a, b = marks[first], marks[second]
    before, after = ("to the left of", "to the right of") if layout == "row" else ("above", "below")
    if rng.random() < 0.5:
        x, y, word, right = (a, b, before, True) if rng.random() < 0.5 else (b, a, after, True)
        if rng.random() < 0.5:
            x, y, right = y, x, False
        return f"Is the {x.colour} {x.name} {word} the {y.colour} {y.name}?", "yes" if right else "no"
    second = first + 1
    a, b = marks[first], marks[second]
    if rng.random() < 0.5:
        return (
            (f"What is {before} the {b.colour} {b.name}?", _named(a)) if first == 0 else _is_there(rng, picture, layout)
        )
    return (
        (f"What is {after} the {a.colour} {a.name}?", _named(b))
        if second == len(marks) - 1
        else _is_there(rng, picture, layout)
    )


def place(x: float, y: float, width: float, height: float) -> str:
    """The third of a picture that a point is in, by name; empty near the borders of the thirds.

    >>> place(20, 100, 128, 128)
    'bottom left'
    """
    across, down = 3 * x / width, 3 * y / height
    if min(abs(each - border) for each in (across, down) for border in (1, 2)) < 0.12:
        return ""
    row, column = ("top", "", "bottom")[int(down)], ("left", "", "right")[int(across)]
    return f"{row} {column}".strip() or "centre"


def _whereabouts(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    names = [m.name for m in picture.marks]
    mark = pick(rng, picture.marks)
    where = place(mark.x, mark.y, *picture.image.size)
    if names.count(mark.name) > 1 or not where:
        return _is_there(rng, picture, layout)
    return f"Where is the {mark.name}?", where


def _blank_or_text(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    return pick(rng, ("Is the picture blank?", "Is there any text?")), "no"


QUESTIONS = (
    _how_many,
    _how_many,
    _what_colour,
    _what_colour,
    _what_shape,
    _is_there,
    _where,
    _where,
    _where,
    _whereabouts,
    _whereabouts,
    _whereabouts,
    _blank_or_text,
)
# What is learnt last: to count, and to look from one thing to another.
DEEPER = (_how_many, _how_many, _how_many, _where, _where, _where, _whereabouts, _whereabouts, _is_there, _what_colour)


def motion(rng: Rng, judging: bool) -> Lesson:
    """A thing that moves in one of four directions over two to six frames, or stays where it is.

    Mostly the direction is asked for first.
    """
    name, paper = synthetic_images.ground(rng)
    [(colour, shape)] = synthetic_images.kinds(rng, name, 1, judging)
    count = int(rng.choice((2, 3, 4, 5, 6), p=(0.25, 0.3, 0.2, 0.15, 0.1)))
    radius = float(rng.integers(11, 26))
    way = pick(rng, (*MOVES, *MOVES, "still"))
    dx, dy = MOVES.get(way, (0, 0))
    span = rng.uniform(0.3, 0.95) * (TILE - 2 * radius - 4) if way != "still" else 0.0
    low, high = radius + 2, TILE - radius - 2
    x0 = rng.uniform(low + (span if dx < 0 else 0), high - (span if dx > 0 else 0))
    y0 = rng.uniform(low + (span if dy < 0 else 0), high - (span if dy > 0 else 0))
    fill = synthetic_images.shade(rng, colour)
    frames = []
    for k in range(count):
        x, y = x0 + dx * span * k / (count - 1), y0 + dy * span * k / (count - 1)
        image = Image.new("RGB", (TILE, TILE), paper)
        synthetic_images.draw_shape(image, shape, fill, x, y, radius, paper)
        frames.append(Picture(image, [synthetic_images.Mark(shape, x, y, 2 * radius, colour)], ground=name))
    step = float(pick(rng, (0.5, 1.0, 1.0, 2.0)))
    seconds = [k * step for k in range(count)]
    a = "an" if colour == "orange" else "a"
    moves = f"moves {'to the ' if way in ('left', 'right') else ''}{way}" if way != "still" else "does not move"
    asked = [
        (pick(rng, DIRECTION), way if way != "still" else "it does not move"),
        (pick(rng, VIDEO), f"{a} {colour} {shape} {moves}"),
        (f"What {pick(rng, ('colour', 'color'))} is it?", colour),
        ("What shape is it?", shape),
    ]
    for when, seen in (("start", frames[0]), ("end", frames[-1])):
        if where := place(seen.marks[0].x, seen.marks[0].y, TILE, TILE):
            asked.append((f"Where is it at the {when}?", where))
    first, *further = (asked[number] for number in rng.permutation(len(asked)))
    if rng.random() < 0.6:
        first, further = asked[0], [each for each in [first, *further] if each is not asked[0]]
    return replace(clip(frames, seconds, *first), further=further)
