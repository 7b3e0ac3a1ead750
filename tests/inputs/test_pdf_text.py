"""smolcli/inputs/pdf_text.py: the text layer of a page fits its picture, is in reading order, or is refused."""

from __future__ import annotations

import numpy as np
import pytest

from smolcli.inputs.page import Page
from smolcli.inputs.pages import Pages
from smolcli.inputs.pdf import Pdf
from smolcli.inputs.pdf_text import has_meaning, is_readable
from smolcli.options import Input
from smolcli.types import Box
from tests.inputs.pdfs import A4, PdfPage, gray_image, make_pdf, stream, text

LINES = ("The quick brown fox jumps over the lazy dog,", "and a second line of words follows it here.")
PARAGRAPH = tuple(f"This is line {number} of a paragraph with some words in it." for number in range(1, 8))
SCAN = b"q 595 0 0 842 0 0 cm /I Do Q "


def layer_of(page: PdfPage, dpi: int | None = 100) -> Page | None:
    return Pdf(make_pdf(page), Input(), Pages(dpi=dpi)).text_layer(0)


def texts(page: PdfPage) -> list[str]:
    layer = layer_of(page)
    assert layer is not None
    return [line.text for line in layer.lines]


def turned_text(matrix: bytes) -> bytes:
    """What draws LINES along another axis."""
    return b"BT /F 12 Tf 14.4 TL %s Tm (%s) Tj T* (%s) Tj ET" % (matrix, *(line.encode() for line in LINES))


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize(
    ("page", "turn"),
    [
        (PdfPage(text(LINES)), 0),
        (PdfPage(text(LINES), crop=(50, 700, 400, 800)), 0),
        (PdfPage(text(LINES), crop=(-50, -50, 700, 900)), 0),
        (PdfPage(text(LINES, x=-400, y=-300), media=(-500, -400, 95, 200)), 0),
        (PdfPage(text(LINES), media=(595, 842, 0, 0)), 0),
        (PdfPage(text(LINES), more=b"/UserUnit 2"), 0),
        (PdfPage(turned_text(b"0 1 -1 0 300 100")), 90),
        (PdfPage(turned_text(b"-1 0 0 -1 400 400")), 180),
        (PdfPage(turned_text(b"0 -1 1 0 300 700")), 270),
    ],
    ids=["plain", "crop", "crop beyond", "origin", "corners reversed", "unit", "up", "upside down", "down"],
)
def test_boxes_fit_the_picture(page: PdfPage, turn: int, rotate: int) -> None:
    """All ink is in the boxes of words, and every word's box has ink, on the page turned as it says."""
    page = PdfPage(page.content, page.media, page.crop, rotate, more=page.more)
    pdf = Pdf(make_pdf(page), Input(), Pages(dpi=100))
    [(_, frame)] = pdf.pictures([0])
    layer = pdf.text_layer(0)
    assert layer is not None
    assert layer.turn == (turn - rotate) % 360
    picture = np.frombuffer(frame.rgb, np.uint8).reshape(frame.height, frame.width, 3)[:, :, 0]
    ink = np.rot90(picture, -layer.turn // 90) < 128
    assert ink.shape == (layer.height, layer.width)
    covered = np.zeros_like(ink)
    for box in (word.box for line in layer.lines for word in line.words):
        assert ink[box.top : box.bottom, box.left : box.right].any()
        covered[max(0, box.top - 1) : box.bottom + 1, max(0, box.left - 1) : box.right + 1] = True
    assert ink.any() and not (ink & ~covered).any()
    assert [line.text for line in layer.lines] == list(LINES)  # upright: the first line is above the second
    assert layer.lines[0].baseline < layer.lines[1].baseline
    assert (layer.has_text_layer, layer.dpi, layer.number) == (True, 100, 1)


def test_the_measures_of_a_line_are_those_of_its_font() -> None:
    """Helvetica's x-height is 0.523 of its size (its font metrics): at 144 dpi 12 points are 24 pixels."""
    layer = layer_of(PdfPage(text(["noxious oxen"], x=100, y=700)), dpi=144)
    assert layer is not None
    [line] = layer.lines
    assert line.x_height == pytest.approx(0.523 * 24, rel=0.08)
    assert line.baseline == pytest.approx((842 - 700) * 2, abs=1)
    assert [word.text for word in line.words] == ["noxious", "oxen"]
    assert line.words[0].box.right < line.words[1].box.left
    assert line.box.left == pytest.approx(200, abs=3)


def test_text_outside_the_visible_page_is_left_out() -> None:
    assert texts(PdfPage(text(["seen by all"]) + text(["cut off"], y=300), crop=(0, 600, 595, 842))) == ["seen by all"]


# ---- order -------------------------------------------------------------------------------------------------


def test_a_footer_and_a_header_drawn_first_come_where_they_lie() -> None:
    content = text(["Page 3"], x=280, y=30) + text(["A Title of a Book"], y=810) + text(PARAGRAPH)
    assert texts(PdfPage(content)) == ["A Title of a Book", *PARAGRAPH, "Page 3"]


def test_columns_are_read_one_after_the_other_below_their_title() -> None:
    left, right = ([f"{side} {number} of the text" for number in range(5)] for side in ("left", "right"))
    content = (
        text(left, y=700) + text(right, x=330, y=700) + text(["Title over both columns of the page"], y=740, size=20)
    )
    assert texts(PdfPage(content)) == ["Title over both columns of the page", *left, *right]


def test_paragraphs_and_headings_are_regions() -> None:
    content = text(["Heading"], y=800, size=20) + text(PARAGRAPH, y=760) + text(PARAGRAPH, y=600)
    layer = layer_of(PdfPage(content))
    assert layer is not None
    assert [(region.kind, len(region.lines)) for region in layer.regions] == [("heading", 1), ("text", 7), ("text", 7)]
    for region in layer.regions:
        assert all(line.box.left >= region.box.left and line.box.bottom <= region.box.bottom for line in region.lines)


def test_parts_of_a_line_in_other_fonts_are_one_line() -> None:
    fonts = {
        "F": b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        "B": b"<</Type/Font/Subtype/Type1/BaseFont/Courier>>",
    }
    content = b"BT /F 12 Tf 72 700 Td (plain words) Tj /B 12 Tf ( typewriter) Tj /F 12 Tf ( plain) Tj ET"
    layer = layer_of(PdfPage(content, fonts=fonts))
    assert layer is not None
    assert [line.text for line in layer.lines] == ["plain words typewriter plain"]


# ---- soundness ---------------------------------------------------------------------------------------------


# A font whose characters mean others, as object 3 says.
FONT_WITH_MAP = {"F": b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 3 0 R>>"}


def unicode_map(shift: int) -> bytes:
    """A ToUnicode map that adds `shift` to every code."""
    return stream(
        b"/CIDInit/ProcSet findresource begin 12 dict begin begincmap/CMapName/X def/CMapType 2 def\n"
        b"1 begincodespacerange<00><ff>endcodespacerange\n1 beginbfrange<20><7e><%04x>endbfrange\n"
        b"endcmap CMapName currentdict/CMap defineresource pop end end" % (0x20 + shift)
    )


@pytest.mark.parametrize(("shift", "is_sound"), [(0, True), (0xE000, False)], ids=["itself", "private"])
def test_letters_without_a_meaning_are_refused(shift: int, is_sound: bool) -> None:
    page = PdfPage(text(PARAGRAPH), fonts=FONT_WITH_MAP)
    pdf = Pdf(make_pdf(page, objects=[unicode_map(shift)]), Input())
    assert (pdf.text_layer(0) is not None) == is_sound


def test_a_page_without_text_or_with_a_picture_of_it_has_none() -> None:
    scan = gray_image(595, 842)
    assert layer_of(PdfPage()) is None
    assert layer_of(PdfPage(SCAN, image=scan)) is None
    stamp = text(
        ["Downloaded from a library on 3 May 2024, all use subject to its terms and conditions."], y=20, size=8
    )
    assert layer_of(PdfPage(SCAN + stamp, image=scan)) is None
    assert layer_of(PdfPage(SCAN + text(["12"]), image=scan)) is None
    assert layer_of(PdfPage(SCAN + text(PARAGRAPH * 4), image=scan)) is not None  # a picture as its background
    assert layer_of(PdfPage(text(["12"]))) is not None  # all that there is
    outlines = b"".join(b"%d 400 4 4 re f " % (2 * number) for number in range(250))
    assert layer_of(PdfPage(outlines + text(["12"]))) is None


def test_the_text_of_an_earlier_ocr_is_taken_and_told_once() -> None:
    page = PdfPage(SCAN + b"3 Tr " + text(PARAGRAPH), image=gray_image(595, 842))
    data = make_pdf(page, page)
    pdf = Pdf(data, Input())
    for index in range(2):
        layer = pdf.text_layer(index)
        assert layer is not None and [line.text for line in layer.lines] == list(PARAGRAPH)
    assert pdf.faults == ["has the text of an earlier OCR, which was taken as it is; --force-ocr reads it anew"]
    assert Pdf(data, Input(), Pages(force_ocr=True)).text_layer(0) is None


@pytest.mark.parametrize(
    ("words", "is_sound"),
    [
        ("Rechnung Nr. 12", True),
        ("1. Introduction ........................ 3", True),
        ("\u4eca\u65e5\u306f\u826f\u3044\u5929\u6c17\u3067\u3059\u306d", True),
        ("\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", True),
        ("\u4d00\u7500\u6c00\u7400\u6900", False),  # Multi, with the bytes of UTF-16 swapped
        ("\ufffd\ufffd\ufffdabc", False),
        ('"7+%-', False),
        ("\x01\x02\x03\x04words", False),
    ],
)
def test_text_with_a_meaning(words: str, is_sound: bool) -> None:
    assert has_meaning(words) == is_sound


def test_readable_letters() -> None:
    assert all(map(is_readable, "aZ\u00e9\u4e00\u0627\U0001f600"))
    assert not any(map(is_readable, "\0\x1f\x7f\x9f\ue000\uf8ff\ufffd\U000f0000\ud800"))


def test_ligatures_are_letters_and_a_hyphen_is_a_hyphen() -> None:
    cmap = stream(
        b"/CIDInit/ProcSet findresource begin 12 dict begin begincmap/CMapName/X def/CMapType 2 def\n"
        b"1 begincodespacerange<00><ff>endcodespacerange\n1 beginbfrange<20><7e><0020>endbfrange\n"
        b"1 beginbfchar<7e><fb03>endbfchar\nendcmap CMapName currentdict/CMap defineresource pop end end"
    )
    page = PdfPage(text(["an o~ce and a hyphen-", "ated word"]), fonts=FONT_WITH_MAP)
    layer = Pdf(make_pdf(page, objects=[cmap]), Input()).text_layer(0)
    assert layer is not None
    assert [line.text for line in layer.lines] == ["an office and a hyphen-", "ated word"]


def test_the_page_and_every_box_are_whole_pixels_of_it() -> None:
    layer = layer_of(PdfPage(text(PARAGRAPH), media=A4))
    assert layer is not None
    for line in layer.lines:
        for box in (line.box, *(word.box for word in line.words)):
            assert isinstance(box, Box) and all(isinstance(value, int) for value in box)
            assert 0 <= box.left < box.right <= layer.width and 0 <= box.top < box.bottom <= layer.height
