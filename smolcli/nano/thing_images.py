"""Draws single things from icons, in many styles, and the busy backgrounds that they may lie on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from smolcli.nano import colours, icon_sets, synthetic_images
from smolcli.nano.dataset import UNKNOWN
from smolcli.nano.synthetic_images import TILE, Colour, Rng, pick
from smolcli.nano.thing_names import COMMON, DIRECTED, NAMES

_MONOCHROME_SHARE = 0.15  # of the icons that training draws
_RESAMPLING = (
    Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.HAMMING,
)  # fmt: skip
_UNCOMMON = tuple(name for name in NAMES if name not in COMMON)
_COMMON = tuple(name for name in NAMES if name in COMMON)


@dataclass(frozen=True)
class Drawing:
    """An image of one thing in RGBA, cropped to its pixels, and the thing's name."""

    name: str
    image: Image.Image

    def shares(self) -> dict[str, float]:
        """The shares of the colours of its opaque pixels."""
        pixels = np.asarray(self.image)
        return colours.colour_shares(pixels[..., :3], pixels[..., 3] > 127)

    def colour(self) -> str:
        """The colour that at least half of it clearly has, "" if there is none."""
        shares = self.shares()
        return next(iter(shares)) if shares and colours.is_clear(shares) and max(shares.values()) > 0.5 else ""

    def contrast(self, paper: Colour) -> float:
        """The share of its opaque pixels that differ clearly from `paper`."""
        pixels = np.asarray(self.image)
        differences = np.abs(pixels[..., :3].astype(np.int16) - np.array(paper, np.int16)).max(-1)
        return float((differences > 45)[pixels[..., 3] > 127].mean())


def thing_name(rng: Rng) -> str:
    """A name of a thing, in three of four draws one of the common ones."""
    return pick(rng, _COMMON if rng.random() < 0.75 else _UNCOMMON)


def icon(rng: Rng, name: str, held_out: bool) -> Image.Image:
    """An icon of this thing (of an unknown one for UNKNOWN) in RGBA, those of monochrome sets in a random colour.

    Raises FileNotFoundError if the icons have not been made.
    """
    key = "" if name == UNKNOWN else name
    sets = [icons for icons in icon_sets.icons(held_out) if key in icons.of_name]
    is_monochrome = rng.random() < _MONOCHROME_SHARE
    chosen = [icons for icons in sets if icons.icon_set.is_monochrome == is_monochrome] or sets
    pixels = pick(rng, pick(rng, chosen).of_name[key])
    if pixels.shape[2] == 1:
        tint = synthetic_images.shade(rng, pick(rng, list(synthetic_images.COLOURS)))
        return tinted(pixels[..., 0], tint)
    return Image.fromarray(pixels)


def tinted(opacity: np.ndarray[Any, Any], colour: Colour) -> Image.Image:
    """An RGBA image of one colour with this opacity, uint8 (height, width)."""
    image = Image.new("RGBA", (opacity.shape[1], opacity.shape[0]), colour)
    image.putalpha(Image.fromarray(opacity))
    return image


def shape(rng: Rng, name: str, colour: str) -> Drawing:
    """A drawn shape of synthetic_images.SHAPES, in a shade of the colour."""
    mask = Image.new("RGB", (96, 96))
    synthetic_images.draw_shape(mask, name, (255, 255, 255), 48, 48, 47, (0, 0, 0))
    opacity = mask.getchannel(0)
    box = opacity.getbbox()
    return Drawing(name, tinted(np.asarray(opacity.crop(box)), synthetic_images.shade(rng, colour)))


# ---- styles --------------------------------------------------------------------------------------


def varied(rng: Rng, name: str, image: Image.Image, held_out: bool) -> Drawing:
    """The icon mirrored, turned, stretched and in another style, each at random; held-out ones keep their style."""
    is_directed = name in DIRECTED
    if not is_directed and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stretch = float(np.exp(rng.uniform(-0.3, 0.3))) if rng.random() < 0.6 else 1.0
    if stretch != 1.0:
        width, height = image.size
        image = image.resize((max(1, round(width * stretch**0.5)), max(1, round(height / stretch**0.5))))
    if rng.random() < 0.5:
        most = 5 if is_directed else 15
        image = image.rotate(float(rng.uniform(-most, most)), Image.Resampling.BICUBIC, expand=True)
        image = image.crop(image.getchannel("A").getbbox())
    if not held_out:
        image = _restyled(rng, image)
    return Drawing(name, image)


def _restyled(rng: Rng, image: Image.Image) -> Image.Image:
    """The image with its colours shifted a little, and in one of ten cases gray, posterised, outlined or as lines."""
    style = rng.random()
    if style < 0.05:
        return _as_lines(rng, image)
    pixels = np.asarray(image).copy()
    if style < 0.09:
        pixels[..., :3] = pixels[..., :3].mean(-1, keepdims=True)
    elif style < 0.13:
        step = int(pick(rng, (48, 64, 96)))
        pixels[..., :3] = np.minimum(pixels[..., :3] // step * step + step // 2, 255)
    elif style < 0.75:
        gain, offset = rng.uniform(0.85, 1.15, (1, 1, 3)) * rng.uniform(0.85, 1.15), rng.uniform(-20, 20)
        pixels[..., :3] = np.clip((pixels[..., :3] - 128.0) * gain + 128 + offset, 0, 255)
    if style > 0.9:
        return _outlined(rng, Image.fromarray(pixels))
    return Image.fromarray(pixels)


def _outlined(rng: Rng, image: Image.Image) -> Image.Image:
    """The image with a line around it, one to three pixels wide, dark or white."""
    line = int(rng.integers(1, 4))
    framed = Image.new("RGBA", (image.width + 2 * line, image.height + 2 * line))
    framed.paste(image, (line, line))
    wider = framed.getchannel("A").filter(ImageFilter.MaxFilter(2 * line + 1))
    edge = tinted(np.asarray(wider), (20, 20, 20) if rng.random() < 0.7 else (250, 250, 250))
    edge.alpha_composite(framed)
    return edge


def _as_lines(rng: Rng, image: Image.Image) -> Image.Image:
    """A drawing of the image's edges in a dark colour, filled with white in half of the cases."""
    framed = Image.new("RGBA", (image.width + 6, image.height + 6))
    framed.paste(image, (3, 3))
    opacity = framed.getchannel("A")
    gray = Image.composite(framed.convert("L"), Image.new("L", framed.size, 255), opacity)
    edges = [
        ImageChops.subtract(channel.filter(ImageFilter.MaxFilter(3)), channel.filter(ImageFilter.MinFilter(3)))
        for channel in (gray, opacity)
    ]
    lines = ImageChops.lighter(*edges).point(lambda value: min(255, 3 * value) if value > 24 else 0)
    ink = tinted(np.asarray(lines), pick(rng, ((15, 15, 15), (60, 60, 60), (30, 40, 110))))
    if rng.random() < 0.5:
        return ink
    filled = tinted(np.asarray(opacity), (250, 250, 250))
    filled.alpha_composite(ink)
    return filled


# ---- backgrounds -----------------------------------------------------------------------------------


def busy_ground(rng: Rng, width: int, height: int) -> Image.Image:
    """A background of several colours: soft patches, a gradient, stripes, or a checkerboard, some with noise."""
    kind = rng.random()
    if kind < 0.45:
        low = rng.integers(0, 256, (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3), dtype=np.uint8)
        image = Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC)
    elif kind < 0.7:
        ends = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        image = Image.fromarray(ends).resize((width, height), Image.Resampling.BILINEAR)
    else:
        image = _pattern(rng, width, height)
    if rng.random() < 0.4:
        noise = rng.standard_normal((height, width, 1), np.float32) * float(rng.uniform(5, 30))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return image


def _pattern(rng: Rng, width: int, height: int) -> Image.Image:
    """Stripes, squares or dots in two colours."""
    first, second = (tuple(int(value) for value in rng.integers(0, 256, 3)) for _ in range(2))
    image = Image.new("RGB", (width, height), first)
    draw = ImageDraw.Draw(image)
    step = int(rng.integers(8, 33))
    kind = pick(rng, ("rows", "columns", "squares", "dots"))
    for row, y in enumerate(range(0, height, step)):
        for column, x in enumerate(range(0, width, step)):
            if kind == "dots":
                draw.ellipse((x + step / 4, y + step / 4, x + 0.75 * step, y + 0.75 * step), fill=second)
            elif {"rows": row, "columns": column, "squares": row + column}[kind] % 2:
                draw.rectangle((x, y, x + step - 1, y + step - 1), fill=second)
    return image


def canvas_size(rng: Rng) -> tuple[int, int]:
    """The size in pixels to draw a tile at before it is squashed to one: half of them as large as the tile."""
    if rng.random() < 0.5:
        return TILE, TILE
    side, aspect = rng.uniform(90, 230), np.exp(rng.uniform(-0.45, 0.45))
    return round(side * aspect**0.5), round(side / aspect**0.5)


def resampling(rng: Rng) -> Image.Resampling:
    """A filter that pictures are often resized with."""
    return pick(rng, _RESAMPLING)
