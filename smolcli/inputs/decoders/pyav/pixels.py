"""Converts decoded frames to upright RGB of square pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from av.video.frame import VideoFrame

from smolcli.inputs.alpha import Ground
from smolcli.inputs.decoders.video_color import VideoColor, is_bt709_if_untagged, stretched

UNTAGGED, BT709 = 2, 1  # codes of ITU-T H.273


class Tags(NamedTuple):
    """What a container says of the colors of its video: codes of ITU-T H.273."""

    matrix: int
    primaries: int
    transfer: int

    def complete(self, frame: VideoFrame) -> VideoFrame:
        """Tag a frame with what it does not say itself: as the container says, or else its matrix by its size."""
        if frame.colorspace == UNTAGGED and not frame.format.is_rgb:
            is_bt709 = self.matrix == UNTAGGED and is_bt709_if_untagged(frame.width, frame.height)
            frame.colorspace = BT709 if is_bt709 else self.matrix
        if frame.color_trc == UNTAGGED:
            frame.color_trc = self.transfer
        if frame.color_primaries == UNTAGGED:
            frame.color_primaries = self.primaries
        return frame


def color_of(frame: VideoFrame) -> VideoColor:
    """Return what the values of a frame mean."""
    format = frame.format
    has_alpha = format.has_palette or any(component.is_alpha for component in format.components)
    return VideoColor.tagged(frame.color_trc, frame.color_primaries, has_alpha)


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


def rgb_format(color: VideoColor) -> str:
    """Return PyAV's name of the RGB format that `color` names."""
    return color.pixel_format + ("le" if color.transfer else "")


def rgb_of(frame: VideoFrame, aspect: Fraction, color: VideoColor) -> np.ndarray:
    """Convert a frame to RGB of square pixels in the format that `color` names, without rotation."""
    pixels: np.ndarray = frame.reformat(*stretched_size(frame, aspect), rgb_format(color)).to_ndarray()
    return pixels


def upright_pixels(frame: VideoFrame, aspect: Fraction, is_mirrored: bool, ground: Ground) -> np.ndarray:
    """Convert a frame to sRGB, uint8 of (height, width, 3), with its rotation applied."""
    color = color_of(frame)
    pixels = color.to_rgb(rgb_of(frame, aspect, color), ground)
    return np.rot90(pixels[::-1] if is_mirrored else pixels, _quarter_turns(frame))


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
