"""Draws pictures with transparent pixels on a ground on which they can be seen."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

Ground = Literal["white", "black"]
LIGHT = 170  # mean luminance, of 255, from which a drawing can be seen better on black: cyan has 179, yellow 226
TRANSPARENT_SHARE = 0.25  # of the picture; with less, as in a screenshot with round corners, the ground hardly matters
SAMPLES = 512  # pixels along each side that are looked at, at most


def flatten(rgba: Image.Image, ground: Ground | None = None) -> Image.Image:
    """Draw a picture of mode RGBA on a ground, by default `ground_of` it; returns mode RGB."""
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba.convert("RGB")
    background = Image.new("RGB", rgba.size, ground or ground_of(rgba))
    background.paste(rgba, mask=rgba.getchannel("A"))
    return background


def ground_of(rgba: Image.Image) -> Ground:
    """Return the ground for a picture of mode RGBA: white, or black where what is drawn is light.

    That is where the mean luminance, weighted by alpha, is LIGHT or more and TRANSPARENT_SHARE or more of the picture
    is transparent.
    """
    size = min(rgba.width, SAMPLES), min(rgba.height, SAMPLES)
    sample = rgba.resize(size, Image.Resampling.NEAREST)
    alpha = np.asarray(sample.getchannel("A"), np.float64) / 255
    if alpha.mean() > 1 - TRANSPARENT_SHARE or not alpha.any():
        return "white"
    luminance = np.asarray(sample.convert("RGB").convert("L"), np.float64)
    return "black" if np.average(luminance, weights=alpha) >= LIGHT else "white"
