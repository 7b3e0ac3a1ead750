"""Draws the pictures that nano learns from and is judged on, with what is to be seen in them.

Every picture is made from a numpy Generator alone, so a seed gives the same picture anywhere where
the fonts are the same (docs/models.md names the Debian packages). What is kept for judging never
appears in training: the faces in HELD_OUT_FONTS, words by their checksum, colour-shape pairs, sizes.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

TILE = 128
CHARS = "".join(map(chr, range(32, 127)))
# For random strings: without the characters that many faces draw alike, which no reader could tell apart.
ALPHABET = "".join(c for c in CHARS if c not in " IlO0|`'")

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart")
COLOURS = {
    "red": (214, 39, 40), "orange": (255, 140, 0), "yellow": (250, 220, 30), "green": (40, 160, 50),
    "blue": (35, 80, 215), "purple": (130, 40, 170), "pink": (255, 130, 190), "brown": (125, 75, 35),
    "black": (15, 15, 15), "gray": (128, 128, 128), "white": (250, 250, 250),
}  # fmt: skip
GROUNDS = {"white": (255, 255, 255), "black": (10, 10, 10), "gray": (170, 170, 170), "blue": (185, 210, 245),
           "green": (195, 235, 195), "yellow": (250, 245, 200), "pink": (250, 220, 225)}  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five")

FONT_ROOT = Path("/usr/share/fonts")
FONT_FAMILIES = (
    "DejaVuSans", "DejaVuSerif", "LiberationMono", "LiberationSans", "LiberationSansNarrow", "FreeSans", "FreeSerif",
    "FreeMono", "Roboto-", "RobotoCondensed", "OpenSans", "Lato-", "Inconsolata", "Hack-", "FiraCode", "Cantarell",
    "NimbusRoman", "NimbusSans", "NimbusMonoPS", "C059", "P052", "URWBookman", "URWGothic", "LinLibertine_R",
    "LinBiolinum_R", "Caladea", "EBGaramond", "NotoSans-", "NotoSerif-", "NotoSansMono", "NotoSansDisplay",
    "NotoSerifDisplay", "texgyreadventor", "texgyrebonum", "texgyrecursor", "texgyreheros", "texgyrepagella",
    "texgyreschola", "texgyretermes", "Cabin", "Play", "JunicodeTwoBeta-", "GenBas", "GenBkBas", "OldStandard",
    "Go-", "Inter-", "JetBrainsMono", "Courier", "cmunrm", "cmunbx", "cmunss", "cmuntt", "cmunti", "CharisSIL",
    "Quattrocento", "PTS", "PTF", "PTM", "PTC", "PTN",
)  # fmt: skip
HELD_OUT_FONTS = ("LiberationSerif-Regular", "DejaVuSans-Bold", "Carlito-Regular", "Karla-Regular")
HELD_OUT_FAMILIES = ("LiberationSerif", "Carlito", "Karla", "Tinos")
UNUSABLE = (
    "Thin", "Hairline", "Light", "Math", "Smallcaps", "Initials", "Keyboard", "Black", "Heavy", "Condensed", "Narrow",
    "Medium", "SemiBold", "Semibold", "DemiBold", "ExtraBold", "Extrabold", "Retina", "Display", "Expanded", "Junicode",
    "Oblique", "BoldItalic", "BoldIta", "PTC", "PTN", "Demi", "-BdIta", "DejaVuSerifCond", "bolditalic",
)  # fmt: skip
HELD_OUT_PRINT = (17, 22, 27)
HELD_OUT_RADII = (17, 23)


def held_out(text: str, part: int = 10) -> bool:
    """Whether `text` (a word, a colour-shape pair) is kept for judging: one in `part` by CRC-32."""
    return zlib.crc32(text.encode()) % part == 0


@lru_cache
def fonts(judging: bool) -> tuple[str, ...]:
    """Paths of the faces of one side."""
    faces = {path.stem: str(path) for path in sorted(FONT_ROOT.rglob("*")) if path.suffix in (".ttf", ".otf")}
    if judging:
        if missing := [name for name in HELD_OUT_FONTS if name not in faces]:
            raise FileNotFoundError(f"{FONT_ROOT} has no {missing[0]}; docs/models.md names its Debian package")
        return tuple(faces[name] for name in HELD_OUT_FONTS)
    return tuple(
        path
        for name, path in faces.items()
        if name.startswith(FONT_FAMILIES)
        and not name.startswith(HELD_OUT_FAMILIES)
        and name not in HELD_OUT_FONTS
        and not any(word in name for word in UNUSABLE)
    )


@lru_cache(maxsize=6000)
def font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """A face at `size` pixels, laid out the same whether or not libraqm is here."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache
def words(judging: bool) -> tuple[str, ...]:
    """The system's word list (Debian's wamerican), short ASCII words of one side."""
    lines = Path("/usr/share/dict/words").read_text(encoding="utf-8").split()
    return tuple(w for w in lines if w.isascii() and w.isalpha() and len(w) <= 11 and held_out(w.lower()) == judging)


@dataclass(frozen=True)
class Mark:
    """Something with a place: a printed character (`name` is it) or a drawn shape (`name`, `colour`), in pixels."""

    name: str
    x: float
    y: float
    size: float
    colour: str = ""


@dataclass
class Picture:
    """A drawn picture and what is in it; `lines` is its print, `marks` the places of all of it."""

    image: Image.Image
    marks: list[Mark] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    ground: str = ""


Rng = np.random.Generator
Thing = TypeVar("Thing")


def pick(rng: Rng, items: Sequence[Thing]) -> Thing:
    """One of `items`, each as likely."""
    return items[int(rng.integers(len(items)))]


def shade(rng: Rng, colour: str) -> tuple[int, int, int]:
    """A shade that still goes by that name; the dark and the pale ones vary less."""
    return _jitter(rng, COLOURS[colour], 10 if colour in ("black", "white", "brown", "gray") else 22)


def _jitter(rng: Rng, colour: tuple[int, int, int], by: int = 12) -> tuple[int, int, int]:
    r, g, b = (int(np.clip(c + rng.integers(-by, by + 1), 0, 255)) for c in colour)
    return r, g, b


# ---- print -------------------------------------------------------------------------------------


def token(rng: Rng, judging: bool) -> str:
    """One printed word: a word in some case, a number, a date, a price or random characters."""
    kind = rng.random()
    if kind < 0.58:
        word = pick(rng, words(judging))
        case = rng.random()
        word = word.lower() if case < 0.55 else word.capitalize() if case < 0.8 else word.upper()
        tail = rng.random()
        return word + (pick(rng, ",.:;!?") if tail < 0.15 else "") if tail < 0.95 else f'"{word}"'
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


def _print_size(rng: Rng, low: int, high: int, judging: bool) -> int:
    sizes = [s for s in range(low, high + 1) if (s in HELD_OUT_PRINT) == judging]
    return pick(rng, sizes or list(range(low, high + 1)))


def _ink(rng: Rng) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Paper and ink colours with enough contrast: mostly dark on light, sometimes the other way, sometimes colours."""
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
    judging: bool = False,
    dense: bool = False,
) -> Picture:
    """A page of one to `max_lines` lines of print of one face, `sizes` pixels high; `dense` fills it."""
    paper, ink = _ink(rng)
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    path = pick(rng, fonts(judging))
    size = _print_size(rng, *sizes, judging)
    face = font(path, size)
    pitch = size * rng.uniform(1.08, 1.5)
    room = max(1, int((height - 4) // pitch))
    count = min(max_lines, room) if dense else int(rng.integers(1, min(max_lines, room) + 1))
    picture = Picture(image)
    y = rng.uniform(2, max(2.5, height - count * pitch - 1))
    margin = rng.uniform(2, 0.12 * width)
    align = rng.random()
    for _ in range(count):
        line = _line(rng, face, width - 2 * margin, judging, dense)
        if line:
            space = width - 2 * margin - face.getlength(line)
            x = margin + (0 if align < 0.6 else space / 2 if align < 0.85 else space * rng.random())
            draw.text((x, y), line, fill=ink, font=face)
            picture.lines.append(line)
            picture.marks += _marks(face, line, x, y, size)
        y += pitch
    return picture


def _line(rng: Rng, face: ImageFont.FreeTypeFont, width: float, judging: bool, dense: bool) -> str:
    """Words that fit `width`; unless `dense` not always as many as would fit."""
    line, most = "", 12 if dense else int(rng.integers(1, 12))
    for _ in range(most):
        longer = f"{line} {token(rng, judging)}".strip()
        if face.getlength(longer) > width:
            break
        line = longer
    if line:
        return line
    for length in range(6, 0, -1):
        word = "".join(pick(rng, "ABCDEFGHKLMNPRSTabcdefghknoprstu0123456789") for _ in range(length))
        if face.getlength(word) <= width:
            return word
    return ""


@lru_cache(maxsize=400_000)
def _advance(face: ImageFont.FreeTypeFont, char: str) -> float:
    return face.getlength(char)


def _marks(face: ImageFont.FreeTypeFont, line: str, x: float, y: float, size: int) -> list[Mark]:
    marks = []
    middle = y + 0.62 * size
    scale = face.getlength(line) / max(1e-6, sum(_advance(face, c) for c in line))
    for char in line:
        advance = _advance(face, char) * scale
        if char != " ":
            marks.append(Mark(char, x + advance / 2, middle, size))
        x += advance
    return marks


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
        turn = np.arange(10) * np.pi / 5 - np.pi / 2
        reach = np.where(np.arange(10) % 2, 0.42 * r, r)
        return list(zip(x + reach * np.cos(turn), y + reach * np.sin(turn), strict=True))
    if shape == "cross":
        t = 0.34 * r
        steps = (
            (-t, -r),
            (t, -r),
            (t, -t),
            (r, -t),
            (r, t),
            (t, t),
            (t, r),
            (-t, r),
            (-t, t),
            (-r, t),
            (-r, -t),
            (-t, -t),
        )
        return [(x + a, y + b) for a, b in steps]
    if shape == "heart":
        turn = np.linspace(0, 2 * np.pi, 40)
        across = 16 * np.sin(turn) ** 3
        down = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
        return list(zip(x + across * r / 17, y + down * r / 17, strict=True))
    raise ValueError(shape)


def draw_shape(
    image: Image.Image,
    shape: str,
    fill: tuple[int, int, int],
    x: float,
    y: float,
    r: float,
    ground: tuple[int, int, int],
) -> None:
    draw = ImageDraw.Draw(image)
    if shape in ("circle", "ring"):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        if shape == "ring":
            inner = 0.55 * r
            draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=ground)
    else:
        draw.polygon(_polygon(shape, x, y, r), fill=fill)


def ground(rng: Rng) -> tuple[str, tuple[int, int, int]]:
    """A background: its name and one of its shades."""
    name = "white" if rng.random() < 0.4 else pick(rng, list(GROUNDS))
    return name, _jitter(rng, GROUNDS[name], 5)


def colours_on(ground_name: str) -> list[str]:
    """Colours that are told apart from that ground."""
    clash = {"white": ("white",), "black": ("black",), "gray": ("gray",), "blue": ("white", "gray"),
             "green": ("white", "gray"), "yellow": ("white", "yellow"), "pink": ("white", "pink")}  # fmt: skip
    return [name for name in COLOURS if name not in clash[ground_name]]


def kinds(rng: Rng, ground_name: str, count: int, judging: bool) -> list[tuple[str, str]]:
    """`count` different (colour, shape) pairs of one side."""
    chosen: list[tuple[str, str]] = []
    allowed = colours_on(ground_name)
    while len(chosen) < count:
        pair = (pick(rng, allowed), pick(rng, SHAPES))
        if held_out(" ".join(pair), 8) == judging and pair not in chosen:
            chosen.append(pair)
    return chosen


def scene(
    rng: Rng,
    things: Sequence[tuple[str, str]],
    ground_name: str,
    paper: tuple[int, int, int],
    side: int = TILE,
    layout: str = "free",
    judging: bool = False,
) -> Picture:
    """The (colour, shape) `things` without overlap; `layout` row or column sets them in that order, clearly apart."""
    scale = side / TILE
    image = Image.new("RGB", (side, side), paper)
    picture = Picture(image, ground=ground_name)
    n = len(things)
    while True:
        radii = [_radius(rng, n, judging) * scale for _ in things]
        places = _places(rng, radii, side, layout)
        if places:
            break
    for (colour, shape), (x, y), r in zip(things, places, radii, strict=True):
        draw_shape(image, shape, shade(rng, colour), x, y, r, paper)
        picture.marks.append(Mark(shape, x, y, 2 * r, colour))
    return picture


def _radius(rng: Rng, n: int, judging: bool) -> float:
    high = {1: 44, 2: 27, 3: 21}.get(n, 18)
    sizes = [r for r in range(11, high + 1) if (r in HELD_OUT_RADII) == judging]
    return float(pick(rng, sizes))


def _places(rng: Rng, radii: Sequence[float], side: int, layout: str) -> list[tuple[float, float]] | None:
    n = len(radii)
    for _ in range(20):
        if layout == "free" or n == 1:
            at = [(rng.uniform(r + 2, side - r - 2), rng.uniform(r + 2, side - r - 2)) for r in radii]
        else:
            step = side / n
            along = [
                rng.uniform(max(r + 1, step * i + 0.35 * step), min(side - r - 1, step * i + 0.65 * step))
                for i, r in enumerate(radii)
            ]
            base = rng.uniform(max(radii) + 8, side - max(radii) - 8)
            across = [float(np.clip(base + rng.uniform(-0.18, 0.18) * side, r + 2, side - r - 2)) for r in radii]
            at = list(zip(along, across, strict=True)) if layout == "row" else list(zip(across, along, strict=True))
        if all(
            np.hypot(at[i][0] - at[j][0], at[i][1] - at[j][1]) > radii[i] + radii[j] + 3
            for i in range(n)
            for j in range(i)
        ):
            return at
    return None


# ---- wear --------------------------------------------------------------------------------------


def worn(rng: Rng, picture: Picture, strength: float = 1.0) -> Picture:
    """The picture after mild blur, noise, JPEG, up to 3 degrees of turn and uneven light; marks move with it."""
    image, marks = picture.image, picture.marks
    if rng.random() < 0.6:
        image, marks = _turned(image, marks, float(rng.uniform(-3, 3)) * strength)
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
    return Picture(image, marks, picture.lines, picture.ground)


def _turned(image: Image.Image, marks: list[Mark], degrees: float) -> tuple[Image.Image, list[Mark]]:
    w, h = image.size
    edge = image.getpixel((0, 0))
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=edge)
    a = np.deg2rad(degrees)
    moved = []
    for m in marks:
        dx, dy = m.x - w / 2, m.y - h / 2
        moved.append(
            Mark(
                m.name,
                w / 2 + dx * np.cos(a) + dy * np.sin(a),
                h / 2 - dx * np.sin(a) + dy * np.cos(a),
                m.size,
                m.colour,
            )
        )
    return turned, moved


def _light(rng: Rng, size: tuple[int, int], strength: float) -> np.ndarray[Any, Any]:
    w, h = size
    angle, depth = rng.uniform(0, 2 * np.pi), float(rng.uniform(0.1, 0.35)) * strength
    ramp = np.cos(angle) * np.linspace(-1, 1, w)[None, :] + np.sin(angle) * np.linspace(-1, 1, h)[:, None]
    shade: np.ndarray[Any, Any] = (1 - depth * (ramp[:, :, None] + 1) / 2).astype(np.float32)
    return shade


def resized(picture: Picture, width: int, height: int) -> Picture:
    """The picture at another size, marks scaled with it."""
    fx, fy = width / picture.image.width, height / picture.image.height
    image = picture.image.resize((width, height), Image.Resampling.LANCZOS)
    marks = [Mark(m.name, m.x * fx, m.y * fy, m.size * fy, m.colour) for m in picture.marks]
    return Picture(image, marks, picture.lines, picture.ground)
