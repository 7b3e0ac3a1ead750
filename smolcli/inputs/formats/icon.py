"""ICO: the largest picture of an icon. Pillow's own reader decodes it before its size is known."""

from __future__ import annotations

import io
import struct

from PIL import IcoImagePlugin, Image

from smolcli.inputs.pixels import check_size

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def largest_picture(data: bytes, max_pixels: int) -> Image.Image | bytes:
    """Return the largest picture of an icon: decoded, or the bytes of a PNG.

    Raises InputError, too-large; SyntaxError, ValueError, OSError or struct.error where it is damaged.
    """
    icon = IcoImagePlugin.IcoFile(io.BytesIO(data))
    if not icon.entry:
        raise ValueError("the icon has no picture")
    entry = icon.entry[0]  # they are sorted, the largest first
    if data.startswith(PNG_SIGNATURE, entry.offset):
        return data[entry.offset : entry.offset + entry.size]
    _, width, height = struct.unpack_from("<Iii", data, entry.offset)  # of the mask too: twice the picture's height
    check_size(abs(width), abs(height) // 2, max_pixels)
    return icon.frame(0)
