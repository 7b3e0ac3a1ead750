"""tasks/page_forms/join.py: which hyphens at the ends of lines belong to their words."""

import pytest

from smolcli.tasks.page_forms.join import compounds, joined
from tests.tasks.page_forms.pages import page, region


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("an exam-", "ple", "an example"),
        ("an exam\u2010", "ple", "an example"),  # U+2010 HYPHEN
        ("an exam\u00ad", "Ple", "an examPle"),  # a soft hyphen is no letter of any word
        ("2,4\u00ad", "5", "2,45"),
        ("n-", "tridecanal is", "n-tridecanal is"),  # docling#4151
        ("from n-", "tridecanal", "from n-tridecanal"),
        ("2-", "butanol", "2-butanol"),
        ("1,3-", "diol", "1,3-diol"),
        ("x-", "ray", "x-ray"),
        ("COVID-", "19", "COVID-19"),
        ("Müller-", "Lüdenscheidt", "Müller-Lüdenscheidt"),
        ("Vor-", "und Nachteile", "Vor- und Nachteile"),
        ("Ein- oder Aus-", "gang", "Ein- oder Ausgang"),
        ("pre-", "and postwar", "pre- and postwar"),
        ("Donau-", "dampfschiff", "Donaudampfschiff"),
        ("a dash -", "so it is", "a dash - so it is"),  # a space before: no hyphen of a word
        ("a dash \u2013", "so it is", "a dash \u2013 so it is"),
        ("word\u2014", "word", "word\u2014word"),
        ("and/", "or", "and/or"),
        ("no hyphen", "here", "no hyphen here"),
        ("\u6f22\u5b57", "\u6f22\u5b57", "\u6f22\u5b57\u6f22\u5b57"),  # written without spaces
        ("\u6f22\u5b57", "word", "\u6f22\u5b57 word"),
        ("", "word", "word"),
        ("-", "word", "- word"),
    ],
)
def test_two_lines(first: str, second: str, whole: str) -> None:
    assert joined([first, second]) == whole


def test_a_hyphen_is_kept_where_the_document_has_it_inside_a_line() -> None:
    document = [page(region(["A well-known method, and", "state-of-the-art models", "are well-", "known here"]))]
    known = compounds(document)
    assert joined(["the well-", "known exam-", "ple"], known) == "the well-known example"
    assert joined(["Well\u2010", "known"], known) == "Well\u2010known"
    assert joined(["state-of-", "the-art"], known) == "state-of-the-art"
    assert joined(["the state-of-the-", "art"], known) == "the state-of-the-art"
    assert joined(["the well-", "known"]) == "the wellknown"  # what happens without the document


def test_a_word_over_three_lines() -> None:
    assert joined(["Donau-", "dampf-", "schiff"]) == "Donaudampfschiff"
