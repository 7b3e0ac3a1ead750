"""inputs/layout/crops.py: the picture shows the rows of the plan, and nothing else."""

import numpy as np

from smolcli.inputs.layout.crops import cut
from smolcli.types import Box, Crop


def test_the_picture_shows_the_rows_below_each_other_on_white() -> None:
    page = np.full((100, 300), 255, np.uint8)
    page[10:30, 20:60] = 0  # a word, and below it another one
    page[50:70, 200:240] = 100
    frame = cut(page, Crop(((Box(20, 10, 60, 30), 1.0), (Box(200, 50, 240, 70), 0.5)), 128, 8))
    pixels = np.frombuffer(frame.rgb, np.uint8).reshape(128, 128, 3)
    expected = np.full((128, 128), 255, np.uint8)
    expected[8:28, 8:48] = 0
    expected[36:46, 8:28] = 100
    assert (frame.width, frame.height) == (128, 128)
    assert (pixels == expected[..., None]).all()


def test_neighbouring_print_is_not_in_the_picture() -> None:
    page = np.zeros((60, 60), np.uint8)  # black all over but for one place
    page[20:30, 20:30] = 255
    frame = cut(page, Crop(((Box(20, 20, 30, 30), 2.0),), 64, 8))
    assert min(frame.rgb) == 255
