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


def rgb_of(frame: VideoFrame, aspect: Fraction) -> np.ndarray:
    """Convert a frame to RGB of square pixels as `colour_of` it says, without rotation.

    A stored pixel is `aspect` times as wide as high; the width of the upright frame makes up for it.
    """
    if round(frame.rotation / 90) % 2:
        width, height = frame.width, stretched(frame.height, float(1 / aspect))
    else:
        width, height = stretched(frame.width, float(aspect)), frame.height
    colour = colour_of(frame)
    format = colour.pixel_format + ("le" if colour.transfer else "")
    converted = frame.reformat(width, height, format, src_colorspace=BT709 if is_guessed_bt709(frame) else None)
    pixels: np.ndarray = converted.to_ndarray()
    return pixels


def upright_pixels(frame: VideoFrame, aspect: Fraction, is_mirrored: bool, ground: Ground) -> np.ndarray:
    """Convert a frame to sRGB, uint8 of (height, width, 3), with its rotation applied."""
    pixels = colour_of(frame).to_rgb(rgb_of(frame, aspect), ground)
    return np.rot90(pixels[::-1] if is_mirrored else pixels, round(frame.rotation / 90) % 4)


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
