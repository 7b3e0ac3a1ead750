"""tasks/page_forms/words.py: boxes for words where the reply has another number of them than the line."""

from dataclasses import replace

import pytest

from smolcli.inputs.page import Word
from smolcli.tasks.page_forms.words import words_of
from smolcli.types import Box
from tests.tasks.page_forms.pages import line


def test_a_line_has_its_own_boxes() -> None:
    whole = line("Hi there you")
    assert words_of(whole) == list(whole.words)
    unread = replace(whole, words=tuple(Word(word.box) for word in whole.words))
    assert words_of(unread) == list(whole.words)


def test_words_are_laid_over_the_line() -> None:
    whole = replace(line("aaaa"), words=(), text="aa b c")  # 80 pixels, four letters
    assert [word.box[::2] for word in words_of(whole)] == [(100, 140), (140, 160), (160, 180)]
    one_box = replace(line("aaaa"), text="aa b c")
    assert words_of(one_box) == words_of(whole)


def test_words_stay_between_wide_gaps() -> None:
    whole = replace(line("Apples      3     1.20"), text="Red apples 3 1.20")
    red, apples, three, price = words_of(whole)
    assert (red.box.left, apples.box.right) == (whole.words[0].box.left, whole.words[0].box.right)
    assert (three.box, price.box) == (whole.words[1].box, whole.words[2].box)
    fewer = replace(whole, text="Apples 1.20")
    assert [word.box for word in words_of(fewer)] == [whole.words[0].box, whole.words[2].box]


def test_words_that_are_read_from_the_right_begin_there() -> None:
    boxes = [word.box for word in line("aaaa bbb cc").words]
    whole = replace(
        line("aaaa bbb cc"),
        words=tuple(map(Word, boxes)),
        text="\u05d0\u05d1 \u05d2\u05d3\u05d4 \u05d5\u05d6\u05d7\u05d8",
    )
    assert [word.text for word in words_of(whole)] == whole.text.split()
    assert [word.box for word in words_of(whole)] == boxes[::-1]
    one_box = replace(whole, words=())
    lefts = [word.box.left for word in words_of(one_box)]
    assert lefts == sorted(lefts, reverse=True)


@pytest.mark.parametrize("text", ["", " ", "x", "a b c d e f g h i j", "word " * 500])
@pytest.mark.parametrize(
    "boxes", [(), (Box(5, 5, 5, 5),), (Box(100, 0, 120, 9), Box(110, 0, 130, 9), Box(900, 0, 990, 9))]
)
def test_any_numbers_fit(text: str, boxes: tuple[Box, ...]) -> None:
    whole = replace(line("x"), text=text, words=tuple(map(Word, boxes)))
    found = words_of(whole)
    assert [word.text for word in found] == text.split()
    assert all(word.box.left <= word.box.right and word.box.top <= word.box.bottom for word in found)
