"""The lessons that nano is trained on: synthetic pictures with questions, right answers and labels for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from smolcli.models.catalog import NANO_BLANK_REPLIES
from smolcli.models.chat_template import UNSPLIT, Grid, in_words, video_parts
from smolcli.nano import synthetic_images
from smolcli.nano.kinds import BLANK as BLANK_PICTURE
from smolcli.nano.kinds import DRAWING, PAGE, about_kind
from smolcli.nano.questions import FOLLOW_UPS, QUESTIONS, region, scene_caption, tags, with_article
from smolcli.nano.synthetic_images import SHAPES, TILE, Annotation, Picture, Rng, pick
from smolcli.nano.thing_names import NAMES as THINGS
from smolcli.types import FrameRef, Prompt

UNKNOWN = "drawing"  # the name of a drawn thing that nano does not know
BUSY = "busy"  # the name of a background of several colours
CELLS = 8  # a tile's tokens a side: cells of 16 x 16 pixels
_GROUNDS = tuple(f"<on {ground}>" for ground in (*synthetic_images.GROUNDS, BUSY))
KIND_CLASSES = ("<photograph>", "<pattern>", "<noise>")  # of the cells of whole pictures without things
PARTS = ("bar", "line", "slice", "print", "button", "icon")  # of charts and screens
CELL_CLASSES = (  # what a cell has; "" is nothing
    "",
    *synthetic_images.CHARS[1:],
    *(f"<{shape}>" for shape in synthetic_images.SHAPES),
    *(f"<{colour}>" for colour in synthetic_images.COLOURS),
    *_GROUNDS,
    *(f"<a {thing}>" for thing in (*THINGS, UNKNOWN)),
    *synthetic_images.ACCENTED,
    *synthetic_images.SIGNS,
    *(f"<{part}>" for part in PARTS),
    *KIND_CLASSES,
)
CELL_CLASS = {name: number for number, name in enumerate(CELL_CLASSES)}
GROUND_CLASSES = range(CELL_CLASS[_GROUNDS[0]], CELL_CLASS[_GROUNDS[-1]] + 1)
IGNORE = -100
LEGIBLE = 9.0  # print height in pixels; the characters of cells with smaller print are not trained

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
BLANK, NO_TEXT = NANO_BLANK_REPLIES
FOLLOW_UP_COUNT = 4  # questions after the first: drawing and encoding the picture is what a lesson costs
MOVES = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass
class Lesson:
    """One question about a picture or the frames of a clip, its right answer, and follow-up questions.

    `tiles` is uint8 (n, 128, 128, 3). `cells` is int16 (n, 64, 2): each cell's two classes, of CELL_CLASSES, or IGNORE.
    `prompt` has placeholders for the pictures, `grids` has how each is cut. `follow_ups` are questions and answers.
    """

    tiles: np.ndarray[Any, Any]
    cells: np.ndarray[Any, Any]
    prompt: Prompt
    grids: Sequence[Grid]
    answer: str
    follow_ups: Sequence[tuple[str, str]] = ()


_PLACEHOLDER = FrameRef(0, 1, 1)


def still(picture: Picture, question: str, answer: str, grid: Grid = UNSPLIT) -> Lesson:
    """A lesson about one still picture, cut into `grid`; the picture must have the grid's size unless unsplit."""
    has_tile_size = not grid.rows and picture.image.size == (TILE, TILE)
    tiles = [picture if has_tile_size else synthetic_images.resized(picture, TILE, TILE)]
    if grid.rows:
        tiles = [_crop(picture, row, column) for row in range(grid.rows) for column in range(grid.columns)] + tiles
    return _lesson(tiles, Prompt.user(_PLACEHOLDER, question), [grid], answer)


def clip(frames: Sequence[Picture], seconds: Sequence[float], question: str, answer: str) -> Lesson:
    """A lesson about a clip; `seconds` are the timestamps of its frames."""
    placeholders = [replace(_PLACEHOLDER, time=timestamp) for timestamp in seconds]
    prompt = Prompt.user(*video_parts(placeholders, seconds[-1]), question)
    return _lesson(frames, prompt, [UNSPLIT] * len(frames), answer)


def _lesson(tiles: Sequence[Picture], prompt: Prompt, grids: Sequence[Grid], answer: str) -> Lesson:
    pixels, cells = [np.asarray(tile.image) for tile in tiles], [_cells(tile) for tile in tiles]
    return Lesson(np.stack(pixels), np.stack(cells), prompt, grids, answer)


def _crop(picture: Picture, row: int, column: int) -> Picture:
    """One tile of a picture, the annotations relative to its corner."""
    x, y = column * TILE, row * TILE
    image = picture.image.crop((x, y, x + TILE, y + TILE))
    annotations = [replace(annotation, x=annotation.x - x, y=annotation.y - y) for annotation in picture.annotations]
    return Picture(image, annotations, ground=picture.ground)


def _cells(tile: Picture) -> np.ndarray[Any, Any]:
    """int16 (64, 2), the classes of each cell of 16 x 16 pixels.

    A cell has two characters in reading order, or a shape or thing and its colour (IGNORE if that is not clear), or
    nothing and the name of the ground.
    """
    cells = np.zeros((CELLS, CELLS, 2), np.int16)
    side = TILE // CELLS
    for annotation in tile.annotations:
        if len(annotation.name) > 1:
            _cover(cells, annotation, side)
            continue
        row, column = int(annotation.y // side), int(annotation.x // side)
        if not (0 <= row < CELLS and 0 <= column < CELLS):
            continue
        if annotation.size < LEGIBLE:
            cells[row, column] = IGNORE
        else:
            index = 0 if cells[row, column, 0] == 0 else 1
            if cells[row, column, index] == 0:
                cells[row, column, index] = CELL_CLASS[annotation.name]
    if tile.ground:
        cells[(cells == 0).all(-1), 1] = CELL_CLASS[f"<on {tile.ground}>"]
    return cells.reshape(-1, 2)


def _cover(cells: np.ndarray[Any, Any], shape: Annotation, side: int) -> None:
    """Set the cells whose centre a shape or thing covers, at least the one it lies in, to its name and colour."""
    centre = (np.arange(CELLS) + 0.5) * side
    reach = max(0.42 * shape.size, 0.75 * side)
    is_covered = np.hypot(centre[:, None] - shape.y, centre[None, :] - shape.x) <= reach
    name = f"<{shape.name}>" if shape.name in SHAPES else f"<a {shape.name}>"
    cells[is_covered] = CELL_CLASS[name], CELL_CLASS[f"<{shape.colour}>"] if shape.colour else IGNORE


# ---- the lessons ---------------------------------------------------------------------------------


def _worn_at_random(rng: Rng, picture: Picture, probability: float) -> Picture:
    return synthetic_images.worn(rng, picture) if rng.random() < probability else picture


def read(rng: Rng, held_out: bool, max_lines: int = 6, wear: float = 0.35, grid: Grid = UNSPLIT) -> Lesson:
    """A page of text, in one tile or a grid of tiles; `wear` is the probability that it is worn."""
    return _about_page(rng, _page(rng, held_out, max_lines, wear, grid), grid)


def dense(rng: Rng) -> Lesson:
    """A full page without a question: it trains the cells alone, with as many labels as fit in one picture."""
    return still(_worn_at_random(rng, synthetic_images.page(rng, TILE, TILE, 7, (13, 26), dense=True), 0.2), "", "")


def _page(rng: Rng, held_out: bool, max_lines: int, wear: float, grid: Grid) -> Picture:
    width, height = max(1, grid.columns) * TILE, max(1, grid.rows) * TILE
    if grid.rows:
        is_large_print = rng.random() < 0.12
        sizes = (30, 30 + 12 * min(grid.rows, grid.columns)) if is_large_print else (13, 30)
        return _worn_at_random(rng, synthetic_images.page(rng, width, height, 100, sizes, held_out), wear)
    if rng.random() < 0.3 and not held_out:  # of another aspect ratio, resized to a tile as the processor does
        fx, fy = rng.uniform(0.75, 1.6), rng.uniform(0.75, 1.6)
        sizes = max(12, round(13 * fy)), round(30 * fy)
        drawn = synthetic_images.page(rng, int(TILE * fx), int(TILE * fy), max_lines, sizes, held_out)
        return _worn_at_random(rng, synthetic_images.resized(drawn, TILE, TILE), wear)
    return _worn_at_random(rng, synthetic_images.page(rng, width, height, max_lines, held_out=held_out), wear)


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
    """The one right caption of a page: its text if it is one line, else the number of lines."""
    lines = len(page.lines)
    if lines == 1:
        return f'the text "{page.lines[0]}"'
    return f"a page with {in_words(lines)} lines of text" if lines <= 6 else "a page of text"


def blank(rng: Rng, held_out: bool, grid: Grid = UNSPLIT) -> Lesson:
    """An empty page, half of them worn."""
    name, paper = synthetic_images.ground(rng)
    width, height = max(1, grid.columns) * TILE, max(1, grid.rows) * TILE
    picture = _worn_at_random(rng, Picture(Image.new("RGB", (width, height), paper), ground=name), 0.5)
    questions = (
        (pick(rng, READ), BLANK),
        (pick(rng, CAPTION), f"a blank {name} picture"),
        ("Is the picture blank?", "yes"),
        ("Is there any text?", "no"),
        ("How many shapes are there?", "0"),
    )
    number = int(rng.choice(len(questions), p=(0.4, 0.3, 0.1, 0.1, 0.1)))
    return still(picture, *questions[number], grid)


def single_shape(rng: Rng, held_out: bool) -> Lesson:
    """A scene of one shape: the first lesson about shapes."""
    name, paper = synthetic_images.ground(rng)
    picture = synthetic_images.scene(
        rng, synthetic_images.kinds(rng, name, 1, held_out), name, paper, held_out=held_out
    )
    return _about_scene(rng, picture, "free")


def shapes(
    rng: Rng, held_out: bool, caption: float = 0.45, grid: Grid = UNSPLIT, wear: float = 0.25, max_count: int = 5
) -> Lesson:
    """A scene of one to three different shapes, or of up to five of at most two kinds, and a caption or a question.

    `caption` is the probability of a caption, `wear` that of a worn picture.
    """
    name, paper = synthetic_images.ground(rng)
    count = min(max_count, int(rng.choice((1, 2, 3, 4, 5), p=(0.2, 0.35, 0.25, 0.1, 0.1))))
    layout = "free"
    if count in (2, 3):
        layout = pick(rng, ("row", "column"))
        kinds = synthetic_images.kinds(rng, name, count, held_out)
        if rng.random() < 0.15:
            kinds = [kinds[0]] * count
    else:
        few = synthetic_images.kinds(rng, name, 1 if count == 1 or rng.random() < 0.4 else 2, held_out)
        kinds = [few[int(rng.integers(len(few)))] for _ in range(count)]
    picture = synthetic_images.scene(
        rng, kinds, name, paper, side=TILE * max(1, grid.rows, grid.columns), layout=layout, held_out=held_out
    )
    if grid.rows != grid.columns:
        picture = synthetic_images.resized(picture, grid.columns * TILE, grid.rows * TILE)
    return _about_scene(rng, _worn_at_random(rng, picture, wear), layout, caption, grid)


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
    follow_ups = [pick(rng, FOLLOW_UPS)(rng, picture, layout) for _ in range(FOLLOW_UP_COUNT)]
    return replace(still(picture, *first, grid), follow_ups=follow_ups)


def scattered(rng: Rng, held_out: bool) -> Lesson:
    """A scene of two or three different shapes that stand in no row or column."""
    name, paper = synthetic_images.ground(rng)
    pairs = synthetic_images.kinds(rng, name, int(rng.integers(2, 4)), held_out)
    picture = synthetic_images.scene(rng, pairs, name, paper, held_out=held_out)
    return _about_scene(rng, _worn_at_random(rng, picture, 0.25), "free")


def kind(rng: Rng, held_out: bool) -> Lesson:
    """A page, a blank picture or a scene of shapes, asked for its kind twice."""
    name, paper = synthetic_images.ground(rng)
    shown = pick(rng, (PAGE, PAGE, BLANK_PICTURE, DRAWING))
    if shown == PAGE:
        picture = _page(rng, held_out, 6, 0.35, UNSPLIT)
        shown = shown if picture.lines else BLANK_PICTURE
    elif shown == DRAWING:
        pairs = synthetic_images.kinds(rng, name, int(rng.integers(1, 4)), held_out)
        picture = synthetic_images.scene(rng, pairs, name, paper, held_out=held_out)
    else:
        picture = _worn_at_random(rng, Picture(Image.new("RGB", (TILE, TILE), paper), ground=name), 0.5)
    return replace(still(picture, *about_kind(rng, shown)), follow_ups=[about_kind(rng, shown)])


def motion(rng: Rng, held_out: bool) -> Lesson:
    """A clip of two to six frames in which a shape moves in one of four directions, or does not move.

    In 60 % of the lessons the direction is the first question.
    """
    name, paper = synthetic_images.ground(rng)
    [(colour, shape)] = synthetic_images.kinds(rng, name, 1, held_out)
    count = int(rng.choice((2, 3, 4, 5, 6), p=(0.25, 0.3, 0.2, 0.15, 0.1)))
    radius = float(rng.integers(11, 26))
    direction = pick(rng, (*MOVES, *MOVES, "still"))
    dx, dy = MOVES.get(direction, (0, 0))
    span = rng.uniform(0.3, 0.95) * (TILE - 2 * radius - 4) if direction != "still" else 0.0
    low, high = radius + 2, TILE - radius - 2
    x0 = rng.uniform(low + (span if dx < 0 else 0), high - (span if dx > 0 else 0))
    y0 = rng.uniform(low + (span if dy < 0 else 0), high - (span if dy > 0 else 0))
    fill = synthetic_images.shade(rng, colour)
    frames = []
    for k in range(count):
        x, y = x0 + dx * span * k / (count - 1), y0 + dy * span * k / (count - 1)
        image = Image.new("RGB", (TILE, TILE), paper)
        synthetic_images.draw_shape(image, shape, fill, x, y, radius, paper)
        frames.append(Picture(image, [Annotation(shape, x, y, 2 * radius, colour)], ground=name))
    step = float(pick(rng, (0.5, 1.0, 1.0, 2.0)))
    seconds = [k * step for k in range(count)]
    pairs = _about_motion(rng, direction, frames)
    first, *follow_ups = (pairs[number] for number in rng.permutation(len(pairs)))
    if rng.random() < 0.6:
        first, follow_ups = pairs[0], [pair for pair in [first, *follow_ups] if pair is not pairs[0]]
    return replace(clip(frames, seconds, *first), follow_ups=follow_ups)


def _about_motion(rng: Rng, direction: str, frames: Sequence[Picture]) -> list[tuple[str, str]]:
    """The questions about a clip and their answers, the direction first."""
    [start], [end] = frames[0].annotations, frames[-1].annotations
    moves = f"moves {'to the ' if direction in ('left', 'right') else ''}{direction}"
    pairs = [
        (pick(rng, DIRECTION), direction if direction != "still" else "it does not move"),
        (
            pick(rng, VIDEO),
            f"{with_article(start.colour, start.name)} {moves if direction != 'still' else 'does not move'}",
        ),
        (f"What {pick(rng, ('colour', 'color'))} is it?", start.colour),
        ("What shape is it?", start.name),
    ]
    for when, shape in (("start", start), ("end", end)):
        if where := region(shape.x, shape.y, TILE, TILE):
            pairs.append((f"Where is it at the {when}?", where))
    return pairs
