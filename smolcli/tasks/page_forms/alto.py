"""The form ALTO 4.4 (https://www.loc.gov/standards/alto/): boxes in pixels of the original picture of each page.

Page > PrintSpace > TextBlock, ComposedBlock (a table, with a TextBlock for each cell) or Illustration > TextLine
> String, SP and HYP

The words on both sides of a hyphen at a line end name the whole word, as join.py joins it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby, pairwise

from smolcli import __version__
from smolcli.inputs.page import Line, Page, Region, RegionKind, confidence_of
from smolcli.tasks.page_forms.join import HYPHENS, SOFT_HYPHEN, compounds, joined, joint
from smolcli.tasks.page_forms.original import Original, xml_text
from smolcli.tasks.page_forms.paragraphs import join_continued, paragraphs
from smolcli.tasks.page_forms.words import words_of
from smolcli.types import Box

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-4.xsd"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
Strings = list[ET.Element]


def alto(pages: Sequence[Page], source_name: str) -> str:
    """Return the pages as one ALTO document; `source_name` is the picture or document that they are from."""
    root = ET.Element(
        "alto",
        {
            "xmlns": NAMESPACE,
            "xmlns:xsi": XSI,
            "xsi:schemaLocation": f"{NAMESPACE} {SCHEMA}",
            "SCHEMAVERSION": "4.4",
        },
    )
    _write_description(root, source_name)
    _write_tags(root, {region.kind for page in pages for region in page.regions})
    layout = ET.SubElement(root, "Layout")
    known = compounds(pages)
    for index, page in enumerate(pages, 1):
        _AltoPage(page, index).write(layout, known)
    if not pages:  # the schema wants a page
        ET.SubElement(layout, "Page", {"ID": "page_1", "PHYSICAL_IMG_NR": "1"})
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _write_description(root: ET.Element, source_name: str) -> None:
    description = ET.SubElement(root, "Description")
    ET.SubElement(description, "MeasurementUnit").text = "pixel"
    source = ET.SubElement(description, "sourceImageInformation")
    ET.SubElement(source, "fileName").text = xml_text(source_name)
    processing = ET.SubElement(description, "Processing", {"ID": "processing"})
    ET.SubElement(processing, "processingCategory").text = "contentGeneration"
    software = ET.SubElement(processing, "processingSoftware")
    ET.SubElement(software, "softwareName").text = "smolcli"
    ET.SubElement(software, "softwareVersion").text = __version__


def _write_tags(root: ET.Element, kinds: Iterable[RegionKind]) -> None:
    """Write a tag for each kind of region that there is."""
    if names := sorted(kinds):
        tags = ET.SubElement(root, "Tags")
        for name in names:
            ET.SubElement(tags, "LayoutTag", {"ID": f"kind_{name}", "LABEL": name})


class _AltoPage:
    """A page that is written; elements of a kind are numbered from 1 within it."""

    def __init__(self, page: Page, index: int) -> None:
        self._page, self._index = page, index
        self._original = Original(page)
        self._numbers: dict[str, int] = {}
        self._strings: dict[int, Strings] = {}  # those of each line, by the identity of the line

    def write(self, layout: ET.Element, known: Collection[str]) -> None:
        attributes = {"ID": f"page_{self._index}", "PHYSICAL_IMG_NR": str(self._page.number)}
        size = {"WIDTH": str(self._original.width), "HEIGHT": str(self._original.height)}
        if (confidence := confidence_of(self._page.lines)) is not None:
            attributes["PC"] = f"{confidence:.4f}"
        if rotation := round((self._page.turn + self._page.skew) % 360, 3):
            attributes["ROTATION"] = str(rotation)  # of the print, counterclockwise
        page = ET.SubElement(layout, "Page", attributes | size)
        space = ET.SubElement(page, "PrintSpace", {"HPOS": "0", "VPOS": "0", **size})
        for region in self._page.regions:
            self._write_region(space, region)
        for part in join_continued(paragraphs(self._page)):
            if part.kind != "table":
                self._mark_hyphens(part.lines, known)

    def _write_region(self, space: ET.Element, region: Region) -> None:
        lines = [line for line in region.lines if line.text.strip()]
        place = self._place(region.box) | {"TAGREFS": f"kind_{region.kind}"}
        if region.kind == "picture":
            self._element(space, "Illustration", "block", place)
        elif region.kind == "table" and region.cells and lines:
            table = self._element(space, "ComposedBlock", "block", place | {"TYPE": "table"})
            for cell, group in groupby(lines, key=lambda line: line.cell):
                box = region.cells[cell].box if cell is not None and cell < len(region.cells) else region.box
                self._write_lines(self._element(table, "TextBlock", "block", self._place(box)), group)
        elif lines:
            self._write_lines(self._element(space, "TextBlock", "block", place), lines)

    def _write_lines(self, block: ET.Element, lines: Iterable[Line]) -> None:
        for line in lines:
            ends = [self._original.point(x, line.baseline) for x in (line.box.left, line.box.right)]
            baseline = {"BASELINE": " ".join(f"{round(x)},{round(y)}" for x, y in ends)}
            element = self._element(block, "TextLine", "line", self._place(line.box) | baseline)
            strings: Strings = []
            words = words_of(line)
            for number, word in enumerate(words):
                if number:
                    before = words[number - 1].box
                    space = Box(before.right, word.box.top, max(before.right, word.box.left), word.box.bottom)
                    ET.SubElement(element, "SP", self._place(space))
                attributes = self._place(word.box) | {"CONTENT": xml_text(word.text)}
                if line.confidence is not None:
                    attributes["WC"] = f"{line.confidence:.4f}"
                strings.append(self._element(element, "String", "string", attributes))
            strings.append(element)  # the place of its hyphen
            self._strings[id(line)] = strings

    def _mark_hyphens(self, lines: Sequence[Line], known: Collection[str]) -> None:
        """Name the whole word at both parts of each word that a line end divides, and write HYP where it is no part."""
        for line, following in pairwise(lines):
            *_, last, element = self._strings[id(line)]
            first = self._strings[id(following)][0]
            start, end = last.get("CONTENT", ""), first.get("CONTENT", "")
            how = joint(line.text, following.text, known)
            if not how.joins_word or start[-1:] not in (*HYPHENS, SOFT_HYPHEN) or last.get("SUBS_TYPE"):
                continue
            whole = joined([start, end], known)
            last.attrib |= {"SUBS_TYPE": "HypPart1", "SUBS_CONTENT": whole}
            first.attrib |= {"SUBS_TYPE": "HypPart2", "SUBS_CONTENT": whole}
            if how.dropped and len(start) > 1:
                last.set("CONTENT", start[:-1])
                ET.SubElement(element, "HYP", {"CONTENT": start[-1]})

    def _place(self, box: Box) -> dict[str, str]:
        left, top, right, bottom = self._original.box(box)
        return {"HPOS": str(left), "VPOS": str(top), "WIDTH": str(right - left), "HEIGHT": str(bottom - top)}

    def _element(self, parent: ET.Element, tag: str, name: str, attributes: dict[str, str]) -> ET.Element:
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        return ET.SubElement(parent, tag, {"ID": f"{name}_{self._index}_{number}", **attributes})
