"""Draws the pictures that nano is trained and evaluated on, together with annotations of what they show.

Every picture follows from a numpy Generator alone: the same seed gives the same picture wherever the same fonts are
installed. Held out for evaluation are fonts and words (nano/fonts.py), pairs of colour and shape, and some sizes of
print and shapes; the parameter `held_out` of the functions below chooses between them and what training uses.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from smolcli.nano.fonts import advance, fonts, is_held_out, load_font, words

TILE = 128
CHARS = "".join(map(chr, range(32, 127)))
# Letters and signs beyond ASCII, of Western European print. Those that print like others are left out, as an ellipsis.
ACCENTED = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝŸàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßŒœ"
SIGNS = "‘’“”„«»–—•·€£¥§°©®™±×÷½¼¾¿¡²³†"  # noqa: RUF001
# For random strings: without the characters that many fonts draw alike, which no reader could tell apart.
ALPHABET = "".join(char for char in CHARS if char not in " IlO0|`'")

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart")
COLOURS: dict[str, Colour] = {
    "red": (214, 39, 40), "orange": (255, 140, 0), "yellow": (250, 220, 30), "green": (40, 160, 50),
    "blue": (35, 80, 215), "purple": (130, 40, 170), "pink": (255, 130, 190), "brown": (125, 75, 35),
    "black": (15, 15, 15), "gray": (128, 128, 128), "white": (250, 250, 250),
}  # fmt: skip
GROUNDS: dict[str, Colour] = {
    "white": (255, 255, 255), "black": (10, 10, 10), "gray": (170, 170, 170), "blue": (185, 210, 245),
    "green": (195, 235, 195), "yellow": (250, 245, 200), "pink": (250, 220, 225),
}  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five")
HELD_OUT_PRINT = (17, 22, 27)  # sizes of print, in pixels
HELD_OUT_RADII = (17, 23)  # radii of shapes, in pixels of a tile


@dataclass(frozen=True)
class Annotation:
    """A printed character (`name` is the character), or a drawn shape or thing, with its centre in pixels.

    `size` is the size of the print, or the diameter of the shape. `colour` is "" where a thing has no clear one.
    """

    name: str
    x: float
    y: float
    size: float
    colour: str = ""


@dataclass
class Picture:
    """A drawn picture: `lines` is its text, `annotations` are its characters and shapes, `ground` is its background."""

    image: Image.Image
    annotations: list[Annotation] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    ground: str = ""


Rng = np.random.Generator
Choice = TypeVar("Choice")


def pick(rng: Rng, items: Sequence[Choice]) -> Choice:
    """One of `items`, each with the same probability."""
    return items[int(rng.integers(len(items)))]


def shade(rng: Rng, colour: str) -> Colour:
    """A shade that still has this name; dark and pale colours vary less."""
    return _jitter(rng, COLOURS[colour], 10 if colour in ("black", "white", "brown", "gray") else 22)


def _jitter(rng: Rng, colour: Colour, by: int = 12) -> Colour:
    r, g, b = (int(np.clip(channel + rng.integers(-by, by + 1), 0, 255)) for channel in colour)
    return r, g, b


# ---- text --------------------------------------------------------------------------------------


def token(rng: Rng, held_out: bool) -> str:
    """One printed word: a dictionary word in some case, a number, a date, a price, or random characters."""
    kind = rng.random()
    if kind < 0.58:
        word = pick(rng, words(held_out))
        case = rng.random()
        word = word.lower() if case < 0.55 else word.capitalize() if case < 0.8 else word.upper()
        punctuation = rng.random()
        return word + (pick(rng, ",.:;!?") if punctuation < 0.15 else "") if punctuation < 0.95 else f'"{word}"'
    if kind < 0.72:
        return str(rng.integers(10 ** int(rng.integers(1, 7))))
    if kind < 0.80:
        a, b = int(rng.integers(1, 1000)), int(rng.integers(100))
        forms = (
            f"${a}.{b:02d}", f"{a}.{b:02d}", f"{a}%", f"{a % 24:02d}:{b % 60:02d}",
            f"{a % 28 + 1}/{b % 12 + 1}/20{b:02d}", f"({a})", f"#{a}", f"{a}-{b}", f"+{a}", f"20{b:02d}",
        )  # fmt: skip
        return pick(rng, forms)
    alphabet = ALPHABET if kind < 0.9 else "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"
    return "".join(pick(rng, alphabet) for _ in range(int(rng.integers(1, 9))))


def _print_size(rng: Rng, low: int, high: int, held_out: bool) -> int:
    sizes = [size for size in range(low, high + 1) if (size in HELD_OUT_PRINT) == held_out]
    return pick(rng, sizes or list(range(low, high + 1)))


def _paper_and_ink(rng: Rng) -> tuple[Colour, Colour]:
    """Two colours with enough contrast to read: dark on light in 60 % of the pages, otherwise random colours."""
    kind = rng.random()
    if kind < 0.6:
        return _jitter(rng, (250, 250, 248), 8), _jitter(rng, (20, 20, 25), 25)
    while True:
        paper, ink = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
        if abs(float((paper - ink) @ (0.299, 0.587, 0.114))) > 100:
            return _jitter(rng, tuple(paper), 0), _jitter(rng, tuple(ink), 0)


def page(
    rng: Rng,
    width: int,
    height: int,
    max_lines: int,
    sizes: tuple[int, int] = (13, 30),
    held_out: bool = False,
    dense: bool = False,
) -> Picture:
    """A page of 1 to `max_lines` lines in one font, `sizes` (least, greatest) pixels high; `dense` fills the page."""
    paper, ink = _paper_and_ink(rng)
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    path = pick(rng, fonts(held_out))
    size = _print_size(rng, *sizes, held_out)
    font = load_font(path, size)
    pitch = size * rng.uniform(1.08, 1.5)
    capacity = max(1, int((height - 4) // pitch))
    count = min(max_lines, capacity) if dense else int(rng.integers(1, min(max_lines, capacity) + 1))
    picture = Picture(image)
    y = rng.uniform(2, max(2.5, height - count * pitch - 1))
    margin = rng.uniform(2, 0.12 * width)
    align = rng.random()
    for _ in range(count):
        line = _line(rng, font, width - 2 * margin, held_out, dense)
        if line:
            space = width - 2 * margin - font.getlength(line)
            x = margin + (0 if align < 0.6 else space / 2 if align < 0.85 else space * rng.random())
            draw.text((x, y), line, fill=ink, font=font)
            picture.lines.append(line)
            picture.annotations += _characters(font, line, x, y, size)
        y += pitch
    return picture


def _line(rng: Rng, font: ImageFont.FreeTypeFont, width: float, held_out: bool, dense: bool) -> str:
    """Words that fit `width` pixels: as many as fit if `dense`, otherwise a random number; "" if nothing fits."""
    line, max_words = "", 12 if dense else int(rng.integers(1, 12))
    for _ in range(max_words):
        longer = f"{line} {token(rng, held_out)}".strip()
        if font.getlength(longer) > width:
            break
        line = longer
    if line:
        return line
    for length in range(6, 0, -1):
        word = "".join(pick(rng, "ABCDEFGHKLMNPRSTabcdefghknoprstu0123456789") for _ in range(length))
        if font.getlength(word) <= width:
            return word
    return ""


def _characters(font: ImageFont.FreeTypeFont, line: str, x: float, y: float, size: int) -> list[Annotation]:
    """An annotation for each printed character of a line whose top left corner is at (x, y)."""
    annotations = []
    middle = y + 0.62 * size
    scale = font.getlength(line) / max(1e-6, sum(advance(font, char) for char in line))
    for char in line:
        width = advance(font, char) * scale
        if char != " ":
            annotations.append(Annotation(char, x + width / 2, middle, size))
        x += width
    return annotations


# ---- shapes ------------------------------------------------------------------------------------


def _polygon(shape: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    if shape == "square":
        r *= 0.88
        return [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
    if shape == "triangle":
        return [(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)]
    if shape == "diamond":
        return [(x, y - r), (x + 0.72 * r, y), (x, y + r), (x - 0.72 * r, y)]
    if shape == "star":
        angle = np.arange(10) * np.pi / 5 - np.pi / 2
        reach = np.where(np.arange(10) % 2, 0.42 * r, r)
        return list(zip(x + reach * np.cos(angle), y + reach * np.sin(angle), strict=True))
    if shape == "cross":
        t = 0.34 * r
        corners = (
            (-t, -r), (t, -r), (t, -t), (r, -t), (r, t), (t, t),
            (t, r), (-t, r), (-t, t), (-r, t), (-r, -t), (-t, -t),
        )  # fmt: skip
        return [(x + a, y + b) for a, b in corners]
    if shape == "heart":
        angle = np.linspace(0, 2 * np.pi, 40)
        across = 16 * np.sin(angle) ** 3
        down = -(13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle))
        return list(zip(x + across * r / 17, y + down * r / 17, strict=True))
    raise ValueError(shape)


def draw_shape(image: Image.Image, shape: str, fill: Colour, x: float, y: float, r: float, ground: Colour) -> None:
    """Draw `shape` into `image` with its centre at (x, y) and radius `r` in pixels; a ring's hole is of `ground`."""
    draw = ImageDraw.Draw(image)
    if shape in ("circle", "ring"):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        if shape == "ring":
            inner = 0.55 * r
            draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=ground)
    else:
        draw.polygon(_polygon(shape, x, y, r), fill=fill)


def ground(rng: Rng) -> tuple[str, Colour]:
    """A random background: its name and one of its shades."""
    name = "white" if rng.random() < 0.4 else pick(rng, list(GROUNDS))
    return name, _jitter(rng, GROUNDS[name], 5)


def colours_on(ground_name: str) -> list[str]:
    """Colours that can be told apart from this background."""
    clash = {"white": ("white",), "black": ("black",), "gray": ("gray",), "blue": ("white", "gray"),
             "green": ("white", "gray"), "yellow": ("white", "yellow"), "pink": ("white", "pink")}  # fmt: skip
    return [name for name in COLOURS if name not in clash[ground_name]]


def kinds(rng: Rng, ground_name: str, count: int, held_out: bool) -> list[tuple[str, str]]:
    """`count` different pairs of colour and shape that are, or are not, held out."""
    chosen: list[tuple[str, str]] = []
    allowed = colours_on(ground_name)
    while len(chosen) < count:
        pair = (pick(rng, allowed), pick(rng, SHAPES))
        if is_held_out(" ".join(pair), 8) == held_out and pair not in chosen:
            chosen.append(pair)
    return chosen


def scene(
    rng: Rng,
    shapes: Sequence[tuple[str, str]],
    ground_name: str,
    paper: Colour,
    side: int = TILE,
    layout: str = "free",
    held_out: bool = False,
) -> Picture:
    """A square picture, `side` pixels, of `shapes` (colour, shape) without overlap on a background coloured `paper`.

    A `layout` of row or column puts them in their order from left to right or top to bottom, clearly apart.
    """
    scale = side / TILE
    image = Image.new("RGB", (side, side), paper)
    picture = Picture(image, ground=ground_name)
    count = len(shapes)
    while True:
        radii = [_radius(rng, count, held_out) * scale for _ in shapes]
        if places := centres(rng, radii, side, layout):
            break
    for (colour, shape), (x, y), radius in zip(shapes, places, radii, strict=True):
        draw_shape(image, shape, shade(rng, colour), x, y, radius, paper)
        picture.annotations.append(Annotation(shape, x, y, 2 * radius, colour))
    return picture


def _radius(rng: Rng, count: int, held_out: bool) -> float:
    """A radius in pixels of a tile, smaller the more shapes there are."""
    greatest = {1: 44, 2: 27, 3: 21}.get(count, 18)
    sizes = [radius for radius in range(11, greatest + 1) if (radius in HELD_OUT_RADII) == held_out]
    return float(pick(rng, sizes))


def centres(rng: Rng, radii: Sequence[float], side: int, layout: str) -> list[tuple[float, float]] | None:
    """Centres at which shapes of these radii do not overlap; None if 20 tries found none."""
    count = len(radii)
    for _ in range(20):
        if layout == "free" or count == 1:
            centres = [(rng.uniform(r + 2, side - r - 2), rng.uniform(r + 2, side - r - 2)) for r in radii]
        else:
            step = side / count
            along = [
                rng.uniform(max(r + 1, step * i + 0.35 * step), min(side - r - 1, step * i + 0.65 * step))
                for i, r in enumerate(radii)
            ]
            base = rng.uniform(max(radii) + 8, side - max(radii) - 8)
            across = [float(np.clip(base + rng.uniform(-0.18, 0.18) * side, r + 2, side - r - 2)) for r in radii]
            centres = list(zip(along, across, strict=True) if layout == "row" else zip(across, along, strict=True))
        if all(
            np.hypot(centres[i][0] - centres[j][0], centres[i][1] - centres[j][1]) > radii[i] + radii[j] + 3
            for i in range(count)
            for j in range(i)
        ):
            return centres
    return None


# ---- wear --------------------------------------------------------------------------------------


def worn(rng: Rng, picture: Picture, strength: float = 1.0) -> Picture:
    """The picture after mild blur, noise, JPEG, rotation by up to 3 degrees and uneven light, each at random."""
    image, annotations = picture.image, picture.annotations
    if rng.random() < 0.6:
        image, annotations = _rotated(image, annotations, float(rng.uniform(-3, 3)) * strength)
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.9)) * strength))
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.5:
        pixels = pixels * _light(rng, image.size, strength)
    if rng.random() < 0.6:
        pixels = pixels + rng.standard_normal(pixels.shape, np.float32) * float(rng.uniform(2, 12)) * strength
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(45, 95)))
        image = Image.open(buffer).convert("RGB")
    return Picture(image, annotations, picture.lines, picture.ground)


def _rotated(image: Image.Image, annotations: list[Annotation], degrees: float) -> tuple[Image.Image, list[Annotation]]:
    """The image and its annotations rotated about the middle, the corners filled with the colour of the first pixel."""
    width, height = image.size
    rotated = image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=image.getpixel((0, 0)))
    angle = np.deg2rad(degrees)
    moved = []
    for annotation in annotations:
        dx, dy = annotation.x - width / 2, annotation.y - height / 2
        x = width / 2 + dx * np.cos(angle) + dy * np.sin(angle)
        y = height / 2 - dx * np.sin(angle) + dy * np.cos(angle)
        moved.append(replace(annotation, x=x, y=y))
    return rotated, moved


def _light(rng: Rng, size: tuple[int, int], strength: float) -> np.ndarray[Any, Any]:
    """float32 (height, width, 1): a factor of brightness that falls linearly in a random direction."""
    width, height = size
    angle, depth = rng.uniform(0, 2 * np.pi), float(rng.uniform(0.1, 0.35)) * strength
    ramp = np.cos(angle) * np.linspace(-1, 1, width)[None, :] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    factor: np.ndarray[Any, Any] = (1 - depth * (ramp[:, :, None] + 1) / 2).astype(np.float32)
    return factor


def resized(
    picture: Picture, width: int, height: int, resampling: Image.Resampling = Image.Resampling.LANCZOS
) -> Picture:
    """The picture and its annotations at another size in pixels."""
    fx, fy = width / picture.image.width, height / picture.image.height
    image = picture.image.resize((width, height), resampling)
    annotations = [
        replace(annotation, x=annotation.x * fx, y=annotation.y * fy, size=annotation.size * fy)
        for annotation in picture.annotations
    ]
    return Picture(image, annotations, picture.lines, picture.ground)
