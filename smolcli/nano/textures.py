"""Drawn patterns and noise: lessons about pictures that show no thing and are no photograph, and busy backgrounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from smolcli.nano.colours import main_colours, name_pixels, shares_of_names
from smolcli.nano.dataset import CAPTION, FOLLOW_UP_COUNT, NO_TEXT, READ, TAGS, Lesson, still
from smolcli.nano.fonts import is_held_out
from smolcli.nano.kinds import CANNOT_TELL, NOISE, PATTERN, about_kind, in_colours
from smolcli.nano.open_questions import WHERE_AND_WHEN, whole_questions
from smolcli.nano.photographs import about_brightness, about_colours, brighter_side, colour_cells, is_gray
from smolcli.nano.synthetic_images import COLOURS, TILE, Picture, Rng, pick, shade

Field = np.ndarray[Any, Any]  # float32 (height, width), 0 to 1
LEAST_STEP = 100  # between two colours of a pattern, in one channel: weaker ones are blank pictures in uneven light
COLOURED_NOISE = "coloured noise"


# ---- fields of brightness ------------------------------------------------------------------------


def value_noise(rng: Rng, cells: float, octaves: int = 4) -> Field:
    """Smooth noise: random values on a grid of `cells` a side, plus grids twice as fine, each half as strong."""
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(octaves):
        side = max(2, min(TILE, round(cells * 2**octave)))
        grid = Image.fromarray(rng.random((side, side), np.float32))
        total += np.asarray(grid.resize((TILE, TILE), Image.Resampling.BICUBIC)) * 0.5**octave
    return _stretched(total)


def _stretched(field: Field) -> Field:
    low, high = field.min(), field.max()
    stretched: Field = (field - low) / max(1e-6, high - low)
    return stretched


def _axes(rng: Rng) -> tuple[Field, Field]:
    """Two directions at right angles, turned at random (along the edges in half of the patterns), 0 to about 1."""
    angle = pick(rng, (0.0, np.pi / 2)) if rng.random() < 0.5 else rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32) / TILE
    return x * cos + y * sin, y * cos - x * sin


def _wave(field: Field, sharpness: float) -> Field:
    """A sine of a field in turns, the steeper the greater `sharpness`, 0 to 1."""
    wave: Field = np.clip(0.5 + 0.5 * sharpness * np.sin(2 * np.pi * field), 0, 1)
    return wave


def _gradient(rng: Rng) -> Field:
    along, across = _axes(rng)
    if rng.random() < 0.6:
        return _stretched(along)
    return _stretched(np.hypot(along - rng.uniform(-0.2, 1.2), across - rng.uniform(-0.5, 1)))


def _stripes(rng: Rng) -> Field:
    return _wave(_axes(rng)[0] * rng.uniform(2, 14), pick(rng, (1, 2, 20)))


def _checks(rng: Rng) -> Field:
    along, across = _axes(rng)
    count = rng.uniform(1.5, 8)
    if rng.random() < 0.3:  # a tablecloth: two rows of stripes that cross
        return (_wave(along * count, 20) + _wave(across * count, 20)) / 2
    checks: Field = np.clip(0.5 + 20 * np.sin(2 * np.pi * along * count) * np.sin(2 * np.pi * across * count), 0, 1)
    return checks


def _spots(rng: Rng) -> Field:
    along, across = _axes(rng)
    count, radius = rng.uniform(2, 9), rng.uniform(0.2, 0.42)
    down = across * count
    if rng.random() < 0.4:  # dots in rows
        distance = np.hypot((along * count + 0.5 * (np.floor(down) % 2)) % 1 - 0.5, down % 1 - 0.5)
        return np.clip((radius - distance) * 12, 0, 1)
    return np.clip((value_noise(rng, rng.uniform(3, 12), 1) - rng.uniform(0.5, 0.65)) * 12, 0, 1)


def _wood(rng: Rng) -> Field:
    along, across = _axes(rng)
    bent = along * rng.uniform(3, 9) + value_noise(rng, 2, 2) * rng.uniform(0.3, 1.5) + 0.3 * across
    grain = Image.fromarray(rng.random((TILE, 4), np.float32)).resize((TILE, TILE), Image.Resampling.BICUBIC)
    return _stretched(bent % 1 + 0.25 * np.asarray(grain))


def _marble(rng: Rng) -> Field:
    veins = _axes(rng)[0] * rng.uniform(1, 5) + value_noise(rng, rng.uniform(2, 5)) * rng.uniform(0.6, 2)
    lines: Field = np.abs(np.sin(np.pi * veins)) ** np.float32(rng.uniform(0.3, 1.2))
    return lines


def _clouds(rng: Rng) -> Field:
    return np.clip(value_noise(rng, rng.uniform(1.5, 6), int(rng.integers(2, 6))) * 1.4 - 0.2, 0, 1)


def _bokeh(rng: Rng) -> Field:
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    field = 0.25 * value_noise(rng, 2, 1)
    for _ in range(int(rng.integers(5, 14))):
        distance = np.hypot(x - rng.uniform(0, TILE), y - rng.uniform(0, TILE))
        field += np.clip((rng.uniform(5, 20) - distance) / 1.5, 0, 1) * rng.uniform(0.2, 0.6)
    return np.clip(field, 0, 1)


FIELDS: dict[str, Callable[[Rng], Field]] = {
    "gradient": _gradient, "stripes": _stripes, "checks": _checks, "spots": _spots, "wood": _wood,
    "marble": _marble, "clouds": _clouds, "bokeh": _bokeh,
}  # fmt: skip


# ---- pictures ------------------------------------------------------------------------------------


def pattern(rng: Rng, held_out: bool) -> Image.Image:
    """A pattern of a tile's size in two or three colours; one in eight kinds with two colours is held out."""
    while True:
        kind, names = pick(rng, list(FIELDS)), [pick(rng, list(COLOURS)) for _ in range(int(rng.integers(2, 4)))]
        colours = np.array([shade(rng, name) for name in names], np.float32)
        steps = np.abs(np.diff(colours, axis=0)).max(-1)
        if is_held_out(f"{kind} {names[0]} {names[1]}", 8) == held_out and steps.min() >= LEAST_STEP:
            break
    place = FIELDS[kind](rng) * (len(names) - 1)
    lower = np.minimum(place.astype(int), len(names) - 2)
    share = (place - lower)[..., None]
    pixels = colours[lower] * (1 - share) + colours[lower + 1] * share
    if rng.random() < 0.3:
        pixels = pixels + rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(2, 8))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def ground(rng: Rng, width: int, height: int, held_out: bool) -> Image.Image:
    """A pattern in this size, for a busy background."""
    return pattern(rng, held_out).resize((width, height), Image.Resampling.BICUBIC)


def noise(rng: Rng) -> Image.Image:
    """Noise of a tile's size: gray or coloured, normal, uniform, or salt and pepper, in finer or coarser grains."""
    side = pick(rng, (TILE, TILE, TILE, 2 * TILE, 96, 64, 48))
    channels = pick(rng, (1, 3))
    kind = rng.random()
    if kind < 0.4:
        values = rng.standard_normal((side, side, channels), np.float32) * rng.uniform(35, 90) + rng.uniform(80, 175)
    elif kind < 0.75:
        values = rng.random((side, side, channels), np.float32) * 255
    else:
        values = np.where(rng.random((side, side, channels), np.float32) < rng.uniform(0.25, 0.75), 255, 0)
    pixels = np.clip(values, 0, 255).astype(np.uint8).repeat(3 // channels, axis=2)
    filters = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
    return Image.fromarray(pixels).resize((TILE, TILE), pick(rng, filters))


# ---- lessons -------------------------------------------------------------------------------------


def lesson(rng: Rng, held_out: bool) -> Lesson:
    """A pattern, or noise in 30 %, and five questions."""
    if rng.random() < 0.3:
        return about(rng, noise(rng), NOISE, held_out)
    return about(rng, pattern(rng, held_out), PATTERN, held_out)


def about(rng: Rng, image: Image.Image, kind: str, held_out: bool) -> Lesson:
    """The lesson about a picture of a tile's size, a PATTERN or NOISE."""
    pixels = np.asarray(image)
    names = name_pixels(pixels)
    colours = main_colours(shares_of_names(names))
    if kind == NOISE and not is_gray(pixels):
        caption, tags = COLOURED_NOISE, COLOURED_NOISE
    else:
        caption, tags = f"{kind}, {in_colours(colours)}", ", ".join((kind.removeprefix("a "), *colours))
    side = brighter_side(pixels)

    def question() -> tuple[str, str]:
        number = rng.random()
        if number < 0.3:
            return about_kind(rng, kind)
        if number < 0.5 and caption != COLOURED_NOISE:
            return about_colours(rng, colours)
        if number < 0.6 and side != "":
            return about_brightness(rng, side)
        if number < 0.7:
            return pick(rng, READ), NO_TEXT
        if number < 0.8:
            return pick(rng, ("Is there any text?", "Is the picture blank?", "Is the image empty?")), "no"
        if number < 0.9:
            return TAGS, tags
        places = [text for text in whole_questions(held_out) if text in WHERE_AND_WHEN]
        return pick(rng, places), CANNOT_TELL

    first, *rest = (question() for _ in range(FOLLOW_UP_COUNT + 1))
    captioned = pick(rng, CAPTION), caption
    if rng.random() < 0.45:
        first = captioned
    elif rng.random() < 0.6:
        rest[0] = captioned
    cells = colour_cells(names, "<noise>" if kind == NOISE else "<pattern>")
    return replace(still(Picture(image), *first), follow_ups=rest, cells=cells[None])
