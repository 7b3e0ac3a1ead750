"""tasks/page_forms/hocr.py: valid hOCR with every word in order, and boxes on the original picture."""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from smolcli.inputs.page import Page, Region
from smolcli.tasks.page_forms.hocr import hocr
from smolcli.types import Box
from tests.tasks.page_forms.pages import line, page, printed_words, random_page, region, table

SHAPES = {
    "ocr_page": r'image "[^";]+"; bbox 0 0 \d+ \d+; ppageno \d+(; scan_res \d+ \d+)?',
    "ocr_carea": r"bbox( \d+){4}",
    "ocr_par": "",
    "ocr_line": r"bbox( \d+){4}; (baseline -?[\d.]+ -?\d+|textangle \d+)",
    "ocrx_word": r"bbox( \d+){4}(; x_wconf \d+)?",
}
INSIDE = {"ocr_par": "(ocr_carea|ocr_header|ocr_footer|ocr_table)", "ocr_line": "ocr_par", "ocrx_word": "ocr_line"}


class Outline(HTMLParser):
    """What a reader of HTML, not XML, sees: the titles of each class, and the words."""

    def __init__(self) -> None:
        super().__init__()
        self.titles: dict[str, list[str]] = {}
        self.words: list[str] = []
        self._classes: list[str] = []

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        if tag == "meta":
            return
        found = dict(attributes)
        kind = found.get("class") or tag
        if kind in INSIDE:
            assert re.fullmatch(INSIDE[kind], self._classes[-1]), kind
        self._classes.append(kind)
        self.titles.setdefault(kind, []).append(found.get("title") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag != "meta":
            self._classes.pop()

    def handle_data(self, data: str) -> None:
        if self._classes and self._classes[-1] == "ocrx_word":
            self.words.append(data) if data.strip() else None


def outline(document: Sequence[Page], name: str = "scan.png") -> Outline:
    text = hocr(document, name)
    ET.fromstring(text)  # well-formed
    found = Outline()
    found.feed(text)
    for kind, shape in SHAPES.items():
        for title in found.titles.get(kind, []):
            assert re.fullmatch(shape, title), (kind, title)
    return found


@pytest.mark.parametrize("seed", range(25))
def test_every_word_occurs_once_and_in_order(seed: int) -> None:
    document = [random_page(seed, 1), random_page(seed + 1000, 2)]
    parser = ET.fromstring(hocr(document, "x"))
    words = [element.text for element in parser.iter("{http://www.w3.org/1999/xhtml}span") if len(element) == 0]
    assert words == printed_words(document)
    assert len({element.get("id") for element in parser.iter() if element.get("id")}) == sum(
        element.get("id") is not None for element in parser.iter()
    )
    outline(document)


@pytest.mark.parametrize("seed", range(5))
def test_the_validator_of_the_specification_finds_no_error(seed: int) -> None:
    validator = pytest.importorskip("hocr_spec").HocrValidator("standard")
    document = [random_page(seed), Page(2, 10, 10, kind="blank")]
    report = validator.validate(io.BytesIO(hocr(document, "a b.png").encode()), filename="a b.png")
    assert [str(item) for item in report.items if item.level in ("ERROR", "FATAL")] == []


def test_an_upright_page_has_its_own_boxes() -> None:
    found = outline([page(region(["Hi you"]))])
    assert found.titles["ocr_page"] == ['image "scan.png"; bbox 0 0 2480 3508; ppageno 0; scan_res 300 300']
    assert found.titles["ocr_line"] == ["bbox 100 100 220 136; baseline 0 -6"]
    assert found.titles["ocrx_word"] == ["bbox 100 100 140 136; x_wconf 90", "bbox 160 100 220 136; x_wconf 90"]


def test_boxes_are_turned_back() -> None:
    # The original is 3508 wide and 2480 high; turned clockwise by 90 degrees, its left edge becomes the top.
    found = outline([page(region(["Hi"]), turn=90)])
    assert "bbox 0 0 3508 2480" in found.titles["ocr_page"][0]
    assert found.titles["ocrx_word"] == ["bbox 100 2340 136 2380; x_wconf 90"]
    assert found.titles["ocr_line"] == ["bbox 100 2340 136 2380; textangle 90"]


def test_a_skewed_line_has_a_slope() -> None:
    # Turned clockwise by 2 degrees to be straight, so on the original it rises to the right, by tan 2 a pixel.
    wide = line("a" * 50, left=740, top=1754 - 30)
    found = outline([page(Region("text", wide.box, (wide,)), skew=2.0)])
    [title] = found.titles["ocr_line"]
    left, top, _, bottom, slope, offset = map(float, re.findall(r"-?[\d.]+", title))
    assert slope == pytest.approx(-0.035)
    assert bottom - top == pytest.approx(36 + 1000 * 0.0349, abs=3)
    # through the middle of the page, which does not move: the baseline is at the centre's height there
    assert bottom + offset + slope * (1240 - left) == pytest.approx(1754, abs=2)


def test_control_characters_and_awkward_names() -> None:
    odd = replace(line("x"), words=(), text="a\x00b \x1b[1m \ufffe")
    found = outline([page(Region("text", odd.box, (odd,)))], 'a"; bbox 1 <&>\n\x01.png')
    assert found.words == ["a\ufffdb", "\ufffd[1m", "\ufffd"]
    assert 'image "a%22%3B bbox 1 <&>%0A\ufffd.png"' in found.titles["ocr_page"][0]


def test_regions_by_kind() -> None:
    found = outline(
        [
            page(
                region(["Head"], top=10, kind="header"),
                Region("picture", Box(5, 60, 50, 90)),
                table([["a", "b"]], top=200),
                region(["Foot"], top=3400, kind="footer"),
            ),
            Page(2, 100, 100, kind="blank"),
        ]
    )
    assert [len(found.titles[kind]) for kind in ("ocr_header", "ocr_photo", "ocr_table", "ocr_footer", "ocr_page")] == [
        *(1, 1, 1, 1, 2)
    ]
    assert found.titles["ocr_photo"] == ["bbox 5 60 50 90"]
    assert len(found.titles["ocr_par"]) == 4  # one for each cell
