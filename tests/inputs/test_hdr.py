"""inputs/hdr.py against worked values of ITU-R BT.2100, BT.2087 and BT.2408."""

import numpy as np
import pytest

from smolcli.inputs.hdr import (
    Primaries,
    Transfer,
    hlg_system_gain,
    hlg_to_scene_light,
    pq_to_light,
    srgb_from_linear,
    to_sdr,
)

# Linear BT.2020 of BT.709's red, green, blue, yellow: the columns of the matrix of BT.2087, section 2.1, and a sum.
BT709_IN_BT2020 = {
    (255, 0, 0): (0.6274, 0.0691, 0.0164),
    (0, 255, 0): (0.3293, 0.9195, 0.0880),
    (0, 0, 255): (0.0433, 0.0114, 0.8956),
    (255, 255, 0): (0.9567, 0.9886, 0.1044),
}


def pq(light: float) -> float:
    """Encode light in cd/m2 as PQ: the inverse EOTF of BT.2100, table 4."""
    power = (light / 10000) ** (2610 / 16384)
    return float(((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32))


@pytest.mark.parametrize(("signal", "light"), [(0, 0), (0.508078, 100), (0.580689, 203), (0.751827, 1000), (1, 10000)])
def test_pq_gives_the_light_of_its_worked_values(signal: float, light: float) -> None:
    assert float(pq_to_light(np.array(signal))) == pytest.approx(light, rel=2e-4)


@pytest.mark.parametrize(
    ("transfer", "signal", "light"),
    [("hlg", 0.75, 203), ("hlg", 0.73, 179), ("hlg", 0.38, 26), ("pq", 0.58, 203), ("pq", 0.38, 26)],
)
def test_the_reference_levels_of_bt2408(transfer: Transfer, signal: float, light: float) -> None:
    """Table 1 of BT.2408 rounds signals to a percent, which is up to 5 % of the light."""
    scene = hlg_to_scene_light(np.array(signal))
    measured = pq_to_light(np.array(signal)) if transfer == "pq" else scene * hlg_system_gain(scene)
    assert float(measured) == pytest.approx(light, rel=0.05)


@pytest.mark.parametrize(("transfer", "white"), [("pq", 0.5807), ("hlg", 0.7501)])
def test_white_at_203_is_white_and_black_is_black(transfer: Transfer, white: float) -> None:
    pixels = np.array([[[white] * 3, [0.0] * 3, [1.0] * 3]])
    assert to_sdr(pixels, transfer).tolist() == [[[255] * 3, [0] * 3, [255] * 3]]


@pytest.mark.parametrize("expected", BT709_IN_BT2020)
def test_colors_of_bt709_in_bt2020_come_back(expected: tuple[int, int, int]) -> None:
    signal = np.array([[[pq(203 * part) for part in BT709_IN_BT2020[expected]]]])
    assert np.abs(to_sdr(signal, "pq").astype(int) - expected).max() <= 4


@pytest.mark.parametrize("primaries", ["bt709", "bt2020", "p3"])
def test_gray_stays_gray(primaries: Primaries) -> None:
    """A fifth of white is 0.4845 in sRGB, that is 124 of 255, whatever the primaries."""
    assert to_sdr(np.full((1, 1, 3), pq(203 * 0.2)), "pq", primaries).tolist() == [[[124] * 3]]


def test_integers_are_full_range_and_a_large_picture_is_converted_whole() -> None:
    signal = np.random.default_rng(1).random((700, 500, 3), np.float32)
    expected = to_sdr(signal, "hlg").astype(int)
    assert np.abs(to_sdr(np.rint(signal * 65535).astype(np.uint16), "hlg") - expected).max() <= 1
    assert to_sdr(np.rint(signal[-1:] * 65535).astype(np.uint16), "hlg").tolist() == pytest.approx(expected[-1:], abs=1)


def test_srgb_of_linear_light() -> None:
    """18 % gray is 0.4613 in sRGB; below 0.0031308 it is a line of slope 12.92 (IEC 61966-2-1)."""
    assert srgb_from_linear(np.array([0, 0.003, 0.18, 1])).tolist() == [0, 10, 118, 255]
