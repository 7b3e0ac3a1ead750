"""Makes RGB as screens show it of decoded pictures: transparency on a ground, HDR as sRGB. All decoders share it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from smolcli.inputs.alpha import Ground, flatten, ground_of
from smolcli.inputs.hdr import PRIMARIES, TRANSFERS, Primaries, Transfer, to_sdr

MAX_EMPTY = 300  # pictures without anything on them that are passed over to find the ground
HD_WIDTH, SD_HEIGHT = 1280, 576
# Weights of red and blue in luma by MatrixCoefficients, ITU-T H.273 table 4: BT.709, BT.601 (twice), BT.2020.
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
BT601 = 6


@dataclass(frozen=True)
class VideoColor:
    """What the values of a picture mean. `transfer` is None if it is no HDR picture."""

    transfer: Transfer | None = None
    primaries: Primaries = "bt2020"
    has_alpha: bool = False

    @classmethod
    def tagged(cls, transfer: int, primaries: int, has_alpha: bool) -> VideoColor:
        """Make it from the codes of ITU-T H.273, which FFmpeg uses as well."""
        return cls(TRANSFERS.get(transfer), PRIMARIES.get(primaries, "bt2020"), has_alpha)

    @property
    def is_plain(self) -> bool:
        """Whether the values of RGB, and of luma as gray, are shown as they are."""
        return self.transfer is None and not self.has_alpha

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the RGB format that `to_rgb` takes, without the byte order of one with 16 bits.

        HDR in 8 bits would be too coarse: its code values cover 10,000 cd/m2.
        """
        if self.transfer:
            return "rgba64" if self.has_alpha else "rgb48"
        return "rgba" if self.has_alpha else "rgb24"

    def to_rgb(self, pixels: np.ndarray, ground: Ground = "white") -> np.ndarray:
        """Convert to sRGB, uint8 of (height, width, 3).

        `pixels` are uint8 or uint16 of (height, width, 3), or 4 with transparency, which are drawn on `ground`.
        """
        return np.asarray(flatten(self._to_rgba(pixels), ground)) if self.has_alpha else self._to_sdr(pixels)

    def to_gray(self, pixels: np.ndarray, ground: Ground = "white") -> np.ndarray:
        """Convert like `to_rgb` to gray, uint8 of (height, width)."""
        return np.asarray(Image.fromarray(self.to_rgb(pixels, ground)).convert("L"))

    def find_ground(self, pictures: Iterable[np.ndarray]) -> Ground:
        """Return the ground for all pictures of a video with transparency."""
        return ground_of_video(map(self._to_rgba, pictures)) if self.has_alpha else "white"

    def _to_sdr(self, pixels: np.ndarray) -> np.ndarray:
        return to_sdr(pixels, self.transfer, self.primaries) if self.transfer else pixels

    def _to_rgba(self, pixels: np.ndarray) -> Image.Image:
        alpha = pixels[..., 3:]
        alpha = alpha if alpha.dtype == np.uint8 else (alpha >> 8).astype(np.uint8)
        return Image.fromarray(np.concatenate([self._to_sdr(pixels[..., :3]), alpha], axis=2))


def ground_of_video(pictures: Iterable[Image.Image]) -> Ground:
    """Return one ground for all pictures of mode RGBA: that of the first with something on it."""
    visible = next((rgba for rgba in islice(pictures, MAX_EMPTY) if rgba.getchannel("A").getbbox()), None)
    return "white" if visible is None else ground_of(visible)


def is_bt709_if_untagged(width: int, height: int) -> bool:
    """Whether players show a video without color tags as BT.709 rather than as BT.601.

    The rule of mpv (pl_color_system_guess_ycbcr in libplacebo's src/colorspace.c).
    """
    return width >= HD_WIDTH or height > SD_HEIGHT


def correct_matrix(pixels: np.ndarray, matrix: int) -> np.ndarray:
    """Make of RGB that was decoded as BT.601 what decoding it by `matrix`, a code of ITU-T H.273, gives.

    `pixels` are uint8 of (height, width, 3). Values that were clipped in decoding stay wrong by a little.
    """
    if LUMA.get(matrix, LUMA[BT601]) == LUMA[BT601]:
        return pixels
    correction = np.linalg.inv(_luma_matrix(*LUMA[matrix])) @ _luma_matrix(*LUMA[BT601])
    corrected: np.ndarray = np.clip(pixels.astype(np.float32) @ correction.T.astype(np.float32) + 0.5, 0, 255)
    return corrected.astype(np.uint8)


def stretched(length: int, aspect: float) -> int:
    """Return the width of a picture of square pixels; those of the stored one are `aspect` times as wide as high."""
    return max(1, int(length * aspect + 0.5))


def _luma_matrix(red: float, blue: float) -> np.ndarray:
    """Return the matrix from RGB to luma and the two color differences: ITU-R BT.601, section 2.5.1 and 2.5.2."""
    luma = np.array([red, 1 - red - blue, blue])
    return np.array([luma, (np.array([0, 0, 1]) - luma) / (2 - 2 * blue), (np.array([1, 0, 0]) - luma) / (2 - 2 * red)])
