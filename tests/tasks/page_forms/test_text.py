"""tasks/page_forms/text.py and paragraphs.py: paragraphs by indents, gaps and short lines, over columns."""

from dataclasses import replace

import pytest

from smolcli.inputs.page import Page, Region
from smolcli.tasks.page_forms.text import PAGE_BREAK, text
from smolcli.types import Box
from tests.tasks.page_forms.pages import page, printed_words, random_page, region, table

FULL = "a line that is as full as any"  # 29 characters


def paragraphs(*texts: str) -> list[str]:
    """The paragraphs of one region, with their lines as they are."""
    return text([page(region(texts))]).split("\n\n")


def test_lines_stay_lines_and_are_joined_on_demand() -> None:
    document = [page(region(["The exam-", "ple of n-", "tridecanal is well-", "known."]))]
    assert text(document) == "The exam-\nple of n-\ntridecanal is well-\nknown."
    assert text(document, dehyphenate=True) == "The example of n-tridecanal is wellknown."


def test_a_paragraph_begins_at_an_indent() -> None:
    assert paragraphs("    " + FULL[4:], FULL, FULL, "    " + FULL[4:], FULL) == [
        f"{FULL[4:].strip()}\n{FULL}\n{FULL}",
        f"{FULL[4:].strip()}\n{FULL}",
    ]


def test_an_indented_block_is_not_split() -> None:
    assert len(paragraphs(FULL, FULL, FULL, "    " + FULL, "    " + FULL)) == 2


def test_a_hanging_line_begins_a_paragraph() -> None:
    assert len(paragraphs(FULL, "    " + FULL, "    " + FULL, FULL, "    " + FULL, "    " + FULL)) == 2


def test_centred_lines_are_one_paragraph() -> None:
    assert len(paragraphs("     a short one", "a line that is longer", "    a middle one", "          tiny")) == 1


def test_a_paragraph_begins_after_a_gap() -> None:
    assert paragraphs(FULL, FULL, "", FULL, FULL) == [f"{FULL}\n{FULL}"] * 2
    assert len(text([page(region([FULL] * 4, pitch=96))]).split("\n\n")) == 1  # double-spaced throughout


def test_a_paragraph_begins_after_a_short_line_with_a_stop() -> None:
    assert paragraphs(FULL, FULL, "ends.", "Begins as full as any of them", FULL) == [
        f"{FULL}\n{FULL}\nends.",
        f"Begins as full as any of them\n{FULL}",
    ]
    assert len(paragraphs(FULL, FULL, "ends", "begins as full as any of them", FULL)) == 1


def test_the_lines_of_an_address_are_one_paragraph() -> None:
    assert len(paragraphs("Example Ltd.", "1 High St.", "Springfield", "All rights reserved Inc.")) == 1


def test_resolution_does_not_matter() -> None:
    def scaled(box: Box) -> Box:
        return Box(*(value * 4 for value in box))

    whole = region(["    " + FULL[4:], FULL, "ends.", "    " + FULL[4:], FULL, "", FULL, FULL])
    larger = tuple(
        replace(
            line,
            box=scaled(line.box),
            words=tuple(replace(word, box=scaled(word.box)) for word in line.words),
            x_height=line.x_height * 4,
            baseline=line.baseline * 4,
        )
        for line in whole.lines
    )
    expected = text([page(whole)])
    assert expected.count("\n\n") == 2
    assert text([page(replace(whole, box=scaled(whole.box), lines=larger))]) == expected


def two_columns(last: str, first: str) -> Page:
    left = region([FULL, FULL, last], left=100)
    return page(region(["A title"], top=20, kind="heading", level=1), left, region([first, FULL], left=1200))


@pytest.mark.parametrize(
    ("last", "first", "is_joined"),
    [
        ("and a word of two col-", "umns follows", True),
        ("and a word of two columns", "follows here", True),
        ("and a sentence that stops.", "follows here", False),
        ("and a word of two columns", "Follows here", False),
        ("short", "follows here", False),
    ],
)
def test_text_goes_on_in_the_next_column(last: str, first: str, is_joined: bool) -> None:
    document = [two_columns(last, first)]
    assert text(document).split() == printed_words(document)
    assert len(text(document).split("\n\n")) == (2 if is_joined else 3)
    if last.endswith("-"):
        assert "two columns follows" in text(document, dehyphenate=True)


def test_a_note_below_a_column_stands_after_the_joined_paragraph() -> None:
    left, right = region([FULL, "goes on in the other col-"]), region(["umn of the page."], left=1200)
    note = region(["1 A note."], top=3000, kind="note")
    joined = f"{FULL} goes on in the other column of the page."
    assert text([page(left, note, right)], dehyphenate=True) == f"{joined}\n\n1 A note."
    assert text([page(left, note, right)]).split("\n\n")[1] == "1 A note."  # as printed: in reading order


def test_pages_have_breaks_and_may_be_empty() -> None:
    first = page(region(["One"]), region(["1"], top=3400, kind="footer"))
    blank = Page(2, 100, 100, kind="blank")
    assert text([first, blank, page(region(["Three"]))]) == f"One\n\n1{PAGE_BREAK}{PAGE_BREAK}Three"
    assert text([]) == ""
    assert text([page(Region("picture", Box(0, 0, 9, 9)))]) == ""


def test_items_of_a_list_stand_together() -> None:
    items = ["\u2022 The first item", "  goes on", "\u2022 The second", "", "\u2022 The third"]
    document = [page(region(items, kind="list"), region(["Text."], top=900))]
    assert text(document).startswith("\u2022 The first item\ngoes on\n\u2022 The second\n\u2022 The third\n\nText.")
    assert text(document, dehyphenate=True).splitlines()[0] == "\u2022 The first item goes on"


def test_rows_of_a_table_are_lines_with_tabs() -> None:
    rows: list[list[str | None]] = [
        ["Fruit", "kg", "Price"],
        ["Apples", "3", "1.20"],
        ["Both", None, "2.40"],
        ["Pears", "", ""],
    ]
    assert text([page(table(rows))]) == "Fruit\tkg\tPrice\nApples\t3\t1.20\nBoth\t\t2.40\nPears"


@pytest.mark.parametrize("seed", range(40))
def test_every_word_occurs_once_and_in_order(seed: int) -> None:
    document = [random_page(seed, 1), random_page(seed + 1000, 2)]
    assert text(document).split() == printed_words(document)
    loose = "".join(sorted("".join(printed_words(document))))
    flowing = "".join(sorted("".join(text(document, dehyphenate=True).split())))
    assert flowing.replace("-", "") == loose.replace("-", "")
