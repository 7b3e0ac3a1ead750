"""terminal/words.py: lists in sentences, and one guess for a typing error."""

from __future__ import annotations

import pytest

from smolcli.terminal.words import closest, enumerate_words

COMMANDS = ("caption", "ask", "ocr", "video-summarize", "models", "bench", "doctor", "help")


@pytest.mark.parametrize(
    ("word", "guess"),
    [
        ("captoin", "caption"),
        ("asks", "ask"),
        ("oc", "ocr"),
        ("videosummarize", "video-summarize"),
        ("cap", "caption"),
        ("video", "video-summarize"),
        ("ca", None),  # too short to tell
        ("CAPTION", "caption"),
        ("version", None),
        ("", None),
    ],
)
def test_one_guess_by_the_whole_word(word: str, guess: str | None) -> None:
    assert closest(word, COMMANDS) == guess


def test_no_guess_where_several_words_begin_so() -> None:
    assert closest("--mmp", ["--mmproj-quantization", "--mmproj-file"]) is None
    assert closest("--mmproj-q", ["--mmproj-quantization", "--mmproj-file"]) == "--mmproj-quantization"


def test_of_several_close_words_the_closest() -> None:
    assert closest("256n", ["256m-video", "256m", "500m"]) == "256m"


@pytest.mark.parametrize(("words", "text"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")])
def test_a_list_in_a_sentence(words: list[str], text: str) -> None:
    assert enumerate_words(words) == text
