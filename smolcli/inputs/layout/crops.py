"""Cuts the pictures that a model reads out of an upright page; page_rows.py plans them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smolcli.types import Crop, Frame


def cut(grey: NDArray[np.uint8], crop: Crop) -> Frame:
    """Draw the parts of a page, uint8 (height, width), one below the other."""
    picture = Image.new("L", (crop.side, crop.side), 255)
    page = Image.fromarray(grey)
    top = crop.gap
    for box, scale in crop.rows:
        size = (max(1, round((box.right - box.left) * scale)), max(1, round((box.bottom - box.top) * scale)))
        part = page.crop(box).resize(size, Image.Resampling.LANCZOS)
        picture.paste(part, (crop.gap, top))
        top += size[1] + crop.gap
    return Frame(picture.convert("RGB").tobytes(), crop.side, crop.side)
