"""tasks/page_forms/from_reply.py: what a model says of a whole page, in every form."""

from itertools import pairwise

import pytest

from smolcli.inputs.page import confidence_of
from smolcli.tasks.page_forms.forms import FORMS, render
from smolcli.tasks.page_forms.from_reply import pages_from_reply


def test_plain_text_keeps_its_lines_and_paragraphs() -> None:
    text = "A title\n\nThe first line\nand the second.\n\n\nThe end."
    [page] = pages_from_reply(f"\n{text} \n", 600, 800, 7, 0.5)
    assert render("text", [page], "x") == "A title\n\nThe first line\nand the second.\n\nThe end."
    assert (page.number, page.width, page.height) == (7, 600, 800)
    assert confidence_of(page.lines) == pytest.approx(0.5)
    boxes = [line.box for line in page.lines]
    assert all(0 < box.left < box.right < 600 and 0 < box.top < box.bottom < 800 for box in boxes)
    assert all(above.bottom <= below.top for above, below in pairwise(boxes))


def test_doctags_keep_their_places() -> None:
    [page] = pages_from_reply("<doctag><title><loc_0><loc_0><loc_250><loc_50>Hi", 600, 800, 2, 0.5)
    assert render("markdown", [page], "x") == "# Hi"
    assert (page.lines[0].box.right, page.lines[0].confidence) == (300, 0.5)


@pytest.mark.parametrize("text", ["", " \n ", "x\n" * 1000])
def test_odd_texts(text: str) -> None:
    pages = pages_from_reply(text, 10, 10)
    for form in FORMS:
        render(form, pages, "x")
    assert len(pages[0].lines) == text.count("x")
