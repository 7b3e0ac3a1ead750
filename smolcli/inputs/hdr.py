"""Converts high dynamic range (HDR) pictures, PQ and HLG of ITU-R BT.2100, and those of wide gamut to sRGB.

    code values -> light in cd/m2 -> relative to white at 203 cd/m2 -> BT.709 primaries -> sRGB

Light above white is clipped, so that white and the colors of ordinary surfaces are what a standard picture of the
same scene has (ITU-R BT.2408).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np

Transfer = Literal["pq", "hlg", "srgb", "adobe"]
Primaries = Literal["bt709", "bt2020", "p3", "adobe"]
TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}  # by TransferCharacteristics, ITU-T H.273 table 3
PRIMARIES: dict[int, Primaries] = {1: "bt709", 9: "bt2020", 12: "p3"}  # by ColourPrimaries, ITU-T H.273 table 2

WHITE = 203.0  # cd/m2, HDR Reference White of ITU-R BT.2408, table 1
HLG_PEAK = 1000.0  # cd/m2, the nominal peak of a display, for which the system gamma of HLG is 1.2
HLG_GAMMA = 1.2
CHROMATICITIES: dict[Primaries, tuple[tuple[float, float], ...]] = {  # x, y of red, green, blue; H.273 table 2
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),  # Adobe RGB (1998) Color Image Encoding, section 4.3.1
}
D65 = (0.3127, 0.3290)  # x, y of white, the same for all of them
ADOBE_GAMMA = 563 / 256  # ibid., section 4.3.4.2
STRIP = 2**18  # pixels that are converted at a time, so that the memory needed does not grow with the picture


def to_sdr(rgb: np.ndarray, transfer: Transfer, primaries: Primaries = "bt2020") -> np.ndarray:
    """Convert code values, shape (height, width, 3), to sRGB of the same shape and type uint8.

    "srgb" is for pictures that differ from sRGB only in their primaries, "adobe" for those in Adobe RGB.

    `rgb` is full range: floats from 0 to 1, or uint8 or uint16 whose largest value stands for 1. They are looked up
    with 16 bits, which is several times as fast as computing the powers of each.

    >>> to_sdr(np.full((1, 1, 3), 0.5807), "pq").tolist()  # white at 203 cd/m2
    [[[255, 255, 255]]]
    """
    to_xyz = _matrix_to_xyz(primaries)
    to_bt709 = (np.linalg.inv(_matrix_to_xyz("bt709")) @ to_xyz).astype(np.float32)
    luminance = to_xyz[1].astype(np.float32)
    decode, encode = _decoding_table(transfer), _encoding_table()
    converted = np.empty(rgb.shape, np.uint8)
    rows = max(1, STRIP // max(rgb.shape[1], 1))
    for top in range(0, rgb.shape[0], rows):
        light = decode[_sixteen_bits(rgb[top : top + rows])]
        if transfer == "hlg":
            light *= hlg_system_gain(light @ luminance)[..., None]
        linear = light @ (to_bt709.T / np.float32(WHITE))
        converted[top : top + rows] = encode[_sixteen_bits(linear)]
    return converted


def pq_to_light(signal: np.ndarray) -> np.ndarray:
    """Return the light of a PQ signal, 0 to 1, in cd/m2: the EOTF of ITU-R BT.2100, table 4."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = signal ** (1 / m2)
    light: np.ndarray = 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return light


def hlg_to_scene_light(signal: np.ndarray) -> np.ndarray:
    """Return the light of the scene, 0 to 1, of an HLG signal: the inverse OETF of ITU-R BT.2100, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene: np.ndarray = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return scene


def hlg_system_gain(luminance: np.ndarray) -> np.ndarray:
    """Return the cd/m2 that a display shows for each unit of the scene's light where the scene has this luminance.

    The OOTF of ITU-R BT.2100, table 5.
    """
    gain: np.ndarray = HLG_PEAK * luminance ** (HLG_GAMMA - 1)
    return gain


def srgb_to_light(signal: np.ndarray) -> np.ndarray:
    """Return the light of an sRGB signal, 0 to 1, in cd/m2, with white at 203: IEC 61966-2-1."""
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    light: np.ndarray = WHITE * linear
    return light


def adobe_to_light(signal: np.ndarray) -> np.ndarray:
    """Return the light of an Adobe RGB signal, 0 to 1, in cd/m2, with white at 203."""
    light: np.ndarray = WHITE * signal**ADOBE_GAMMA
    return light


def srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    """Encode linear light, 0 to 1, as sRGB of 8 bits: IEC 61966-2-1."""
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    result: np.ndarray = np.rint(encoded * 255).astype(np.uint8)
    return result


@cache
def _decoding_table(transfer: Transfer) -> np.ndarray:
    """Return the light of each signal of 16 bits: of the display in cd/m2, for HLG that of the scene."""
    signal = np.linspace(0, 1, 2**16)
    decoders: dict[Transfer, Callable[[np.ndarray], np.ndarray]] = {
        "pq": pq_to_light,
        "hlg": hlg_to_scene_light,
        "srgb": srgb_to_light,
        "adobe": adobe_to_light,
    }
    light: np.ndarray = decoders[transfer](signal)
    return np.asarray(light, np.float32)


@cache
def _encoding_table() -> np.ndarray:
    """Return sRGB of each linear value of 16 bits."""
    return srgb_from_linear(np.linspace(0, 1, 2**16))


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Return full-range values, floats clipped to 0 and 1, as integers of 16 bits."""
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * 257
    if values.dtype == np.uint16:
        return values
    scaled: np.ndarray = np.clip(values, 0, 1) * 65535 + 0.5
    return np.asarray(scaled, np.uint16)


def _matrix_to_xyz(primaries: Primaries) -> np.ndarray:
    """Return the matrix from linear RGB to CIE XYZ, shape (3, 3): SMPTE RP 177, section 3.3."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in CHROMATICITIES[primaries]]).T
    white = np.array([D65[0] / D65[1], 1.0, (1 - D65[0] - D65[1]) / D65[1]])
    matrix: np.ndarray = columns * np.linalg.solve(columns, white)
    return matrix
