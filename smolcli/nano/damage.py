"""Damages printed pages as scans, faxes and photographs do; their words stay legible."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from smolcli.nano.printed_page import Sheet
from smolcli.nano.synthetic_images import Rng, pick

LARGE = 8.0  # pixels of small letters, from which on print bears stronger damage
GREATEST_ANGLE = 5.0  # degrees


def damaged(rng: Rng, sheet: Sheet) -> Sheet:
    """The page as a scan, a fax, a photograph has it; four in ten stay as they are."""
    if rng.random() < 0.4:
        return sheet
    if rng.random() < 0.45:
        sheet = _turned(sheet, float(rng.uniform(-GREATEST_ANGLE, GREATEST_ANGLE)))
    sizes = [word.style.x_height for word in sheet.words] or [10.0]
    x_height, image = min(sizes), sheet.image
    is_large = x_height >= LARGE
    kind = rng.random()
    if kind < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.02, 0.1 if is_large else 0.07)) * x_height))
    elif kind < 0.55:
        factor = float(rng.uniform(0.6 if is_large else 0.8, 0.95))
        small = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)
        image = small.resize(image.size, pick(rng, (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)))
    elif kind < 0.7 and is_large:
        return replace(sheet, image=_as_fax(rng, image, sheet.paper, sheet.ink))
    if rng.random() < 0.3:
        image = _in_shadow(rng, image)
    contrast = abs(sheet.paper - sheet.ink)
    if rng.random() < 0.4:
        image = _noisy(rng, image, float(rng.uniform(0.01, 0.12 if is_large else 0.05)) * contrast)
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(30 if is_large else 55, 91)))
        image = Image.open(buffer).convert("L")
    return replace(sheet, image=image)


def _turned(sheet: Sheet, angle: float) -> Sheet:
    """The page on a larger sheet, so that nothing is cut off, turned counterclockwise by `angle` degrees."""
    margin = math.ceil(max(sheet.image.size) / 2 * math.sin(math.radians(abs(angle))))
    larger = Image.new("L", (sheet.image.width + 2 * margin, sheet.image.height + 2 * margin), sheet.paper)
    larger.paste(sheet.image, (margin, margin))
    image = larger.rotate(angle, Image.Resampling.BICUBIC, fillcolor=sheet.paper)
    words = [
        replace(
            word,
            x=word.x + margin,
            baseline=word.baseline + margin,
            tail=word.tail + margin,
            box=tuple(edge + margin for edge in word.box),  # type: ignore[arg-type]
        )
        for word in sheet.words
    ]
    return replace(sheet, image=image, words=words, angle=angle)


def _as_fax(rng: Rng, image: Image.Image, paper: int, ink: int) -> Image.Image:
    """Black and white alone, with ragged edges, hairlines kept."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.7)))), np.float32)
    pixels = pixels + rng.standard_normal(pixels.shape, np.float32) * float(rng.uniform(0, 18))
    return Image.fromarray(np.where(pixels > ink + rng.uniform(0.5, 0.75) * (paper - ink), np.uint8(255), np.uint8(0)))


def _in_shadow(rng: Rng, image: Image.Image) -> Image.Image:
    """Light that falls from one side to the other, evenly or within a part of the page."""
    angle, depth, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.55), rng.uniform(0.15, 1.0)
    across = np.linspace(-1, 1, image.width, dtype=np.float32) * np.cos(angle)
    down = np.linspace(-1, 1, image.height, dtype=np.float32) * np.sin(angle)
    place = (across[None, :] + down[:, None] + rng.uniform(-0.4, 0.4)) / width
    light = 1 - depth * (np.clip(place, -1, 1) + 1) / 2
    return Image.fromarray((np.asarray(image) * light).astype(np.uint8))


def _noisy(rng: Rng, image: Image.Image, deviation: float) -> Image.Image:
    """Normal noise, in half of the pages with specks."""
    pixels = np.asarray(image, np.float32) + rng.standard_normal((image.height, image.width), np.float32) * deviation
    if rng.random() < 0.5:
        count = int(pixels.size * rng.uniform(0, 0.002))
        pixels.ravel()[rng.integers(0, pixels.size, count)] = pick(rng, (0, 255))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
