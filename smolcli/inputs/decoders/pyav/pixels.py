"""Converts decoded frames to upright RGB of square pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from smolcli.inputs.alpha import Ground
from smolcli.inputs.decoders.colour import Colour, is_bt709_if_untagged, stretched

UNTAGGED, BT709 = 2, "ITU709"  # AVCOL_SPC_UNSPECIFIED, and PyAV's name of the other


def colour_of(frame: VideoFrame) -> Colour:
    """Return what the values of a frame mean."""
    format = frame.format
    has_alpha = format.has_palette or any(component.is_alpha for component in format.components)
    return Colour.tagged(frame.color_trc, frame.color_primaries, has_alpha)


def stretched_size(frame: VideoFrame, aspect: Fraction) -> tuple[int, int]:
    """Return width and height of a frame of square pixels, without rotation.

    A stored pixel is `aspect` times as wide as high; the width of the upright frame makes up for it.
    """
    if _quarter_turns(frame) % 2:
        return frame.width, stretched(frame.height, float(1 / aspect))
    return stretched(frame.width, float(aspect)), frame.height


def upright_size(frame: VideoFrame, aspect: Fraction) -> tuple[int, int]:
    """Return width and height of a frame of square pixels with its rotation applied."""
    width, height = stretched_size(frame, aspect)
    return (height, width) if _quarter_turns(frame) % 2 else (width, height)


def rgb_format(colour: Colour) -> str:
    """Return PyAV's name of the RGB format that `colour` names."""
    return colour.pixel_format + ("le" if colour.transfer else "")


def rgb_of(frame: VideoFrame, aspect: Fraction, colour: Colour) -> np.ndarray:
    """Convert a frame to RGB of square pixels in the format that `colour` names, without rotation."""
    matrix = BT709 if is_guessed_bt709(frame) else None
    converted = frame.reformat(*stretched_size(frame, aspect), rgb_format(colour), src_colorspace=matrix)
    pixels: np.ndarray = converted.to_ndarray()
    return pixels


def upright_pixels(frame: VideoFrame, aspect: Fraction, is_mirrored: bool, ground: Ground) -> np.ndarray:
    """Convert a frame to sRGB, uint8 of (height, width, 3), with its rotation applied."""
    colour = colour_of(frame)
    pixels = colour.to_rgb(rgb_of(frame, aspect, colour), ground)
    return np.rot90(pixels[::-1] if is_mirrored else pixels, _quarter_turns(frame))


def is_guessed_bt709(frame: VideoFrame) -> bool:
    """Whether a frame does not say what its colours mean, and they are taken for BT.709."""
    is_untagged = frame.colorspace == UNTAGGED and not frame.format.is_rgb
    return is_untagged and is_bt709_if_untagged(frame.width, frame.height)


def is_mirrored(frame: VideoFrame) -> bool:
    """Whether the display matrix of a frame mirrors it, as with some front cameras.

    Only one frame is asked: a frame whose side data was read is in a reference cycle and stays in memory.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return bool(a * d < b * c)


def _quarter_turns(frame: VideoFrame) -> int:
    """Return by how many quarter turns, counter-clockwise, a frame must be rotated to be upright."""
    return round(frame.rotation / 90) % 4
