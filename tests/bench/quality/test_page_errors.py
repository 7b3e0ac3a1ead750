"""bench/quality/page_errors.py: worked examples of the tools that define the rates, and the forms of a text.

jiwer: README.md, "Usage". dinglehopper: tests/test_character_error_rate.py and tests/test_word_error_rate.py, those of
its examples in which a character is one code point, words have no punctuation of their own, and the reply is not the
longer text, by whose length dinglehopper divides.
"""

from __future__ import annotations

import unicodedata

import pytest

from smolcli.bench.quality.page_errors import PageErrors, figures, plain, rates


@pytest.mark.parametrize(
    ("truth", "reply", "cer"),
    [
        ("Foo", "Bar", 3 / 3),
        ("Foo", "", 3 / 3),
        ("", "", 0.0),
        ("", "Foo", 1.0),
        ("Fnord", "Food", 2 / 5),
        ("M\u00fcll", "Mull", 1 / 4),
        ("Abstand", "Sand", 4 / 7),
    ],
)
def test_character_error_rates_of_dinglehopper(truth: str, reply: str, cer: float) -> None:
    errors = rates(reply, (truth,))
    assert errors.cer == errors.plain_cer == pytest.approx(cer)


@pytest.mark.parametrize(
    ("truth", "reply", "wer"),
    [
        ("hello world", "hello duck", 1 / 2),  # jiwer
        ("i like monthy python what do you mean", "i like python what you mean", 2 / 8),  # jiwer, shortened
        ("Dies ist ein Beispielsatz!", "Dies ist ein Beispielsarz:", 1 / 4),  # dinglehopper
        ("Dies ist ein Beispielsatz!", "Dies ein ist Beispielsatz!", 2 / 4),
        ("Dies ist ein Beispielsatz!", "", 4 / 4),
    ],
)
def test_word_error_rates_of_jiwer_and_dinglehopper(truth: str, reply: str, wer: float) -> None:
    assert rates(reply, (truth,)).wer == pytest.approx(wer)


def test_a_decomposed_letter_is_an_error_only_as_it_is() -> None:
    """dinglehopper's hard example: one error in 19 characters once both texts are composed."""
    truth = unicodedata.normalize("NFC", "Schly\u00f1 lorem ipsum.")
    reply = unicodedata.normalize("NFD", "Schly\u00f1 lorem ipsum!")
    errors = rates(reply, (truth,))
    assert errors.plain_cer == pytest.approx(1 / 19)
    assert errors.cer == pytest.approx(3 / 19)  # n for the letter, a tilde too many, and the exclamation mark


def test_a_reply_that_goes_on_and_on_is_more_than_all_wrong() -> None:
    assert rates("ab" * 50, ("ab",)).cer == 98 / 2


def test_the_plain_form() -> None:
    assert plain("\u201eA\u201c \u00abB\u00bb it\u2019s\u00a01\u20132\n\n3\u20144\f") == '"A" "B" it\'s 1-2 3-4'
    assert plain("A\tb  C.") == "A b C."  # case and stops stay
    assert plain("1.2 Title . . . . . 34\nA..... 5") == "1.2 Title 34 A 5"  # leaders
    assert plain("Well... no. 3.5") == "Well... no. 3.5"
    line_ends = rates("one\r\ntwo\n\n three", ("one two\nthree",))
    assert (line_ends.plain_cer, line_ends.wer) == (0.0, 0.0) and line_ends.cer > 0


def test_of_several_right_texts_the_nearest_counts() -> None:
    assert rates("colour", ("color", "colour")) == PageErrors(0, 0, 0, 0)


def test_mean_and_median_are_over_pages_whatever_their_lengths() -> None:
    """jiwer's two sentences have 2 errors in 6 words; as pages they have 1/2 and 1/4."""
    pages = [rates("hello duck", ("hello world",)), rates("i like python", ("i like monthy python",))]
    pages.append(rates("right", ("right",)))
    result = figures(pages)
    assert result["wer_mean"].value == pytest.approx((1 / 2 + 1 / 4 + 0) / 3)
    assert result["wer_median"].value == pytest.approx(1 / 4)
    assert 0 <= result["wer_mean"].low < result["wer_mean"].value < result["wer_mean"].high <= 1 / 2
    assert {figure.count for figure in result.values()} == {3} and len(result) == 8
    assert figures([]) == {}
