"""tasks/page_forms/alto.py: valid ALTO with every word in order; the schema is checked where ALTO_XSD names it.

The schema, https://www.loc.gov/standards/alto/v4/alto-4-4.xsd, imports one for XLink, which must lie beside it.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from smolcli.inputs.page import Page, Region
from smolcli.tasks.page_forms.alto import alto
from smolcli.types import Box
from tests.tasks.page_forms.pages import line, page, printed_words, random_page, region, table

NS = "{http://www.loc.gov/standards/alto/ns-v4#}"
REQUIRED = {  # what the schema requires, and the children that it allows, in their order
    "alto": ((), "Description Styles Tags ReadingOrder Layout"),
    "Description": ((), "MeasurementUnit sourceImageInformation Processing"),
    "Processing": (("ID",), "processingCategory processingSoftware"),
    "LayoutTag": (("ID", "LABEL"), ""),
    "Page": (("ID", "PHYSICAL_IMG_NR"), "PrintSpace"),
    "TextBlock": (("ID",), "TextLine"),
    "ComposedBlock": (("ID",), "TextBlock"),
    "Illustration": (("ID",), ""),
    "String": (("CONTENT",), ""),
    "HYP": (("CONTENT",), ""),
}


def tree(document: Sequence[Page], name: str = "scan.png") -> ET.Element:
    """The document, checked against REQUIRED."""
    root = ET.fromstring(alto(document, name))
    ids = [element.get("ID") for element in root.iter() if element.get("ID")]
    assert len(ids) == len(set(ids))
    for element in root.iter():
        tag = element.tag.removeprefix(NS)
        attributes, children = REQUIRED.get(tag, ((), None))
        assert all(element.get(attribute) for attribute in attributes), tag
        if children is not None:
            places = [children.split().index(child.tag.removeprefix(NS)) for child in element]
            assert places == sorted(places), tag
        if element.get("TAGREFS"):
            assert element.get("TAGREFS") in ids
        assert 0 <= float(element.get("WC", "0")) <= 1
        if tag == "TextLine":
            kinds = [child.tag.removeprefix(NS) for child in element]
            assert kinds[0] == "String" and "SP SP" not in " ".join(kinds) and kinds.count("HYP") <= 1
            assert "HYP" not in kinds[:-1]
    return root


def words(root: ET.Element) -> Iterator[str]:
    """The words as they are printed: the strings between spaces, with their hyphens."""
    for text_line in root.iter(f"{NS}TextLine"):
        parts = [" " if child.tag == f"{NS}SP" else child.get("CONTENT", "") for child in text_line]
        yield from "".join(parts).split(" ")


@pytest.mark.parametrize("seed", range(25))
def test_every_word_occurs_once_and_in_order(seed: int) -> None:
    document = [random_page(seed, 1), random_page(seed + 1000, 2)]
    assert list(words(tree(document))) == printed_words(document)


@pytest.mark.skipif("ALTO_XSD" not in os.environ, reason="no schema")
@pytest.mark.parametrize("seed", range(10))
def test_it_is_valid_by_the_schema(seed: int) -> None:
    etree = pytest.importorskip("lxml.etree")
    schema = etree.XMLSchema(etree.parse(os.environ["ALTO_XSD"]))
    hyphens = page(
        region(["Donau-", "dampf-", "schiff of n-", "tridecanal"]), table([["a", None], ["b-", "c"]], top=900)
    )
    for document in ([random_page(seed), hyphens, Page(9, 10, 10, kind="blank")], []):
        schema.assertValid(etree.fromstring(alto(document, "a<b>.png").encode()))


def test_places_and_confidences() -> None:
    root = tree([page(region(["Hi you"]), skew=0.0)])
    strings = list(root.iter(f"{NS}String"))
    assert [[part.get(name) for name in ("CONTENT", "HPOS", "VPOS", "WIDTH", "HEIGHT")] for part in strings] == [
        ["Hi", "100", "100", "40", "36"],
        ["you", "160", "100", "60", "36"],
    ]
    assert {part.get("WC") for part in strings} == {"0.9000"}
    assert [(part.get("HPOS"), part.get("WIDTH")) for part in root.iter(f"{NS}SP")] == [("140", "20")]
    assert [part.get("BASELINE") for part in root.iter(f"{NS}TextLine")] == ["100,130 220,130"]


def test_places_are_turned_back() -> None:
    root = tree([page(region(["Hi"]), turn=180, skew=-0.5)])
    [found] = root.iter(f"{NS}Page")
    assert (found.get("WIDTH"), found.get("HEIGHT"), found.get("ROTATION")) == ("2480", "3508", "179.5")
    [found] = tree([page(region(["Hi"]), turn=270)]).iter(f"{NS}String")
    # 3508 x 2480; its right edge was turned to the top, so the top left corner of the page was the top right one
    assert (found.get("HPOS"), found.get("VPOS")) == (str(3508 - 136), "100")


def test_a_divided_word_is_named_whole_at_both_parts() -> None:
    root = tree([page(region(["the exam-", "ple of n-", "tridecanal"]))])
    marked = [
        (part.get("CONTENT"), part.get("SUBS_TYPE"), part.get("SUBS_CONTENT"))
        for part in root.iter(f"{NS}String")
        if part.get("SUBS_TYPE")
    ]
    assert marked == [
        ("exam", "HypPart1", "example"),
        ("ple", "HypPart2", "example"),
        ("n-", "HypPart1", "n-tridecanal"),
        ("tridecanal", "HypPart2", "n-tridecanal"),
    ]
    assert [part.get("CONTENT") for part in root.iter(f"{NS}HYP")] == ["-"]


def test_tables_pictures_and_tags() -> None:
    document = [page(table([["a", None], ["b", "c"]]), Region("picture", Box(5, 6, 50, 90)))]
    root = tree(document)
    [grid] = root.iter(f"{NS}ComposedBlock")
    assert [block.get("WIDTH") for block in grid] == ["400", "400", "400"]
    [picture] = root.iter(f"{NS}Illustration")
    assert (picture.get("HPOS"), picture.get("TAGREFS")) == ("5", "kind_picture")


def test_control_characters() -> None:
    odd = replace(line("x"), words=(), text="a\x00b \x1b[1m")
    assert list(words(tree([page(Region("text", odd.box, (odd,)))], "a<\x01>.png"))) == ["a\ufffdb", "\ufffd[1m"]
