"""Lessons on pieces of pages, cut by the code of `ocr` itself: rows of words in a tile, at nano's size of print.

    lessons(rng, held_out=False, count=32)

One page in five is laid out as `ocr` does it, and the words that were found are matched with those that were printed.
Of the others the boxes of the printed words are taken, as inexact as the layout's are: that is several times faster.
A row whose text is not certain is in no piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from smolcli.inputs.layout import lay_out
from smolcli.inputs.layout.analysis import turned
from smolcli.inputs.layout.crops import cut
from smolcli.inputs.layout.ground import contrast_of, find_ground
from smolcli.inputs.page import Line, Word
from smolcli.inputs.page_rows import group_rows, make_crop, split_lines
from smolcli.models.catalog import NANO_X_HEIGHT
from smolcli.nano.damage import damaged
from smolcli.nano.dataset import Lesson, still
from smolcli.nano.printed_page import PrintedWord, Sheet, printed
from smolcli.nano.synthetic_images import TILE, Annotation, Picture, Rng
from smolcli.tasks.page_reading import QUESTION
from smolcli.types import Box, Crop, Frame

LAID_OUT = 0.2  # of the pages
SINGLE_ROWS = 0.12  # of the pages are read row by row, as ocr does after a reply with another number of lines
CUT_OFF = 0.15  # x-heights of a word's ink that may be outside of its row, or of another line's small letters inside
TAIL = 0.6  # pixels of a comma that may be cut off: without its tail it is a full stop
AROUND = 0.8  # x-heights of a row before its first and after its last word
SMALLEST = 5.5  # pixels of small letters in a piece: below that a wrong x-height has made print illegible
INKED = 190  # grey level of the darkest pixel of a character, at most: else the layout took it for a rule or for dirt
X_HEIGHT_ERROR = 0.05  # standard deviation of the layout's x-heights, as a share; one line in twelve is far off
BOX_ERRORS = (0, 0, 0, 0, 0, 1, 1)  # pixels by which the layout's boxes are larger
MOST = 10  # pieces of a page, so that no batch is of one page alone
ALIKE = ".·'’‘,–—°"  # noqa: RUF001 (which it is cannot be told of a sign alone)

Grey = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Places:
    """Where words are on the upright page: of each its box (left, top, right, bottom), baseline, x-height and line.

    `tails` are those of PrintedWord. `shifts` (n, 2) is how far each was moved right and down since it was printed.
    """

    boxes: np.ndarray[Any, Any]
    baselines: np.ndarray[Any, Any]
    x_heights: np.ndarray[Any, Any]
    lines: np.ndarray[Any, Any]
    tails: np.ndarray[Any, Any]
    shifts: np.ndarray[Any, Any]


def lesson(rng: Rng, held_out: bool) -> Lesson:
    """One piece of a page."""
    return lessons(rng, held_out, 1)[0]


def lessons(rng: Rng, held_out: bool, count: int) -> list[Lesson]:
    """`count` pieces of as few pages as have so many."""
    made: list[Lesson] = []
    while len(made) < count:
        made += pieces(rng, held_out, is_laid_out=rng.random() < LAID_OUT)
    return made[:count]


def pieces(rng: Rng, held_out: bool, is_laid_out: bool) -> list[Lesson]:
    """The pieces of a new page, in some of the pages damaged, as `pieces_of` cuts them."""
    return pieces_of(rng, damaged(rng, printed(rng, held_out, has_rules=is_laid_out)), is_laid_out)


def pieces_of(rng: Rng, sheet: Sheet, is_laid_out: bool) -> list[Lesson]:
    """Up to MOST pieces of a page, in no order; none where nothing on it is certain.

    `is_laid_out` chooses the exact way to them.
    """
    if not sheet.words:
        return []
    grey, lines, places = _laid_out(sheet) if is_laid_out else _imitated(rng, sheet)
    is_certain = _has_ink(grey, sheet.words, places)
    rows, words = [], []
    for row in split_lines(lines, TILE, NANO_X_HEIGHT):
        numbers = [] if row.is_cut else words_in(row.box, places)
        if len(numbers) == 1 and sheet.words[numbers[0]].text in ALIKE:
            continue
        if numbers and is_certain[numbers].all() and (row.scale * places.x_heights[numbers] >= SMALLEST).all():
            rows.append(row)
            words.append(numbers)
    groups = group_rows(rows, TILE, NANO_X_HEIGHT, 1 if rng.random() < SINGLE_ROWS else None)
    return [
        _lesson(
            grey,
            make_crop([rows[number] for number in group], TILE, NANO_X_HEIGHT),
            [[(sheet.words[word], places.shifts[word]) for word in words[number]] for number in group],
        )
        for group in (groups[number] for number in rng.permutation(len(groups))[:MOST])
    ]


def words_in(box: Box, places: Places) -> list[int]:
    """The numbers of the words in a row, from the left; none if it has more or less than whole words of one line."""
    left, top, right, bottom = places.boxes.T
    small = np.maximum(places.x_heights, 1.0)
    # How much of the small letters' zone is in the box, as a share of its height.
    shared = (np.minimum(places.baselines, box.bottom) - np.maximum(places.baselines - small, box.top)) / small
    beside = np.minimum(right, box.right) - np.maximum(left, box.left)
    is_inside = (shared > 0.7) & ((left + right) / 2 > box.left) & ((left + right) / 2 < box.right)
    if not is_inside.any() or np.unique(places.lines[is_inside]).size > 1:
        return []
    if (~is_inside & (beside > CUT_OFF * small) & (shared > CUT_OFF)).any():
        return []
    slack = CUT_OFF * small[is_inside]
    missing = np.maximum.reduce(
        [box.left - left[is_inside], right[is_inside] - box.right, box.top - top[is_inside],
         bottom[is_inside] - box.bottom]
    )  # fmt: skip
    if (places.tails[is_inside] > box.bottom + TAIL).any():
        return []
    reach = AROUND * small[is_inside].max()
    around = max(left[is_inside].min() - box.left, box.right - right[is_inside].max())
    if (missing > slack).any() or around > reach:
        return []
    numbers = np.flatnonzero(is_inside)
    return [int(number) for number in numbers[np.argsort(left[numbers])]]


def _laid_out(sheet: Sheet) -> tuple[Grey, list[Line], Places]:
    """What ocr finds on the page: nothing where it takes the page to be turned or a picture."""
    rgb = sheet.image.convert("RGB")
    upright = lay_out(Frame(rgb.tobytes(), rgb.width, rgb.height))
    lines = [] if upright.page.turn else upright.page.lines
    return upright.grey, lines, _places(sheet, sheet.angle - upright.page.skew)


def _imitated(rng: Rng, sheet: Sheet) -> tuple[Grey, list[Line], Places]:
    """The same without a search for lines: the printed ones, their boxes and x-heights with errors."""
    error = float(rng.normal(0, 0.12)) if sheet.angle else 0.0
    upright = turned(sheet.image, 0, sheet.angle - error)
    pixels = np.asarray(upright)
    grey = 255 - contrast_of(pixels, find_ground(pixels))
    places = _places(sheet, error)
    order = np.lexsort((places.boxes[:, 0], places.lines))
    groups = np.split(order, np.flatnonzero(np.diff(places.lines[order])) + 1)
    return grey, [_found_line(rng, group, places) for group in groups], places


def _found_line(rng: Rng, numbers: np.ndarray[Any, Any], places: Places) -> Line:
    """A printed line as the layout may find it."""
    errors = rng.choice(BOX_ERRORS, (len(numbers), 4)) * (-1, -1, 1, 1)
    boxes = np.rint(places.boxes[numbers] + errors).astype(int)
    boxes[:, :2] = np.maximum(boxes[:, :2], 0)
    words = [Box(*map(int, box)) for box in boxes]
    if len(words) > 1 and rng.random() < 0.1:  # a narrow space is not found
        first = int(rng.integers(len(words) - 1))
        words[first : first + 2] = [_union(words[first : first + 2])]
    x_height = float(places.x_heights[numbers].max() * (1.03 + rng.normal(0, X_HEIGHT_ERROR)))
    if rng.random() < 1 / 12:
        x_height *= float(rng.uniform(0.8, 1.3))
    baseline = round(float(np.median(places.baselines[numbers])))
    return Line(_union(words), tuple(Word(box) for box in words), max(x_height, 1.0), baseline)


def _union(boxes: Sequence[Box]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return Box(min(left), min(top), max(right), max(bottom))


def _places(sheet: Sheet, angle: float) -> Places:
    """Where the words are on the page that has been turned back but for `angle` degrees counterclockwise."""
    boxes = np.array([word.box for word in sheet.words])
    baselines = np.array([word.baseline for word in sheet.words])
    middle = np.array([sheet.image.width / 2, sheet.image.height / 2])
    from_middle = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, baselines], 1) - middle
    radians = np.deg2rad(angle)
    turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    shifts = from_middle @ turn - from_middle
    return Places(
        boxes + np.tile(shifts, 2),
        baselines + shifts[:, 1],
        np.array([word.style.x_height for word in sheet.words]),
        np.array([word.line for word in sheet.words]),
        np.array([word.tail for word in sheet.words]) + shifts[:, 1],
        shifts,
    )


def _has_ink(grey: Grey, words: Sequence[PrintedWord], places: Places) -> np.ndarray[Any, Any]:
    """Of each word whether it is whole: on the page, and with ink in the columns of each of its characters."""
    height, width = grey.shape
    left, top, right, bottom = places.boxes.T
    is_whole: np.ndarray[Any, Any] = (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)
    for number in np.flatnonzero(is_whole).tolist():
        rows = slice(max(0, int(top[number]) - 1), int(bottom[number]) + 2)
        darkest = grey[rows].min(0)
        half = max(1.5, 0.12 * words[number].style.size)
        for x in words[number].centres():
            middle = x + places.shifts[number, 0]
            if darkest[max(0, int(middle - half)) : int(middle + half) + 1].min(initial=255) > INKED:
                is_whole[number] = False
                break
    return is_whole


def _lesson(grey: Grey, crop: Crop, rows: Sequence[Sequence[tuple[PrintedWord, np.ndarray[Any, Any]]]]) -> Lesson:
    """The lesson on a piece; `rows` has the words of each of its rows, and how far they were moved."""
    frame = cut(grey, crop)
    picture = Picture(Image.frombytes("RGB", (frame.width, frame.height), frame.rgb))
    y = crop.gap
    for (box, scale), words in zip(crop.rows, rows, strict=True):
        picture.lines.append(" ".join(word.text for word, _ in words))
        for word, (right, down) in words:
            size = word.style.size * scale
            middle = y + (word.baseline + down - box.top) * scale - 0.27 * size
            for char, x in zip(word.text, word.centres(), strict=True):
                picture.annotations.append(Annotation(char, crop.gap + (x + right - box.left) * scale, middle, size))
        y += max(1, round((box.bottom - box.top) * scale)) + crop.gap
    return still(picture, QUESTION, "\n".join(picture.lines))
