"""Cuts a picture into tiles, bit for bit as transformers' Idefics3 and SmolVLM image processors do.

First the longest edge is set, then both sides are stretched to whole tiles (the two-step resize of
the reference), then the picture is cut row by row; the whole picture, squeezed into one tile, comes last.
Every resize is Pillow's Lanczos filter on 8-bit RGB. Scaling to floats is left to the backend.

The sizes follow SmolVLMImageProcessorPil of transformers 5.23, its divisions in floating point included:
they decide where a side is a pixel over a whole tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from PIL import Image

from smolcli.models.chat_template import UNSPLIT, Grid
from smolcli.types import Frame

REFERENCE_TILES = 4  # size.longest_edge in tiles where a model does not say it, as the processors' default
LARGEST = 4096  # MAX_IMAGE_SIZE of transformers' processors, in pixels


Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Layout:
    """How a model's pictures are cut.

    `tile` is a tile's side in pixels, `tokens` the image tokens it becomes, `longest_edge` the
    reference processor's size.longest_edge in pixels.
    """

    tile: int
    tokens: int
    longest_edge: int


@dataclass(frozen=True)
class Tiles:
    """A cut picture: tile * tile * 3 bytes of RGB for each tile, numbered as chat.Tile says."""

    grid: Grid
    pixels: list[bytes]


class ImageProcessor:
    """Cuts pictures as `cut` does, each once as long as somebody holds it: questions about it share its tiles."""

    def __init__(self, layout: Layout, detail: str) -> None:
        self._layout, self._detail = layout, detail
        self._kept: WeakKeyDictionary[Frame, dict[bool, Tiles]] = WeakKeyDictionary()

    def __call__(self, frame: Frame, split: bool) -> Tiles:
        """The tiles of `frame`."""
        known = self._kept.setdefault(frame, {})
        if split not in known:
            known[split] = cut(frame, self._layout, self._detail, split)
        return known[split]

    def clear(self) -> None:
        """Forgets them."""
        self._kept.clear()


def fitted(frame: Frame, tile: int) -> Frame:
    """The first of the two steps in which `cut` makes one tile of a picture: its longest edge becomes `tile` pixels.

    So a frame of a video takes no more memory than what the model sees of it.
    """
    image = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
    image = _resized(image, _with_edge(frame.width, frame.height, tile))
    return replace(frame, rgb=image.tobytes(), width=image.width, height=image.height)


def cut(frame: Frame, layout: Layout, detail: str, split: bool) -> Tiles:
    """The tiles of `frame`.

    `detail` is low (one tile), high (the reference's longest edge), a number of tiles along the longest
    edge, or auto (the fewest that do not shrink the picture); neither of the last two goes beyond high.
    `split` False is as low, and as the reference's video processor: the longest edge becomes a tile's side, then the
    picture is squeezed into the tile. (Its image processor, told not to split, first brings the longest edge to its
    longest, which differs by a few levels.)
    options.detail is the judge of what else may stand there.

    >>> red = Frame(bytes((255, 0, 0)) * 20, width=5, height=4)
    >>> tiles = cut(red, Layout(tile=4, tokens=1, longest_edge=16), "auto", split=True)
    >>> tiles.grid, len(tiles.pixels), tiles.pixels[0] == bytes((255, 0, 0)) * 16
    (Grid(rows=2, columns=2), 5, True)
    """
    image = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
    for size in _sizes(frame.width, frame.height, layout, detail, split):
        image = _resized(image, size)
    grid = plan(frame.width, frame.height, layout, detail, split)
    corners = [(column * layout.tile, row * layout.tile) for row in range(grid.rows) for column in range(grid.columns)]
    parts = [image.crop((x, y, x + layout.tile, y + layout.tile)) for x, y in corners]
    parts.append(_resized(image, (layout.tile, layout.tile)))
    return Tiles(grid, [part.tobytes() for part in parts])


def plan(width: int, height: int, layout: Layout, detail: str, split: bool) -> Grid:
    """The grid that `cut` would make of a picture of that size in pixels; same arguments.

    >>> plan(400, 300, Layout(512, 64, 2048), "high", split=True)
    Grid(rows=3, columns=4)
    >>> plan(400, 300, Layout(512, 64, 2048), "auto", split=True)
    Grid(rows=0, columns=0)
    """
    return _grid(_sizes(width, height, layout, detail, split)[1], layout.tile)


def _sizes(width: int, height: int, layout: Layout, detail: str, split: bool) -> tuple[Size, Size]:
    """The size after the longest edge is set, and after both sides are whole tiles."""
    if detail == "low" or not split:
        return _with_edge(width, height, layout.tile), (layout.tile, layout.tile)
    first = _with_edge(width, height, _longest_edge(max(width, height), layout, detail))
    return first, _whole_tiles(*first, layout.tile)


def _longest_edge(longest: int, layout: Layout, detail: str) -> int:
    """In pixels, for a picture whose longest side is `longest`."""
    if detail == "high":
        return layout.longest_edge
    if detail == "auto":
        most = max(1, layout.longest_edge // layout.tile)
        return min(most, math.ceil(longest / layout.tile)) * layout.tile
    return min(int(detail) * layout.tile, layout.longest_edge)


def _with_edge(width: int, height: int, longest: int) -> Size:
    """The longest edge becomes `longest`; the other keeps the aspect, rounded up to an even length."""
    aspect = width / height
    if width >= height:
        size = longest, max(1, _even(int(longest / aspect)))
    else:
        size = max(1, _even(int(longest * aspect))), longest
    return size if max(size) <= LARGEST else _at_most(*size, LARGEST)


def _at_most(width: int, height: int, longest: int) -> Size:
    aspect = width / height
    if width >= height:
        return longest, max(1, int(longest / aspect))
    return max(1, int(longest * aspect)), longest


def _even(length: int) -> int:
    return length + length % 2


def _whole_tiles(width: int, height: int, tile: int) -> Size:
    """Both sides rounded up to whole tiles, the shorter from the aspect and the longer's new length."""
    aspect = width / height
    if width >= height:
        width = math.ceil(width / tile) * tile
        return width, math.ceil(int(width / aspect) / tile) * tile
    height = math.ceil(height / tile) * tile
    return math.ceil(int(height * aspect) / tile) * tile, height


def _grid(size: Size, tile: int) -> Grid:
    columns, rows = size[0] // tile, size[1] // tile
    return Grid(rows, columns) if rows > 1 or columns > 1 else UNSPLIT


def _resized(image: Image.Image, size: Size) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)
