"""Lessons about real photographs: their colours, where they are brighter, and of all else "I cannot tell"."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from smolcli.nano import materials
from smolcli.nano.colours import NAMES, main_colours, name_pixels, shares_of_names
from smolcli.nano.dataset import (
    CAPTION,
    CELL_CLASS,
    CELLS,
    FOLLOW_UP_COUNT,
    IGNORE,
    NO_TEXT,
    READ,
    TAGS,
    Lesson,
    still,
)  # fmt: skip
from smolcli.nano.kinds import CANNOT_TELL, PHOTOGRAPH, about_kind, in_colours
from smolcli.nano.open_questions import open_question
from smolcli.nano.synthetic_images import TILE, Picture, Rng, pick

Pair = tuple[str, str]  # a question and its answer
RGB = np.ndarray[Any, Any]
FILTERS = (
    Image.Resampling.LANCZOS, Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR,
    Image.Resampling.BOX, Image.Resampling.NEAREST,
)  # fmt: skip
MAIN_COLOUR = ("What is the main colour?", "What is the main color?", "What colour is most of it?")
WHICH_COLOURS = ("Which colours does it have?", "What are the main colours?", "Which colors are in the picture?")
BRIGHTER, DARKER = (
    ("Where is it brighter?", "Which side is brighter?"),
    ("Where is it darker?", "Which side is darker?"),
)
EVEN = "about the same everywhere"
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
CLEAR_BRIGHTNESS = 24.0  # of 255, between the means of two outer thirds
EVEN_BRIGHTNESS = 10.0
GRAY_CHROMA = 10  # of 255, between the largest and the smallest channel of a pixel without colour
CELL_SHARE = 0.6  # of a cell's pixels that have its colour; cells of mixed colours are not trained


@lru_cache(maxsize=2)
def load(held_out: bool) -> tuple[RGB, ...]:
    """The photographs of evaluation or of training, each uint8 (height, width, 3), at most 320 pixels long.

    Raises FileNotFoundError where `python -m smolcli.nano.materials` has not made them.
    """
    with np.load(materials.path(f"photographs{'-held-out' if held_out else ''}.npz")) as arrays:
        pixels, sizes = arrays["pixels"], arrays["sizes"]
    ends = np.cumsum(sizes.prod(-1) * 3)[:-1]
    return tuple(part.reshape(*size, 3) for part, size in zip(np.split(pixels, ends), sizes, strict=True))


def ground(rng: Rng, width: int, height: int, held_out: bool) -> Image.Image:
    """A part of a photograph in this size, for a busy background; some are blurred by resizing."""
    part = _cropped(rng, pick(rng, load(held_out)))
    if rng.random() < 0.3:
        blurred = max(4, int(width * rng.uniform(0.05, 0.3))), max(4, int(height * rng.uniform(0.05, 0.3)))
        part = part.resize(blurred, Image.Resampling.BILINEAR)
    return _relit(rng, part.resize((width, height), pick(rng, FILTERS[:4])))


def lesson(rng: Rng, held_out: bool) -> Lesson:
    """A part of a photograph, squashed to a tile as the processor does, and five questions."""
    image = _relit(rng, _cropped(rng, pick(rng, load(held_out))).resize((TILE, TILE), pick(rng, FILTERS)))
    return about(rng, _worn(rng, image), held_out)


def about(rng: Rng, image: Image.Image, held_out: bool) -> Lesson:
    """The lesson about a photograph of a tile's size."""
    pixels = np.asarray(image)
    names = name_pixels(pixels)
    facts = Facts(is_gray(pixels), main_colours(shares_of_names(names)), brighter_side(pixels))
    first, *follow_ups = _pairs(rng, facts, held_out)
    whole = still(Picture(image), *first)
    return replace(whole, follow_ups=follow_ups, cells=colour_cells(names, "<photograph>")[None])


@dataclass(frozen=True)
class Facts:
    """What nano is to say of a photograph: `side` is what `brighter_side` gave."""

    is_gray: bool
    colours: tuple[str, ...]
    side: str | None

    def caption(self) -> str:
        """The one right caption."""
        what = "a black and white photograph" if self.is_gray else f"{PHOTOGRAPH}, {in_colours(self.colours)}"
        return f"{what}, brighter at the {self.side}" if self.side else what

    def tags(self) -> str:
        """The one right list of tags."""
        return ", ".join(("photograph", "black and white") if self.is_gray else ("photograph", *self.colours))


def _pairs(rng: Rng, facts: Facts, held_out: bool) -> list[Pair]:
    """Five questions, the first of them a caption in nearly half of the lessons; two or so cannot be answered."""
    caption = pick(rng, CAPTION), facts.caption()
    first = caption if rng.random() < 0.45 else _question(rng, facts, held_out)
    rest = [_question(rng, facts, held_out) for _ in range(FOLLOW_UP_COUNT)]
    if first is not caption and rng.random() < 0.6:
        rest[0] = caption
    return [first, *rest]


def _question(rng: Rng, facts: Facts, held_out: bool) -> Pair:
    kind = rng.random()
    if kind < 0.38:
        return open_question(rng, held_out), CANNOT_TELL
    if kind < 0.52:
        return about_kind(rng, PHOTOGRAPH)
    if kind < 0.72:
        return about_colours(rng, facts.colours)
    if kind < 0.82 and facts.side != "":
        return about_brightness(rng, facts.side)
    if kind < 0.88:
        return pick(rng, READ), NO_TEXT
    if kind < 0.91:
        return pick(rng, ("Is there any text?", "Is the picture blank?", "Is the image empty?")), "no"
    if kind < 0.95:
        return pick(rng, ("Is this black and white?", "Is it a black and white photograph?")), _yes(facts.is_gray)
    return TAGS, facts.tags()


def _yes(is_true: bool) -> str:
    return "yes" if is_true else "no"


def about_colours(rng: Rng, colours: tuple[str, ...]) -> Pair:
    """A question about the main colours of a picture, and its answer."""
    if rng.random() < 0.5:
        return pick(rng, MAIN_COLOUR), colours[0]
    return pick(rng, WHICH_COLOURS), " and ".join(colours)


def about_brightness(rng: Rng, side: str | None) -> Pair:
    """A question about what `brighter_side` gave, None or a side, and its answer."""
    if rng.random() < 0.7:
        return pick(rng, BRIGHTER), f"at the {side}" if side else EVEN
    return pick(rng, DARKER), f"at the {OPPOSITE[side]}" if side else EVEN


# ---- what can be measured ------------------------------------------------------------------------


def is_gray(pixels: RGB) -> bool:
    """Whether uint8 pixels (height, width, 3) have no colour, but for the noise of cameras and JPEG."""
    chroma = pixels.max(-1) - pixels.min(-1)
    return bool((chroma > GRAY_CHROMA).mean() < 0.02)


def brighter_side(pixels: RGB) -> str | None:
    """The side ("top", "bottom", "left", "right") whose third is clearly brighter than the opposite third.

    None if the thirds are about as bright; "" if neither is clear, or if two sides are nearly as bright.
    """
    luma = pixels.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)
    rows, columns = luma.mean(1), luma.mean(0)
    third, across = len(rows) // 3, len(columns) // 3
    vertical = float(rows[:third].mean() - rows[-third:].mean())
    horizontal = float(columns[:across].mean() - columns[-across:].mean())
    greater, lesser = max(abs(vertical), abs(horizontal)), min(abs(vertical), abs(horizontal))
    if greater < EVEN_BRIGHTNESS:
        return None
    if greater < CLEAR_BRIGHTNESS or greater < 1.3 * lesser:
        return ""
    if abs(vertical) > abs(horizontal):
        return "top" if vertical > 0 else "bottom"
    return "left" if horizontal > 0 else "right"


def colour_cells(names: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """int16 (64, 2): the class `kind` and that of each cell's colour, IGNORE where its colours are mixed.

    `names` are the colours of a tile's pixels, indices in colours.NAMES (128, 128).
    """
    side = TILE // CELLS
    cells = names.reshape(CELLS, side, CELLS, side).swapaxes(1, 2).reshape(CELLS * CELLS, side * side)
    offset = np.arange(CELLS * CELLS)[:, None] * len(NAMES)
    counts = np.bincount((cells + offset).ravel(), minlength=CELLS * CELLS * len(NAMES)).reshape(-1, len(NAMES))
    classes = np.array([CELL_CLASS[f"<{name}>"] for name in NAMES])
    labels = np.full((CELLS * CELLS, 2), CELL_CLASS[kind], np.int16)
    is_clear = counts.max(-1) >= CELL_SHARE * side * side
    labels[:, 1] = np.where(is_clear, classes[counts.argmax(-1)], IGNORE)
    return labels


# ---- how a photograph varies ---------------------------------------------------------------------


def _cropped(rng: Rng, photograph: RGB) -> Image.Image:
    """Half or more of the width and the height in most cases, nearly all of it in some; half are mirrored."""
    height, width = photograph.shape[:2]
    share = np.sqrt(rng.uniform(0.3, 1.0))
    stretch = np.exp(rng.uniform(-0.25, 0.25))
    part = min(width, round(width * share * stretch)), min(height, round(height * share / stretch))
    left, top = int(rng.integers(width - part[0] + 1)), int(rng.integers(height - part[1] + 1))
    cut = photograph[top : top + part[1], left : left + part[0]]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    return Image.fromarray(np.ascontiguousarray(cut))


def _relit(rng: Rng, image: Image.Image) -> Image.Image:
    """Another exposure, contrast and white balance, each by little."""
    if rng.random() < 0.3:
        return image
    exposure, gamma, balance = rng.uniform(0.75, 1.25), np.exp(rng.uniform(-0.25, 0.25)), rng.uniform(0.93, 1.07, 3)
    levels = np.arange(256) / 255
    tables = np.clip(255 * exposure * balance[:, None] * levels**gamma, 0, 255)
    return image.point(tables.round().astype(int).ravel().tolist())


def _worn(rng: Rng, image: Image.Image) -> Image.Image:
    """Noise and JPEG at random, and one in ten without colours."""
    without_colours = rng.random() < 0.1
    if rng.random() < 0.25:
        noise = rng.standard_normal((TILE, TILE, 3), np.float32) * np.float32(rng.uniform(2, 9))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(45, 95)))
        image = Image.open(buffer).convert("RGB")
    return image.convert("L").convert("RGB") if without_colours else image


def sources() -> Sequence[tuple[str, str, str, str, int, int, bool]]:
    """Registry, package, version and licence of each source, photographs, pictures kept, whether they are held out."""
    from smolcli.nano.photograph_sources import HELD_OUT, TRAINING

    return [
        (*astuple(source.package), source.licence, source.photographs, source.pictures, held_out)
        for held_out, table in ((False, TRAINING), (True, HELD_OUT))
        for source in table
    ]
