"""Cuts a picture into tiles, bit for bit as transformers' Idefics3 and SmolVLM image processors do.

The picture is resized so that its longest edge has the wanted length, then stretched so that both sides are whole
tiles (the two-step resize of the reference), and cut row by row. The whole picture, resized to one tile, comes last.
Every resize is Pillow's Lanczos filter on 8-bit RGB. Scaling to floats is left to the backend.

The sizes follow SmolVLMImageProcessorPil of transformers 5.23, including its floating-point divisions, which decide
whether a side is a pixel over a whole tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from PIL import Image

from smolcli.models.chat_template import UNSPLIT, Grid
from smolcli.types import Frame

DEFAULT_TILES_ALONG = 4  # size.longest_edge in tiles if a model does not say it, the default of the processors
MAX_IMAGE_SIZE = 4096  # pixels, as in transformers' processors


Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Layout:
    """How a model's pictures are cut into tiles.

    `tile` is the side of a tile in pixels, `tokens` the number of image tokens of a tile, `longest_edge` the
    reference processor's size.longest_edge in pixels. `splits` is its do_image_splitting: a model that was trained on
    pictures in one tile is shown more only on demand.
    """

    tile: int
    tokens: int
    longest_edge: int
    splits: bool = True


def make_layout(side: int, patch: int, scale: int, longest_edge: int, splits: bool = True) -> Layout:
    """Return the layout of a vision encoder of tiles and patches of those sides; `scale`^2 patches become a token.

    Raises ValueError if the sizes contradict each other.

    >>> make_layout(512, 16, 4, 2048)
    Layout(tile=512, tokens=64, longest_edge=2048, splits=True)
    """
    along = side // patch // scale  # tokens along a side
    if along < 1 or side // patch % scale or longest_edge < 1:
        sizes = f"a tile of {side}, patches of {patch}, a scale factor of {scale}, a longest edge of {longest_edge}"
        raise ValueError(f"its sizes contradict each other: {sizes}")
    return Layout(side, along**2, longest_edge, splits)


@dataclass(frozen=True)
class Tiles:
    """The tiles of a picture, tile * tile * 3 bytes of RGB each, in the order of chat_template.Tile."""

    grid: Grid
    pixels: list[bytes]


def shrink_to_tile(frame: Frame, tile: int) -> Frame:
    """Resize a picture so that its longest edge is `tile` pixels: the first of the two resizes of `cut` to one tile.

    So a frame of a video takes no more memory than what the model sees of it.
    """
    image = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
    image = _resize(image, _with_longest_edge(frame.width, frame.height, tile))
    return replace(frame, rgb=image.tobytes(), width=image.width, height=image.height)


def cut(frame: Frame, layout: Layout, detail: str, split: bool) -> Tiles:
    """Cut a picture into tiles.

    `detail` is low (one tile), high (the reference's longest edge), a number of tiles along the longest
    edge, or auto (the fewest that do not shrink the picture, one if the layout does not split); the last two never give
    more tiles than high. options.parse_detail checks it.

    `split` False gives one tile, as low does and as the reference's video processor: the longest edge is resized to a
    tile's side, then the picture is stretched to the tile. (The reference's image processor without splitting first
    resizes to its own longest edge, and its pixels differ by a few levels.)

    >>> red = Frame(bytes((255, 0, 0)) * 20, width=5, height=4)
    >>> tiles = cut(red, Layout(tile=4, tokens=1, longest_edge=16), "auto", split=True)
    >>> tiles.grid, len(tiles.pixels), tiles.pixels[0] == bytes((255, 0, 0)) * 16
    (Grid(rows=2, columns=2), 5, True)
    """
    image = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
    for size in _resize_steps(frame.width, frame.height, layout, detail, split):
        image = _resize(image, size)
    grid = plan(frame.width, frame.height, layout, detail, split)
    corners = [(column * layout.tile, row * layout.tile) for row in range(grid.rows) for column in range(grid.columns)]
    parts = [image.crop((x, y, x + layout.tile, y + layout.tile)) for x, y in corners]
    parts.append(_resize(image, (layout.tile, layout.tile)))
    return Tiles(grid, [part.tobytes() for part in parts])


def plan(width: int, height: int, layout: Layout, detail: str, split: bool) -> Grid:
    """Return the grid that `cut` would give for a picture of that size in pixels; the other arguments are the same.

    >>> plan(400, 300, Layout(512, 64, 2048), "high", split=True)
    Grid(rows=3, columns=4)
    >>> plan(400, 300, Layout(512, 64, 2048), "auto", split=True)
    Grid(rows=0, columns=0)
    """
    return _grid(_resize_steps(width, height, layout, detail, split)[1], layout.tile)


def _resize_steps(width: int, height: int, layout: Layout, detail: str, split: bool) -> tuple[Size, Size]:
    """The size with the wanted longest edge, and then the size whose sides are whole tiles."""
    if detail == "low" or not split or (detail == "auto" and not layout.splits):
        return _with_longest_edge(width, height, layout.tile), (layout.tile, layout.tile)
    first = _with_longest_edge(width, height, _wanted_edge(max(width, height), layout, detail))
    return first, _whole_tiles(*first, layout.tile)


def _wanted_edge(longest: int, layout: Layout, detail: str) -> int:
    """The wanted longest edge in pixels, for a picture whose longest side has `longest`."""
    if detail == "high":
        return layout.longest_edge
    if detail == "auto":
        max_tiles = max(1, layout.longest_edge // layout.tile)
        return min(max_tiles, math.ceil(longest / layout.tile)) * layout.tile
    return min(int(detail) * layout.tile, layout.longest_edge)


def _with_longest_edge(width: int, height: int, longest: int) -> Size:
    """The size whose longest edge is `longest`; the other side keeps the aspect, rounded up to an even length."""
    aspect = width / height
    if width >= height:
        size = longest, max(1, _round_up_to_even(int(longest / aspect)))
    else:
        size = max(1, _round_up_to_even(int(longest * aspect))), longest
    return size if max(size) <= MAX_IMAGE_SIZE else _shrink(*size, MAX_IMAGE_SIZE)


def _shrink(width: int, height: int, longest: int) -> Size:
    aspect = width / height
    if width >= height:
        return longest, max(1, int(longest / aspect))
    return max(1, int(longest * aspect)), longest


def _round_up_to_even(length: int) -> int:
    return length + length % 2


def _whole_tiles(width: int, height: int, tile: int) -> Size:
    """The size with both sides rounded up to whole tiles; the shorter side follows the new longer one."""
    aspect = width / height
    if width >= height:
        width = math.ceil(width / tile) * tile
        return width, math.ceil(int(width / aspect) / tile) * tile
    height = math.ceil(height / tile) * tile
    return math.ceil(int(height * aspect) / tile) * tile, height


def _grid(size: Size, tile: int) -> Grid:
    columns, rows = size[0] // tile, size[1] // tile
    return Grid(rows, columns) if rows > 1 or columns > 1 else UNSPLIT


def _resize(image: Image.Image, size: Size) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)
