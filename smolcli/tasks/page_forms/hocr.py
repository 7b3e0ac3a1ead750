"""The form hOCR 1.2 (https://kba.github.io/hocr-spec/1.2/), as XHTML: boxes on the original picture of each page.

ocr_page > ocr_carea, or a float for a header, footer, table or picture > ocr_par > ocr_line > ocrx_word
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from itertools import groupby

from smolcli import __version__
from smolcli.inputs.page import Line, Page, Region
from smolcli.tasks.page_forms.original import Original, xml_text
from smolcli.tasks.page_forms.paragraphs import region_paragraphs
from smolcli.tasks.page_forms.words import words_of
from smolcli.types import Box

FLOATS = {"header": "ocr_header", "footer": "ocr_footer", "table": "ocr_table", "picture": "ocr_photo"}
CAREA = "ocr_carea"
CAPABILITIES = ("ocr_page", CAREA, *FLOATS.values(), "ocr_par", "ocr_line", "ocrx_word", "ocrp_wconf")
DOCTYPE = (
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
    '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">'
)
MIN_SLOPE = 0.005  # a baseline that is flatter is straight: one pixel in 200


def hocr(pages: Sequence[Page], source_name: str) -> str:
    """Return the pages as one hOCR document; `source_name` is the picture or document that they are from."""
    root = ET.Element("html", {"xmlns": "http://www.w3.org/1999/xhtml"})
    head = ET.SubElement(root, "head")
    ET.SubElement(head, "title").text = xml_text(source_name)
    ET.SubElement(head, "meta", {"http-equiv": "Content-Type", "content": "text/html; charset=utf-8"})
    for name, content in (
        ("ocr-system", f"smolcli {__version__}"),
        ("ocr-capabilities", " ".join(CAPABILITIES)),
        ("ocr-number-of-pages", str(len(pages))),
    ):
        ET.SubElement(head, "meta", {"name": name, "content": content})
    body = ET.SubElement(root, "body")
    for index, page in enumerate(pages, 1):
        _HocrPage(page, index).write(body, source_name)
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{DOCTYPE}\n{ET.tostring(root, encoding="unicode")}\n'


class _HocrPage:
    """A page that is written; elements of a kind are numbered from 1 within it."""

    def __init__(self, page: Page, index: int) -> None:
        self._page, self._index = page, index
        self._original = Original(page)
        self._numbers: dict[str, int] = {}

    def write(self, body: ET.Element, source_name: str) -> None:
        title = f'image "{_quoted(source_name)}"; {_bbox(Box(0, 0, self._original.width, self._original.height))}'
        title += f"; ppageno {max(0, self._page.number - 1)}"
        if self._page.dpi >= 1:
            title += f"; scan_res {round(self._page.dpi)} {round(self._page.dpi)}"
        attributes = {"class": "ocr_page", "id": f"page_{self._index}", "title": title}
        element = ET.SubElement(body, "div", attributes)
        element.text = " "  # an empty element written short would be an open one to a reader of HTML
        for region in self._page.regions:
            self._write_region(element, region)

    def _write_region(self, parent: ET.Element, region: Region) -> None:
        parts = region_paragraphs(self._page, region)
        if not parts and region.kind != "picture":
            return
        kind = FLOATS.get(region.kind, CAREA)
        block = self._element(parent, "div", kind, "block", _bbox(self._original.box(region.box)))
        block.text = " "
        for part in parts:
            for lines in _cells(part.lines):
                paragraph = self._element(block, "p", "ocr_par", "par", "")
                for line in lines:
                    self._write_line(paragraph, line)

    def _write_line(self, parent: ET.Element, line: Line) -> None:
        box = self._original.box(line.box)
        element = self._element(parent, "span", "ocr_line", "line", f"{_bbox(box)}; {self._direction(line, box)}")
        sure = "" if line.confidence is None else f"; x_wconf {round(100 * line.confidence)}"
        for word in words_of(line):
            title = _bbox(self._original.box(word.box)) + sure
            self._element(element, "span", "ocrx_word", "word", title).text = xml_text(word.text)

    def _direction(self, line: Line, box: Box) -> str:
        """Return the property of a line that says how its text runs on the original."""
        if self._page.turn:
            return f"textangle {self._page.turn}"  # counterclockwise, as the page was turned clockwise
        slope = -math.tan(math.radians(self._page.skew))
        _, y = self._original.point(line.box.left, line.baseline)
        return f"baseline {round(slope, 3) if abs(slope) >= MIN_SLOPE else 0} {round(y) - box.bottom}"

    def _element(self, parent: ET.Element, tag: str, kind: str, name: str, title: str) -> ET.Element:
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        attributes = {"class": kind, "id": f"{name}_{self._index}_{number}"}
        return ET.SubElement(parent, tag, attributes | ({"title": title} if title else {}))


def _cells(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Yield the lines of each cell of a table; all lines where there are no cells."""
    yield from (list(group) for _, group in groupby(lines, key=lambda line: line.cell))


def _bbox(box: Box) -> str:
    return f"bbox {box.left} {box.top} {box.right} {box.bottom}"


def _quoted(name: str) -> str:
    """Return a name for a property; what would end it is %-encoded."""
    return xml_text(name).translate({ord(char): f"%{ord(char):02X}" for char in '"\\;\n\r\t'})
