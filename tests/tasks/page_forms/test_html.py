"""tasks/page_forms/html.py: every element is closed, and every word is shown once."""

from html.parser import HTMLParser

import pytest

from smolcli.tasks.page_forms.html import html_document
from tests.tasks.page_forms.pages import page, printed_words, random_page, region, table, without_lists

EMPTY = ("meta", "br")


class Shown(HTMLParser):
    """Checks that elements are closed in order, and gathers the text of the body and the tags."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.tags.append(tag)
        if tag == "li":
            assert self.open[-1] == "ul"
        if tag not in EMPTY:
            self.open.append(tag)
        self.text += " " if tag in ("td", "th") else ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "body" in self.open else ""


@pytest.mark.parametrize("seed", range(25))
def test_every_word_is_shown_once_and_in_order(seed: int) -> None:
    document = [without_lists(random_page(seed, 1)), without_lists(random_page(seed + 1000, 2))]
    assert Shown(html_document(document, "<a>&.png")).text.split() == printed_words(document)


def test_elements() -> None:
    document = [
        page(
            region(["Head"], top=10, kind="header"),
            region(["Title"], top=100, kind="heading", level=2),
            region(["\u2022 One", "    \u2022 Deeper", "\u2022 Two", "", "    3. Number"], top=200, kind="list"),
            table([["a", None], ["b", "<c>"]], top=500),
            region(["x = <1>"], top=800, kind="code"),
            region(["Two", "lines"], top=900),
        )
    ]
    shown = html_document(document, "a.png")
    assert Shown(shown).tags[Shown(shown).tags.index("body") + 1 :] == [
        *("header", "h2", "ul", "li", "ul", "li", "li", "ul", "li"),
        *("table", "tr", "th", "tr", "td", "td", "pre", "p", "br"),
    ]
    assert '<th colspan="2">a</th>' in shown
    assert "<pre>\nx = &lt;1&gt;</pre>" in shown
    assert "<p>Two<br>\nlines</p>" in shown
    assert "<p>Two lines</p>" in html_document(document, "a.png", dehyphenate=True)
