"""inputs/pixels.py: pictures too large to be held whole are reduced; others are not touched."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolcli.inputs import pixels as module
from tests.inputs import profiles
from tests.inputs.pictures import encoded, near, pixels, rotated_exif

SIZE = (320, 40)
STEPS = np.repeat(np.repeat(np.random.default_rng(3).integers(0, 256, (5, 40), dtype=np.uint8), 8, 0), 8, 1)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce a picture of 320 x 40 pixels by 4: to more than 64 pixels along its longest edge."""
    monkeypatch.setattr(module, "MAX_WHOLE_PIXELS", 10_000)
    monkeypatch.setattr(module, "LONGEST_SEEN", 64)
    monkeypatch.setattr(module, "BAND_PIXELS", 4_000)


def gray(values: np.ndarray, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(values.astype(np.uint16) * 257)
    if mode in ("F", "I"):
        return Image.fromarray(values.astype(np.float32 if mode == "F" else np.int32))
    return Image.fromarray(values).convert(mode)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize(
    ("mode", "format", "more", "factor"),
    [
        ("RGB", "PNG", {}, 5), ("L", "PNG", {}, 5), ("P", "PNG", {}, 5), ("RGBA", "PNG", {}, 5), ("LA", "PNG", {}, 5),
        ("I;16", "PNG", {}, 5), ("F", "TIFF", {}, 5), ("I", "TIFF", {}, 5), ("CMYK", "TIFF", {}, 5),
        ("RGB", "WEBP", {}, 5), ("RGB", "JPEG", {"quality": 100}, 4), ("L", "JPEG", {"quality": 100}, 4),
    ],
)  # fmt: skip
def test_a_large_picture_is_reduced_in_every_mode(mode: str, format: str, more: dict[str, int], factor: int) -> None:
    """Five from each side become one; JPEG is decoded to a quarter. Squares of 8 x 8 pixels stay what they are."""
    shown = pixels(encoded(gray(STEPS, mode), format, lossless=True, **more))
    assert shown.shape == (40 // factor, 320 // factor, 3)
    rows, columns = (np.arange(size) * factor // 8 for size in shown.shape[:2])
    is_inside = [(np.arange(size) * factor % 8 + factor <= 8) for size in shown.shape[:2]]
    inside = np.ix_(*is_inside)
    expected = STEPS[::8, ::8][np.ix_(rows, columns)][inside]
    low, high = (0, 255) if mode not in ("F",) else (int(STEPS.min()), int(STEPS.max()))
    assert near(shown[inside], ((expected.astype(float) - low) * 255 / (high - low))[..., None], 2)


@pytest.mark.usefixtures("small_limits")
def test_orientation_profile_and_ground_of_a_large_picture() -> None:
    assert pixels(encoded(gray(STEPS, "RGB"), "JPEG", exif=rotated_exif())).shape == (80, 10, 3)
    swapped = profiles.rgb((profiles.SRGB[1], profiles.SRGB[2], profiles.SRGB[0]))
    red = Image.new("RGB", SIZE, "red")
    assert near(pixels(encoded(red, icc_profile=swapped)), [0, 255, 0], 2)
    light = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    light.paste("white", (200, 20, 240, 40))  # the first bands have nothing in them
    shown = pixels(encoded(light))
    assert shown[0, 0].tolist() == [0, 0, 0] and shown[6, 44].tolist() == [255, 255, 255]


def test_an_ordinary_picture_is_not_reduced() -> None:
    assert module._reduction((8192, 8192)) == 1
    assert module._reduction((6000, 4000)) == 1
    assert module._reduction((40000, 4900)) == 9
    for width, height in ((8200, 8200), (14000, 14000), (200_000, 1000), (1, 2**27)):
        assert max(width, height) / module._reduction((width, height)) >= 4096


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(("format", "mode", "limit"), [("JPEG", "RGB", 150), ("PNG", "RGBA", 1000), ("PNG", "L", 500)])
def test_memory_of_a_panorama(tmp_path: Path, format: str, mode: str, limit: int) -> None:
    """196 million pixels; `limit` is in MB. Pillow holds RGB and RGBA in 4 bytes a pixel."""
    color = (200, 200, 200, 100)[: len(mode)] if mode != "L" else 200
    Image.new(mode, (40000, 4900), color).save(tmp_path / "a", format, compress_level=1)
    program = (
        "import re, sys; from smolcli.inputs.image import Picture; from smolcli.options import Input\n"
        "frame = Picture(open(sys.argv[1], 'rb').read(), Input()).page(0)\n"
        "print(frame.width, int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a")]
    width, peak = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert width >= 4096 and peak < limit
