"""Makes ICC profiles for tests. Layout: ICC.1:2010, sections 7 and 10."""

from __future__ import annotations

import struct

# XYZ of red, green and blue relative to D50, as in the profile of sRGB (IEC 61966-2-1) and in Display P3's.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
D50 = (0.9642, 1.0, 0.8249)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))


def profile(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    """Make a profile for a display, or of class `prtr` for inks, from its tags."""
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"T\0" + bytes(78), b"wtpt": _xyz(D50), **tags}
    table, content, offset = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += name + struct.pack(">II", offset + len(content), len(data))
        content += data
    head = struct.pack(">I4sI4s4s4s", offset + len(content), b"\0\0\0\0", 0x02400000, kind, space, connection)
    head = head.ljust(36, b"\0") + b"acsp" + bytes(28) + _fixed(*D50)
    return head.ljust(128, b"\0") + table + content


def rgb(colorants: tuple[tuple[float, ...], ...] = SRGB, exponent: float = 2.2) -> bytes:
    """Make a profile of three primaries, given as red, green and blue."""
    names = zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(exponent))
    return profile(b"RGB ", {name: _xyz(values) for name, values in names} | curves)


def gray(exponent: float) -> bytes:
    """Make a profile for gray."""
    return profile(b"GRAY", {b"kTRC": _gamma(exponent)})


def inks(lab_of_ink: tuple[int, int, int]) -> bytes:
    """Make a profile for CMYK in which full cyan has this L*a*b*, coded in bytes, and every other ink does nothing."""
    identity = bytes(range(256))
    grid = bytes((255, 128, 128)) * 8 + bytes(lab_of_ink) * 8  # 2 x 2 x 2 x 2 points, the first ink slowest
    matrix = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + identity * 4 + grid + identity * 3
    return profile(b"CMYK", {b"A2B0": table}, b"Lab ")
