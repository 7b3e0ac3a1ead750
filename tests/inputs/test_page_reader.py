"""inputs/page_reader.py: what is on a page is found once, and kept only as long as it is needed."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from smolcli.errors import InputError
from smolcli.inputs.page import Line, Page, PageRequest, Region
from smolcli.inputs.page_reader import PageReader
from smolcli.types import Box, Crop, Frame, FrameRef, Media

WIDTH, HEIGHT = 400, 200


def drawn(text: str) -> Frame:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    ImageDraw.Draw(image).multiline_text((20, 20), text, "black", ImageFont.load_default(24), spacing=16)
    return Frame(image.tobytes(), WIDTH, HEIGHT)


def about(index: int, layout: bool = True, half_turn: bool = False) -> PageRequest:
    return PageRequest(FrameRef(index, 0, 0), index + 1, layout, half_turn)


class Pages:
    """A source of drawn pages that counts how often each is decoded."""

    faults: Sequence[str] = ()
    remarks: Sequence[str] = ()

    def __init__(self, *texts: str) -> None:
        self.frames = [drawn(text) for text in texts]
        self.decoded: list[int] = []
        self.held = 7
        self.media = Media(tuple(FrameRef(index, 0, 0) for index in range(len(texts))))

    def pictures(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        for index in indices:
            if index >= len(self.frames):
                raise InputError("is damaged")
            self.decoded.append(index)
            yield index, self.frames[index]

    def let_go(self) -> None:
        self.held = 0


class Document(Pages):
    """A source whose second page has a text layer."""

    def text_layer(self, index: int) -> Page | None:
        line = Line(Box(0, 0, 9, 9), (), 5.0, 8, "from the layer")
        return Page(2, 9, 9, (Region("text", line.box, (line,)),), has_text_layer=True) if index == 1 else None

    def dpi_of(self, index: int) -> float:
        return 150.0


def test_a_page_is_decoded_once_for_its_layout_and_all_its_parts() -> None:
    source = Pages("One line\nand another")
    reader = PageReader(source)
    page = reader.page(about(0))
    assert (page.number, page.width, page.height, page.kind, len(page.lines)) == (1, WIDTH, HEIGHT, "print", 2)
    for line in page.lines:
        frame = reader.crop(0, Crop(((line.box, 1.0),), 400, 10))
        pixels = np.frombuffer(frame.rgb, np.uint8)
        assert pixels.min() < 100 and (pixels < 100).mean() < 0.1  # print on white
    assert source.decoded == [0]


def test_the_pixels_of_the_file_are_freed_once_the_page_is_upright() -> None:
    source = Pages("One line\nand another")
    reader = PageReader(source)
    assert reader.held == 7
    reader.page(about(0))
    assert reader.held == WIDTH * HEIGHT
    reader.let_go()
    reader.crop(0, Crop(((Box(0, 0, 9, 9), 1.0),), 20, 1))
    assert source.decoded == [0]  # its pieces may be asked about once more


def test_only_the_last_pages_are_kept() -> None:
    source = Pages("One line\nand another", "Two lines\nof print", "Three lines\nand more", "Four lines\nor two")
    reader = PageReader(source)
    for index in (0, 1, 2, 0, 3):
        reader.page(about(index))
    assert reader.held == 3 * WIDTH * HEIGHT
    for index in (0, 2, 3, 1):
        reader.page(about(index))
    assert source.decoded == [0, 1, 2, 3, 1]  # the one that was wanted least lately was not kept


def test_a_text_layer_is_taken_and_the_page_is_not_drawn() -> None:
    source = Document("One line\nand another", "not looked at")
    reader = PageReader(source)
    first, second = reader.page(about(0)), reader.page(about(1))
    assert (first.dpi, first.has_text_layer) == (150.0, False)
    assert [line.text for line in second.lines] == ["from the layer"]
    assert source.decoded == [0]


@pytest.mark.parametrize("kind", [Pages, Document])
def test_without_layout_no_pixels_are_looked_at(kind: type[Pages]) -> None:
    source = kind("One line")
    page = PageReader(source).page(about(0, layout=False))
    assert (page.kind, page.lines, source.decoded) == ("picture", [], [])


def test_a_page_that_cannot_be_decoded_is_an_error() -> None:
    with pytest.raises(InputError, match="is damaged"):
        PageReader(Pages()).page(about(0))


def test_a_page_can_be_read_the_other_way_up() -> None:
    source = Pages("One line of print\nand another one below")
    reader = PageReader(source)
    upright, turned = reader.page(about(0)), reader.page(about(0, half_turn=True))
    assert (upright.turn, turned.turn) == (0, 180)
    [first, _], [_, last] = upright.lines, turned.lines
    assert abs(last.box.left - (WIDTH - first.box.right)) <= 2 and abs(last.box.top - (HEIGHT - first.box.bottom)) <= 2
    first_row = reader.crop(0, Crop(((first.box, 1.0),), 400, 10))
    last_row = reader.crop(0, Crop(((last.box, 1.0),), 400, 10, half_turn=True))
    assert abs(first_row.rgb.count(0) - last_row.rgb.count(0)) < 0.1 * first_row.rgb.count(0)
