"""Names the colours of pixels by fixed ranges of hue, saturation and value: the truth of nano's colour answers."""

from __future__ import annotations

from typing import Any

import numpy as np

NAMES = ("black", "gray", "white", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
_NUMBER = {name: number for number, name in enumerate(NAMES)}
# Upper ends of the ranges of hue, in degrees, and the colour of each.
_HUES = ((15, "red"), (41, "orange"), (68, "yellow"), (165, "green"), (255, "blue"), (300, "purple"), (345, "pink"),
         (361, "red"))  # fmt: skip


def name_pixels(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The index in NAMES of each pixel's colour: uint8 RGB (..., 3) to int64 (...).

    >>> [NAMES[number] for number in name_pixels(np.array([[255, 140, 0], [125, 75, 35], [250, 250, 250]], np.uint8))]
    ['orange', 'brown', 'white']
    """
    rgb = pixels.astype(np.float32) / 255
    value, least = rgb.max(-1), rgb.min(-1)
    chroma = value - least
    saturation = chroma / np.maximum(value, 1e-6)
    hue = _hue_degrees(rgb, value, chroma)
    ends = np.array([end for end, _ in _HUES])
    of_range = np.array([_NUMBER[name] for _, name in _HUES])
    numbers: np.ndarray[Any, Any] = of_range[np.searchsorted(ends, hue, side="right").clip(max=len(ends) - 1)]
    is_named = {name: numbers == _NUMBER[name] for name in ("red", "orange", "yellow", "pink")}
    numbers[(is_named["red"] | is_named["pink"]) & (saturation < 0.55) & (value > 0.75)] = _NUMBER["pink"]
    numbers[is_named["pink"] & (value < 0.6)] = _NUMBER["purple"]
    numbers[is_named["orange"] & ((value < 0.72) | (saturation < 0.45))] = _NUMBER["brown"]
    numbers[is_named["red"] & (value < 0.5) & (hue > 8) & (hue < 100)] = _NUMBER["brown"]
    numbers[is_named["yellow"] & (value < 0.45)] = _NUMBER["brown"]
    is_gray = (saturation < 0.14) | (chroma < 0.08)
    numbers[is_gray] = _NUMBER["gray"]
    numbers[is_gray & (value > 0.86)] = _NUMBER["white"]
    numbers[value < 0.2] = _NUMBER["black"]
    return numbers


def _hue_degrees(
    rgb: np.ndarray[Any, Any], value: np.ndarray[Any, Any], chroma: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """The hue of the hexagonal model (HSV), 0 to 360; 0 for gray."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(
        value == red,
        ((green - blue) / safe) % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    degrees: np.ndarray[Any, Any] = np.where(chroma > 0, hue * 60, 0.0)
    return degrees


def colour_shares(pixels: np.ndarray[Any, Any], mask: np.ndarray[Any, Any] | None = None) -> dict[str, float]:
    """The share of each colour among pixels uint8 (..., 3), the largest first, colours without a pixel left out.

    `mask` bool (...) chooses pixels; an empty choice gives an empty result.
    """
    numbers = name_pixels(pixels)
    return shares_of_names(numbers if mask is None else numbers[mask])


def shares_of_names(numbers: np.ndarray[Any, Any]) -> dict[str, float]:
    """The share of each colour among what `name_pixels` gave, the largest first; an empty choice gives none."""
    if not numbers.size:
        return {}
    counts = np.bincount(numbers.ravel(), minlength=len(NAMES))
    order = np.argsort(-counts, kind="stable")
    return {NAMES[number]: float(counts[number] / numbers.size) for number in order if counts[number]}


def main_colours(shares: dict[str, float], least: float = 0.2) -> tuple[str, ...]:
    """The one or two colours to name: the largest, and the next if its share is at least `least`.

    >>> main_colours({"green": 0.5, "blue": 0.3, "white": 0.2})
    ('green', 'blue')
    """
    first, *others = shares
    return (first, others[0]) if others and shares[others[0]] >= least else (first,)


def is_clear(shares: dict[str, float], least: float = 0.2, margin: float = 0.05) -> bool:
    """Whether small changes of the pixels would not change `main_colours`: no share is `margin` near a decision."""
    sizes = [*shares.values(), 0.0, 0.0, 0.0][:3]
    if abs(sizes[1] - least) < margin or sizes[0] - sizes[1] < margin:
        return False
    return sizes[1] < least or sizes[1] - sizes[2] >= margin
