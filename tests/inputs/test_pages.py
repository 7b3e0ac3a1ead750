"""smolcli/inputs/pages.py: --pages is parsed and checked, and chosen from a document of any length."""

from __future__ import annotations

import pytest

from smolcli.errors import InputError, UsageError
from smolcli.inputs.pages import Pages, parse_pages


@pytest.mark.parametrize(
    ("word", "canonical"),
    [("1-4,7", "1-4,7"), ("3", "3"), ("2-2", "2"), ("1,2,3", "1-3"), ("1-2,3-", "1-"), (" 5 , 9 - 12", "5,9-12")],
)
def test_one_choice_has_one_form(word: str, canonical: str) -> None:
    assert parse_pages(word) == canonical
    assert parse_pages(canonical) == canonical


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "nothing is no page"),
        ("1,,2", "nothing is no page"),
        ("-3", "-3 is no page"),
        ("one", "one is no page"),
        ("1.5", "1.5 is no page"),
        ("\u0661", "is no page"),  # a digit of another script
        ("9" * 5000, "is no page"),
        ("0", "there are no pages 0"),
        ("0-3", "there are no pages 0-3"),
        ("4-1", "there are no pages 4-1"),
        ("7,1-4", "page 1 does not come after those before it"),
        ("3,3", "page 3 does not come after those before it"),
        ("1-5,5-9", "page 5 does not come after those before it"),
        ("2-,9", "page 9 does not come after those before it"),
    ],
)
def test_what_is_no_choice_is_refused(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_pages(word)


@pytest.mark.parametrize(
    ("pages", "count", "chosen", "is_told"),
    [
        (None, 3, [0, 1, 2], False),
        ("2", 3, [1], False),
        ("1,3-", 5, [0, 2, 3, 4], False),
        ("2-9", 3, [1, 2], True),
        ("1,9", 3, [0], True),
        ("1,9-", 3, [0], True),
        ("1-999999999", 2, [0, 1], True),
    ],
)
def test_pages_past_the_end_are_told(pages: str | None, count: int, chosen: list[int], is_told: bool) -> None:
    indices, notice = Pages(pages=pages).select(count)
    assert indices == chosen
    assert bool(notice) == is_told
    assert not is_told or f"has {count} pages" in notice


def test_where_no_page_is_left_the_count_is_named() -> None:
    with pytest.raises(InputError, match="has 1 page, and none of --pages 2-; choose others"):
        Pages(pages="2-").select(1)
