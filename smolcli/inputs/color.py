"""Brings the colors of a picture to sRGB: through its ICC profile, or by the codes and exponents of its format.

ColorCoding, of the file -> to_srgb(image, coding, notices) -> RGB or RGBA in sRGB
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from smolcli.inputs import hdr

# TransferCharacteristics of ITU-T H.273, table 3, that a picture for a screen is shown with as sRGB is.
SRGB_TRANSFERS = frozenset((1, 6, 13, 14, 15))
SRGB_EXPONENT = 1 / 2.2  # of a gAMA chunk; PNG's specification gives it for sRGB, as 45455
BROKEN_PROFILE = "its color profile cannot be used; its colors may look different"


@dataclass(frozen=True)
class ColorCoding:
    """What a file says of its colors.

    `profile` is an ICC profile. `codes` are those of primaries and transfer in ITU-T H.273. `exponent` is that of
    PNG's gAMA chunk: a sample is light to its power. `is_adobe_rgb` is what EXIF says of a camera's picture, which has
    no profile then.
    """

    profile: bytes = b""
    codes: tuple[int, int] | None = None
    exponent: float | None = None
    is_adobe_rgb: bool = False

    @property
    def high_range(self) -> tuple[hdr.Primaries, hdr.Transfer] | None:
        """Primaries and transfer of a picture of high dynamic range."""
        primaries, transfer = self.codes or (0, 0)
        return (hdr.PRIMARIES.get(primaries, "bt2020"), hdr.TRANSFERS[transfer]) if transfer in hdr.TRANSFERS else None

    @property
    def wide_primaries(self) -> hdr.Primaries | None:
        """Primaries other than those of sRGB, where no profile says more."""
        primaries, transfer = self.codes or (0, 0)
        is_wide = transfer in SRGB_TRANSFERS and primaries in hdr.PRIMARIES and not self.profile
        return hdr.PRIMARIES[primaries] if is_wide and hdr.PRIMARIES[primaries] != "bt709" else None

    @property
    def gamma(self) -> float | None:
        """The exponent where it is not that of sRGB."""
        return self.exponent if self.exponent and abs(self.exponent - SRGB_EXPONENT) > 0.02 else None


def is_srgb(image: Image.Image, coding: ColorCoding) -> bool:
    """Whether a picture is RGB without transparency, and `to_srgb` would change nothing."""
    if image.mode != "RGB" or "transparency" in image.info:
        return False
    if coding.high_range or coding.wide_primaries or coding.gamma or coding.is_adobe_rgb:
        return False
    if coding.profile:
        from smolcli.inputs import icc

        return icc.is_srgb(coding.profile)
    return True


def to_srgb(image: Image.Image, coding: ColorCoding, notices: list[str]) -> Image.Image:
    """Convert a picture of 8 bits a channel to sRGB; returns mode RGB, or RGBA where it has transparency.

    A profile that is broken or for another kind of picture is left aside, with a notice. In HDR pictures the profile
    describes the same as the codes, which come first.
    """
    alpha, image = _split_alpha(image)
    try:
        rgb = _color_converted(image, coding)
    except ValueError:
        if BROKEN_PROFILE not in notices:
            notices.append(BROKEN_PROFILE)
        rgb = image.convert("RGB")
    if alpha is not None:
        rgb.putalpha(alpha)
    return rgb


def _split_alpha(image: Image.Image) -> tuple[Image.Image | None, Image.Image]:
    """Return the transparency of a picture, if it has any, and the picture without it."""
    if image.mode in ("RGBa", "La"):  # premultiplied
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    elif image.mode not in ("RGBA", "LA") and image.has_transparency_data:  # of one color, or in the palette
        image = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    if image.mode == "P":
        image = image.convert("RGB")
    if image.mode in ("RGBA", "LA"):
        return image.getchannel("A"), image.convert("RGB" if image.mode == "RGBA" else "L")
    return None, image


def _color_converted(image: Image.Image, coding: ColorCoding) -> Image.Image:
    """Convert a picture without transparency. Raises ValueError where its profile cannot be used."""
    if coding.high_range:
        return _from_codes(image, *coding.high_range)
    if coding.profile:
        from smolcli.inputs import icc  # loads Little CMS, which few pictures need

        return icc.to_srgb(image, coding.profile)
    if coding.wide_primaries:
        return _from_codes(image, coding.wide_primaries, "srgb")
    if coding.is_adobe_rgb:
        return _from_codes(image, "adobe", "adobe")
    if coding.gamma:
        return image.convert("RGB").point(_gamma_table(coding.gamma) * 3)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_codes(image: Image.Image, primaries: hdr.Primaries, transfer: hdr.Transfer) -> Image.Image:
    return Image.fromarray(hdr.to_sdr(np.asarray(image.convert("RGB")), transfer, primaries))


def _gamma_table(exponent: float) -> list[int]:
    """Return the sRGB value of each sample of a PNG whose gAMA chunk has this exponent."""
    table: list[int] = hdr.srgb_from_linear(np.linspace(0, 1, 256) ** (1 / exponent)).tolist()
    return table
