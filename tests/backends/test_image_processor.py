"""backends/image_processor.py: grids and pixels equal those of transformers' own image processors, byte for byte."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from smolcli.backends.image_processor import Layout, cut, plan
from smolcli.models.chat_template import UNSPLIT, Grid
from smolcli.types import Frame

SMALL = Layout(tile=32, tokens=4, longest_edge=128)
REAL = Layout(tile=512, tokens=64, longest_edge=2048)
SIZES = (
    (1, 1), (2, 1), (1, 400), (400, 1), (5, 3), (32, 32), (64, 32), (32, 96), (128, 96), (33, 31), (97, 61),
    (61, 97), (127, 128), (129, 128), (200, 150), (150, 201),
)  # fmt: skip


def noise(width: int, height: int) -> Frame:
    """A picture of random bytes, on which any other filter, rounding or order of steps shows."""
    return Frame(np.random.default_rng(width * 10_000 + height).bytes(3 * width * height), width, height)


def reference(
    frame: Frame,
    layout: Layout,
    longest_edge: int,
    split: bool = True,
    processor_class: type = SmolVLMImageProcessorPil,
) -> tuple[Grid, list[bytes]]:
    """Return the grid and the tiles of transformers' processor, before it rescales them to floats."""
    image = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
    processor = processor_class(
        size={"longest_edge": longest_edge},
        max_image_size={"longest_edge": layout.tile},
        do_image_splitting=split,
        do_rescale=False,
        do_normalize=False,
        do_pad=False,
    )
    result = processor(image, return_row_col_info=True)
    parts = [np.moveaxis(part, 0, -1) for part in result["pixel_values"][0]]
    assert all(part.dtype == np.uint8 for part in parts)
    return Grid(result["rows"][0][0], result["cols"][0][0]), [part.tobytes() for part in parts]


def check(frame: Frame, layout: Layout, detail: str, longest_edge: int, split: bool = True) -> None:
    result = cut(frame, layout, detail, split)
    grid, pixels = reference(frame, layout, longest_edge, split)
    assert result.grid == plan(frame.width, frame.height, layout, detail, split) == grid
    assert len(result.pixels) == grid.tiles
    # indices, so that a failure names the tiles instead of printing their bytes
    assert [n for n, (ours, theirs) in enumerate(zip(result.pixels, pixels, strict=True)) if ours != theirs] == []


@pytest.mark.parametrize("detail", ["1", "2", "3", "4"])
@pytest.mark.parametrize("size", SIZES)
def test_a_number_of_tiles_on_the_longest_edge(size: tuple[int, int], detail: str) -> None:
    check(noise(*size), SMALL, detail, int(detail) * SMALL.tile)


@pytest.mark.parametrize("size", SIZES)
def test_a_single_tile(size: tuple[int, int]) -> None:
    """As for a video frame: resized to the longest edge of a tile, then to the whole tile."""
    frame = noise(*size)
    check(frame, SMALL, "high", SMALL.tile, split=False)
    check(frame, SMALL, "low", SMALL.tile)


def test_random_sizes() -> None:
    layout = Layout(tile=8, tokens=1, longest_edge=32)
    rng = random.Random(0)
    for _ in range(200):
        frame = noise(rng.randint(1, 90), rng.randint(1, 90))
        detail = rng.choice("1234")
        check(frame, layout, detail, int(detail) * layout.tile)


@pytest.mark.parametrize(
    ("size", "layout", "detail", "longest_edge"),
    [
        ((640, 480), REAL, "high", 2048),
        ((301, 517), REAL, "2", 1024),
        ((9, 7), REAL, "1", 512),
        ((500, 333), Layout(384, 81, 1536), "high", 1536),
        ((20, 20), Layout(33, 1, 66), "1", 33),  # rounded up to even, an odd edge is two tiles
        ((50, 40), Layout(32, 4, 100), "high", 100),  # a longest edge that is not whole tiles
        ((50, 40), Layout(32, 4, 100), "4", 100),
        ((50, 40), Layout(32, 4, 20), "high", 20),
        ((8, 3), Layout(1024, 1, 5000), "high", 5000),  # beyond the reference's largest size
        ((3, 8), Layout(1024, 1, 5000), "high", 5000),
    ],
)
def test_other_layouts(size: tuple[int, int], layout: Layout, detail: str, longest_edge: int) -> None:
    check(noise(*size), layout, detail, longest_edge)


def test_both_families_have_the_same_tiles() -> None:
    frame = noise(123, 77)
    assert reference(frame, SMALL, 128) == reference(frame, SMALL, 128, processor_class=Idefics3ImageProcessorPil)


@pytest.mark.parametrize(
    ("size", "tiles_along"),
    [((1, 1), 1), ((32, 20), 1), ((33, 20), 2), ((20, 64), 2), ((65, 65), 3), ((128, 1), 4), ((1000, 900), 4)],
)
def test_auto_is_the_fewest_tiles_that_do_not_shrink_the_picture(size: tuple[int, int], tiles_along: int) -> None:
    check(noise(*size), SMALL, "auto", tiles_along * SMALL.tile)


@pytest.mark.parametrize(
    ("detail", "grid"), [("auto", UNSPLIT), ("low", UNSPLIT), ("1", UNSPLIT), ("2", Grid(1, 2)), ("high", Grid(2, 4))]
)
def test_a_layout_that_does_not_split_gives_more_tiles_only_on_demand(detail: str, grid: Grid) -> None:
    whole = replace(SMALL, splits=False)
    assert plan(200, 100, whole, detail, split=True) == grid == cut(noise(200, 100), whole, detail, split=True).grid
    if detail == "auto":
        assert cut(noise(200, 100), whole, "auto", split=True) == cut(noise(200, 100), SMALL, "low", split=True)


def test_the_number_of_tiles_is_at_most_that_of_high() -> None:
    assert plan(50, 40, SMALL, "9", split=True) == plan(50, 40, SMALL, "high", split=True) == Grid(4, 4)


def test_tile_counts_of_published_models() -> None:
    """The tiles of a square, a 4:3 and an A4 picture at 2048, 1024 and 512 pixels on the longest edge."""
    counts = {n: [plan(*size, REAL, n, True).tiles for size in ((386, 386), (400, 300), (1240, 1754))] for n in "421"}
    assert counts == {"4": [17, 13, 13], "2": [5, 5, 5], "1": [1, 1, 1]}


def test_without_splitting_detail_has_no_effect() -> None:
    assert plan(10, 10_000, SMALL, "high", split=False) == UNSPLIT
