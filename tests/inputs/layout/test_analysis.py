"""Pages of known print: each line is found once and in order, whatever is done to the page."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from tests.inputs.layout.sheets import Sheet, around, assert_read, laid_out, matches


def column() -> Sheet:
    sheet = Sheet()
    sheet.line(60, 60, "A heading of large print", 28)
    sheet.paragraph(60, 110, 8)
    sheet.paragraph(60, 330, 6)
    sheet.line(300, 840, "7")
    return sheet


def two_columns() -> Sheet:
    sheet = Sheet()
    sheet.line(150, 60, "One title over both columns", 24)
    sheet.paragraph(50, 120, 14, 13, 6)
    sheet.paragraph(330, 120, 14, 13, 6)  # level with those of the left column
    return sheet


def test_lines_words_and_measures_of_a_column() -> None:
    sheet = column()
    page = laid_out(sheet.image).page
    assert_read(page, sheet.lines)
    assert (page.kind, page.turn, page.skew) == ("print", 0, 0.0)
    assert [region.kind for region in page.regions] == ["heading", "text", "text", "footer"]
    tight = 0
    for line, printed in zip(page.lines, sheet.lines, strict=True):
        boxes = [word.box for word in line.words]
        tight += sum(any(np.abs(np.subtract(box, known)).max() <= 2 for box in boxes) for known in printed.words)
        assert abs(line.baseline - printed.baseline) <= 1
    assert tight >= 0.96 * sum(len(printed.words) for printed in sheet.lines)
    small, large = 16 * 0.53, 28 * 0.53  # the x-height of Pillow's font (Aileron) is 0.53 em
    assert page.lines[0].x_height == pytest.approx(large, rel=0.1)
    assert all(line.x_height == pytest.approx(small, rel=0.12) for line in page.lines[1:])


def test_columns_under_a_title_are_read_one_after_the_other() -> None:
    sheet = two_columns()
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_the_same_lines_at_150_300_and_600_dpi() -> None:
    for factor in (1, 2, 4):
        sheet = Sheet(620 * factor, 500 * factor)
        sheet.paragraph(60 * factor, 80 * factor, 8, 12 * factor)
        assert_read(laid_out(sheet.image).page, sheet.lines)


@pytest.mark.parametrize("text", ["7", "12", "- 3 -"])
def test_a_lone_page_number_is_a_line(text: str) -> None:
    sheet = Sheet()
    sheet.line(300, 840, text)
    page = laid_out(sheet.image).page
    assert len(page.lines) == 1
    assert_read(page, sheet.lines)


def test_white_on_dark_is_found_once_and_becomes_dark_on_white() -> None:
    sheet = Sheet()
    y = sheet.paragraph(60, 60, 5)
    sheet.draw.rectangle((40, y, 580, y + 130), fill=(30, 50, 120))
    sheet.paragraph(60, y + 30, 4, ink="white")
    sheet.paragraph(60, y + 170, 5)
    found = laid_out(sheet.image)
    assert_read(found.page, sheet.lines)
    box = sheet.lines[6].box
    assert np.median(found.grey[box.top - 3 : box.top, box.left : box.right]) >= 250
    assert found.grey[box.top : box.bottom, box.left : box.right].min() <= 40


def sparse() -> Sheet:
    sheet = Sheet()
    sheet.line(80, 100, "Dear Mrs. Farrow, thank you.")
    sheet.line(80, 300, "The ferry to Birkenau left by eight.")
    sheet.line(80, 500, "Yours truly, Felix")
    return sheet


@pytest.mark.parametrize("make", [column, two_columns, sparse])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_turned_page_has_the_same_lines(make: type[Sheet], turn: int) -> None:
    sheet = make()
    page = laid_out(sheet.image.rotate(turn, expand=True)).page
    assert page.turn == turn
    assert (page.width, page.height) == sheet.image.size
    assert_read(page, sheet.lines)


@pytest.mark.parametrize("skew", [0.5, -2.0, 5.0, -7.0, 14.0])
def test_skew_is_measured_and_taken_out(skew: float) -> None:
    sheet = Sheet(700, 877)
    sheet.paragraph(130, 200, 14, words=8)
    page = laid_out(sheet.image.rotate(skew, Image.Resampling.BICUBIC, fillcolor="white")).page
    assert page.skew == pytest.approx(skew, abs=0.1)
    assert_read(page, sheet.lines)


@pytest.mark.parametrize("make", [column, two_columns, sparse])
def test_straight_stays_straight(make: type[Sheet]) -> None:
    assert laid_out(make().image).page.skew == 0.0


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(1).normal(0, 20, (image.height, image.width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def shaded(image: Image.Image) -> Image.Image:
    light = np.linspace(1, 0.35, image.width)[None, :, None]
    return Image.fromarray((np.asarray(image) * light).astype(np.uint8))


def spotted(image: Image.Image) -> Image.Image:
    pixels, rng = np.array(image), np.random.default_rng(2)
    for _ in range(150):
        y, x, size = rng.integers(0, image.height), rng.integers(0, image.width), rng.integers(1, 3)
        pixels[y : y + size, x : x + size] = 0
    return Image.fromarray(pixels)


def with_margins(image: Image.Image) -> Image.Image:
    pixels = np.array(image)
    pixels[:, :25] = pixels[-20:] = 10
    return Image.fromarray(pixels)


DAMAGES = {
    "inverted": ImageChops.invert,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "noisy": noisy,
    "shaded": shaded,
    "spotted": spotted,
    "black margins": with_margins,
    "tinted": lambda image: ImageOps.colorize(image.convert("L"), (90, 20, 20), (250, 240, 190)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("make", [column, two_columns])
def test_damage_changes_no_line(make: type[Sheet], damage: str) -> None:
    sheet = make()
    assert_read(laid_out(DAMAGES[damage](sheet.image)).page, sheet.lines)


def test_uneven_light_is_evened_and_print_stays_dark() -> None:
    sheet = column()
    found = laid_out(shaded(sheet.image))
    assert np.percentile(found.grey[:, 590:], 20) >= 245  # the paper in the shadow
    for line in sheet.lines[1:]:
        assert found.grey[line.box.top : line.box.bottom, line.box.left : line.box.right].min() <= 60


def test_rules_change_nothing_and_are_taken_out() -> None:
    sheet = column()
    image = sheet.image.copy()
    sheet.draw.line((40, 75, 580, 75), "black", 2)
    sheet.draw.line((30, 30, 30, 850), "black", 2)
    ruled, plain = laid_out(sheet.image), laid_out(image)
    assert [line.box for line in ruled.page.lines] == [line.box for line in plain.page.lines]
    assert ruled.grey[70:80, 40:580].min() >= 250
    assert np.array_equal(ruled.grey[100:500, 60:560], plain.grey[100:500, 60:560])


def test_underlined_print_keeps_its_letters() -> None:
    sheet = Sheet()
    for number in range(6):
        box = sheet.line(60, 100 + 40 * number, "the hot dog jumping quickly, left")
        sheet.draw.line((60, 103 + 40 * number, box.right, 103 + 40 * number), "black", 2)
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_lines_that_touch_are_two() -> None:
    sheet = Sheet()
    for number in range(8):
        sheet.line(60, 100 + 15 * number, "the bold dog kept jumping half high gold", 18)
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_letters_of_code_stay_in_their_line() -> None:
    sheet = Sheet()
    for number, text in enumerate(
        ("def twice(value):", "    if value == 0:", "        return [0, 1]", "    x = value * 2")
    ):
        sheet.line(60 + 9 * (len(text) - len(text.lstrip())), 100 + 26 * number, text.strip())
    assert_read(laid_out(sheet.image).page, sheet.lines)


def test_leaders_and_boxes_to_tick_are_no_print() -> None:
    sheet = Sheet()
    for number in range(6):
        y = 100 + 30 * number
        box = sheet.line(60, y, f"Chapter {number + 1} of the book")
        end = sheet.line(540, y, str(7 * number + 12))
        for x in range(box.right + 8, end.left - 8, 8):
            sheet.draw.rectangle((x, y - 2, x + 1, y - 1), "black")
    for number in range(2):
        y = 400 + 40 * number
        sheet.draw.rectangle((60, y - 13, 73, y), outline="black")
        sheet.line(90, y, "I agree to the rules")
    assert_read(laid_out(sheet.image).page, sheet.lines)


BLANK = {
    "white": Sheet().image,
    "black": Sheet(paper="black").image,
    "grey": Sheet(paper="#777777").image,
    "shaded": shaded(Sheet().image),
    "noisy": noisy(Sheet(paper="#dddddd").image),
    "black margins": with_margins(Sheet().image),
}


@pytest.mark.parametrize("name", BLANK)
def test_a_page_without_print_is_blank(name: str) -> None:
    page = laid_out(BLANK[name]).page
    assert (page.kind, page.regions) == ("blank", ())


def test_rules_alone_are_blank() -> None:
    sheet = Sheet()
    for step in range(60, 560, 100):
        sheet.draw.line((60, step, 560, step), "black", 2)
        sheet.draw.line((step, 60, step, 560), "black", 2)
    assert laid_out(sheet.image).page.kind == "blank"


def photograph(width: int, height: int) -> Image.Image:
    """Clouds of many sizes, as a landscape has."""
    rng, image = np.random.default_rng(3), np.zeros((height, width))
    for level in range(2, 8):
        small = Image.fromarray(rng.normal(0, 1, (2**level, 2**level)).astype(np.float32))
        image += np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)) * 1.6**-level
    image = (image - image.min()) / (image.max() - image.min())
    return Image.fromarray((255 * image).astype(np.uint8)).convert("RGB")


def test_a_photograph_has_no_lines() -> None:
    page = laid_out(photograph(640, 480)).page
    assert page.kind in ("picture", "blank")
    assert page.lines == []


def test_a_photograph_between_paragraphs_is_a_picture() -> None:
    sheet = Sheet()
    y = round(sheet.paragraph(60, 60, 6))
    sheet.image.paste(ImageChops.multiply(photograph(300, 240), Image.new("RGB", (300, 240), "#909090")), (120, y))
    sheet.paragraph(60, y + 280, 6)
    page = laid_out(sheet.image).page
    assert_read(page, sheet.lines)
    assert [region.kind for region in page.regions] == ["text", "picture", "text"]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (3, 2000), (4000, 3), (17, 17)])
@pytest.mark.parametrize("fill", ["white", "black", "noise"])
def test_odd_sizes_do_not_fail(size: tuple[int, int], fill: str) -> None:
    image = Image.new("RGB", size, "white" if fill == "noise" else fill)
    if fill == "noise":
        image = Image.fromarray(np.random.default_rng(4).integers(0, 256, (size[1], size[0], 3), np.uint8))
    found = laid_out(image)
    assert found.grey.shape == (found.page.height, found.page.width)
    assert found.grey.dtype == np.uint8
    assert sorted((found.page.width, found.page.height)) == sorted(size)


def test_every_box_is_on_the_page_and_words_are_in_their_lines() -> None:
    page = laid_out(two_columns().image.rotate(3, Image.Resampling.BICUBIC, fillcolor="white")).page
    for region in page.regions:
        assert around([line.box for line in region.lines]) == region.box
        for line in region.lines:
            assert around([word.box for word in line.words]) == line.box
            assert 0 <= line.box.left < line.box.right <= page.width
            assert 0 <= line.box.top < line.box.bottom <= page.height


def test_number_and_dpi_are_those_given() -> None:
    from smolcli.inputs.layout import lay_out
    from smolcli.types import Frame

    page = lay_out(Frame(b"\xff" * 300, 10, 10), number=4, dpi=150.0).page
    assert (page.number, page.dpi) == (4, 150.0)


def test_a_drop_capital_comes_before_its_paragraph() -> None:
    sheet = Sheet()
    sheet.line(60, 122, "T", 56)
    sheet.line(104, 100, "he quick brown fox jumps over dogs")
    sheet.line(104, 124, "and finds that every box holds much")
    sheet.line(60, 148, "good type for six grey wagons over the")
    sheet.line(60, 172, "lazy dog and the quick brown fox.")
    page = laid_out(sheet.image).page
    assert matches(page, sheet.lines) == [0, 1, 2, 3, 4]


def test_a_few_large_shapes_are_a_picture_and_a_few_small_letters_are_print() -> None:
    drawing = Image.new("RGB", (600, 400), "white")
    pen = ImageDraw.Draw(drawing)
    pen.ellipse((40, 60, 190, 210), "red")
    pen.polygon([(320, 60), (400, 210), (240, 210)], "blue")
    assert laid_out(drawing).page.kind == "picture"
    for words, size, kind in (("17", 20, "print"), ("17", 100, "picture"), ("Closed", 100, "print")):
        paper = Image.new("RGB", (600, 400), "white")
        ImageDraw.Draw(paper).text((100, 120), words, "black", ImageFont.load_default(size))
        assert laid_out(paper).page.kind == kind
