"""Damaged copies of a drawn page, as a bad scan or photograph has them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from page_sheet import BoxList
from PIL import Image, ImageFilter

SKEW = 5.0  # degrees
DAMAGES = ("blur", "noise", "jpeg", "skew", "shadow", "turn90", "turn180", "turn270")
TURNS = {
    "turn90": (90, Image.Transpose.ROTATE_90),
    "turn180": (180, Image.Transpose.ROTATE_180),
    "turn270": (270, Image.Transpose.ROTATE_270),
}


@dataclass(frozen=True)
class Damaged:
    """A damaged page. The upright page is what comes of turning it clockwise by `turn`, then by `skew` degrees.

    `moved` is how far each box of the page moved right and down, `size` that of the upright page.
    """

    image: Image.Image
    size: tuple[int, int]
    turn: int = 0
    skew: float = 0.0
    moved: int = 0

    def box(self, box: BoxList) -> BoxList:
        """Where a box of the page is on the upright page."""
        left, top, right, bottom = (edge + self.moved for edge in box)
        return left, top, right, bottom


def damaged(image: Image.Image, kind: str, x_height: int, paper: tuple[int, int, int], seed: list[int]) -> Damaged:
    """A copy of the page with one of DAMAGES; `seed` is that of the noise and of the shadow's direction."""
    rng = np.random.default_rng(seed)
    size = image.size
    if kind == "blur":
        return Damaged(image.filter(ImageFilter.GaussianBlur(max(0.8, 0.09 * x_height))), size)
    if kind == "noise":
        return Damaged(_noisy(image, rng), size)
    if kind == "jpeg":
        return Damaged(image, size)  # it is damaged by writing it
    if kind == "shadow":
        return Damaged(_shaded(image, rng), size)
    if kind == "skew":
        return _skewed(image, paper, SKEW if rng.random() < 0.5 else -SKEW)
    degrees, transpose = TURNS[kind]
    return Damaged(image.transpose(transpose), size, turn=degrees)


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Normal noise of 25 grey levels, and one pixel in 300 black or white."""
    pixels = np.asarray(image, np.float32) + rng.normal(0, 25, (image.height, image.width, 1))
    specks = rng.random((image.height, image.width))
    pixels[specks < 1 / 600] = 0
    pixels[specks > 1 - 1 / 600] = 255
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _shaded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A shadow that falls over the page from one side and leaves 40 % of the light, with a soft edge."""
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[-1 : 1 : image.height * 1j, -1 : 1 : image.width * 1j]
    distance = x * math.cos(angle) + y * math.sin(angle) + rng.uniform(-0.3, 0.3)
    light = 0.4 + 0.6 / (1 + np.exp(-8 * distance))
    return Image.fromarray((np.asarray(image) * light[..., None]).astype(np.uint8))


def _skewed(image: Image.Image, paper: tuple[int, int, int], skew: float) -> Damaged:
    """The page on a larger sheet, so that nothing is cut off, turned counterclockwise by `skew` degrees."""
    margin = math.ceil(max(image.size) / 2 * math.sin(math.radians(abs(skew))))
    sheet = Image.new("RGB", (image.width + 2 * margin, image.height + 2 * margin), paper)
    sheet.paste(image, (margin, margin))
    turned = sheet.rotate(skew, Image.Resampling.BICUBIC, fillcolor=paper)
    return Damaged(turned, sheet.size, skew=skew, moved=margin)
