"""Converts pictures to sRGB through their ICC profiles, with Little CMS."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SAME = 2  # of 255: a profile that changes no channel by more is that of sRGB, whatever its name
PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}  # Pillow's mode by the profile's color space


def is_srgb(profile: bytes) -> bool:
    """Whether a profile for RGB is that of sRGB, whatever its name."""
    try:
        return _transform(profile) == ("RGB", None)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return False


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture of 8 bits a channel, without transparency, to mode RGB in sRGB.

    Raises ValueError where the profile is broken, or for another kind of picture.
    """
    try:
        mode, transform = _transform(profile)
        if image.mode != mode:
            image = _in_mode(image, mode)
        if transform is None:
            return image if image.mode == "RGB" else image.convert("RGB")
        if mode == "L":
            return Image.merge("RGB", [image.point(table) for table in _tables(transform)])
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, TypeError) as error:
        raise ValueError(f"not a profile that can be used: {error}") from error
    assert converted is not None  # it is None only where the picture itself was changed
    return converted


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert a picture to the mode that its profile is for, where that is no change of its colors."""
    if (mode == "RGB" and image.mode in ("1", "L", "YCbCr", "HSV")) or (mode == "L" and image.mode == "1"):
        return image.convert(mode)
    raise ValueError(f"a profile for {mode} in a picture of {image.mode}")


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the mode that a profile is for, and the conversion to sRGB; None where that changes nothing.

    It is made once for all pictures with the same profile. Raises what `to_srgb` handles.
    """
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = opened.profile.xcolor_space.strip()
    if space not in PROFILE_MODES:
        raise ValueError(f"a profile for {space}")
    mode = PROFILE_MODES[space]
    # The optimization of a conversion of gray is some levels off in the shadows.
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if mode == "L" else 0)
    transform = ImageCms.buildTransform(
        opened, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, flags
    )
    if mode not in ("RGB", "L"):
        return mode, transform
    probe = _probe(mode)
    difference = np.asarray(probe.convert("RGB"), np.int16) - np.asarray(ImageCms.applyTransform(probe, transform))
    return mode, None if np.abs(difference).max() <= SAME else transform


def _tables(transform: ImageCms.ImageCmsTransform) -> list[list[int]]:
    """Return what becomes of each of the 256 grays: its red, its green and its blue."""
    converted = ImageCms.applyTransform(_probe("L"), transform)
    tables: list[list[int]] = np.asarray(converted).reshape(256, 3).T.tolist()
    return tables


def _probe(mode: str) -> Image.Image:
    """Return a picture of every gray, or of colors from all over the cube."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 17).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3))
