"""Pieces for nano's training are what ocr cuts, and their answers are what is printed on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from smolcli.inputs.page import Line, Page, PageRequest, Region, Word
from smolcli.models.catalog import NANO_X_HEIGHT
from smolcli.nano import damage, fonts, pieces, print_text, printed_page
from smolcli.nano.dataset import CELL_CLASS, CELL_CLASSES, CELLS, Lesson
from smolcli.nano.pieces import Places, words_in
from smolcli.nano.printed_page import Sheet, Style
from smolcli.nano.synthetic_images import ACCENTED, SIGNS, TILE
from smolcli.nano.tokenizer import tokenizer
from smolcli.tasks.page_reading import PageReading, PieceSize
from smolcli.types import Box, FrameRef

WORDS = ("stone", "river", "garden", "apple", "quick", "jumping", "fox", "window", "bird", "zebra")


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The only face there is: the one that Pillow carries, so that no font has to be installed."""
    font = ImageFont.load_default(20)
    path = tmp_path / "Lato-Regular.ttf"
    path.write_bytes(font.font_bytes)  # type: ignore[union-attr]
    monkeypatch.setattr(fonts, "FONT_ROOT", tmp_path)
    monkeypatch.setattr(print_text, "words", lambda held_out: WORDS)
    cached = (fonts.faces, fonts.upright_faces, fonts.relatives, printed_page._typewriters)
    for function in cached:
        function.cache_clear()
    yield str(path)
    for function in cached:
        function.cache_clear()


def places(*words: tuple[int, int, int, int]) -> Places:
    """Words as line, left, right and baseline; small letters are 10 pixels high, others 15."""
    lines, left, right, baselines = (np.array(column, float) for column in zip(*words, strict=True))
    boxes = np.stack([left, baselines - 15, right, baselines], 1)
    return Places(boxes, baselines, np.full(len(words), 10.0), lines, baselines, np.zeros((len(words), 2)))


@pytest.mark.parametrize(
    ("box", "numbers"),
    [
        (Box(10, 85, 90, 100), [1, 0]),  # the whole line, the words from the left
        (Box(10, 85, 40, 100), [1]),  # its first word
        (Box(10, 85, 75, 100), []),  # half of the second word is cut off
        (Box(10, 92, 90, 100), []),  # the upper half of all letters is cut off
        (Box(10, 85, 130, 100), []),  # there is something unknown after the words
        (Box(10, 85, 90, 128), []),  # two lines were taken for one
        (Box(200, 85, 240, 100), []),  # nothing was printed there
    ],
)
def test_words_in_a_row(box: Box, numbers: list[int]) -> None:
    assert words_in(box, places((0, 50, 90, 100), (0, 10, 40, 100), (1, 10, 90, 126))) == numbers


def test_a_comma_without_its_tail_is_in_no_row() -> None:
    words = places((0, 10, 40, 100))
    with_tail = replace(words, tails=np.array([101.0]))
    box = Box(10, 85, 40, 100)
    assert words_in(box, words) == [0]
    assert words_in(box, with_tail) == []
    assert words_in(box._replace(bottom=101), with_tail) == [0]


@pytest.mark.parametrize("is_laid_out", [False, True])
@pytest.mark.parametrize("angle", [0.0, 3.0])
def test_pieces_say_what_is_printed(
    face: str, monkeypatch: pytest.MonkeyPatch, is_laid_out: bool, angle: float
) -> None:
    lines = [
        "The little black kettle",
        "stood behind the table",
        "Both bottles held milk",
        "That hill lies to the left",
    ]

    def sheet(*_: object, **__: object) -> Sheet:
        made, style = Sheet(Image.new("L", (420, 240), 250), 250, 10), Style(face, 26, 34)
        for number, line in enumerate(lines):
            made.print([(word, style) for word in line.split()], 30, 60 + 40 * number)
        return made

    monkeypatch.setattr(pieces, "printed", sheet)
    monkeypatch.setattr(pieces, "damaged", lambda r, page: damage._turned(page, angle) if angle else page)
    monkeypatch.setattr(pieces, "SINGLE_ROWS", 0)
    lessons = pieces.pieces(rng(2), False, is_laid_out)
    assert sorted(" ".join(lesson.answer for lesson in lessons).split()) == sorted(" ".join(lines).split())
    assert max(len(lesson.answer.split("\n")) for lesson in lessons) >= 3


def printed_words(path: str) -> Sheet:
    """Two words on white, with the middle of the page before the first of them."""
    sheet = Sheet(Image.new("L", (400, 100), 255), 255, 0)
    sheet.print([("milk", Style(path, 30, 40)), ("table", Style(path, 30, 40))], 200, 50)
    return sheet


def test_places_on_a_page_that_is_still_turned(face: str) -> None:
    """What was on the right of the middle is above it, after a quarter turn counterclockwise."""
    sheet = printed_words(face)
    left, _, right, _ = sheet.words[0].box
    distance = (left + right) / 2 - 200
    right_by, down_by = pieces._places(sheet, 90).shifts[0]
    assert (right_by, down_by) == pytest.approx((-distance, -distance))


@pytest.mark.parametrize("erased", [(), (0,), (1,)])
def test_a_word_without_ink_under_a_letter_is_not_certain(face: str, erased: tuple[int, ...]) -> None:
    sheet = printed_words(face)
    for number in erased:
        x = round(sheet.words[number].centres()[1])
        sheet.image.paste(255, (x - 7, 0, x + 8, 100))
    is_certain = pieces._has_ink(np.asarray(sheet.image), sheet.words, pieces._places(sheet, 0))
    assert [number for number in range(2) if not is_certain[number]] == list(erased)


def rows_of_ink(tile: np.ndarray) -> int:
    """How many rows of print a tile has: what white of 5 pixels parts, more than is under the dot of an i."""
    is_white = tile.min((1, 2)) > 250
    ink = np.flatnonzero(~is_white)
    return 1 + int((np.diff(ink) > 5).sum())


def drawn(is_laid_out: bool) -> list[Lesson]:
    return [lesson for seed in range(25) for lesson in pieces.pieces(rng(seed), False, is_laid_out)]


@pytest.mark.parametrize("is_laid_out", [False, True])
def test_answers_have_a_line_for_each_row_of_ink(face: str, monkeypatch: pytest.MonkeyPatch, is_laid_out: bool) -> None:
    monkeypatch.setattr(pieces, "damaged", lambda r, page: page)
    lessons = drawn(is_laid_out)
    wrong = [lesson for lesson in lessons if rows_of_ink(lesson.tiles[0]) != len(lesson.answer.split("\n"))]
    # A row may hold a dash high above its line's descenders, or a quote above its commas: few do.
    assert len(lessons) > 50 and len(wrong) <= 0.02 * len(lessons)


def test_cells_name_characters_where_there_is_ink(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "damaged", lambda r, page: page)
    side, inked = TILE // CELLS, list[bool]()
    for lesson in drawn(False):
        for cell, numbers in enumerate(lesson.cells[0]):
            names = [CELL_CLASSES[number] for number in numbers if number > 0]
            assert all(name in lesson.answer for name in names)
            if any(name.isalnum() for name in names):
                row, column = divmod(cell, CELLS)
                rows, columns = (slice(max(0, n * side - 2), (n + 1) * side + 2) for n in (row, column))
                inked.append(bool(lesson.tiles[0][rows, columns].min() < 200))
    assert len(inked) > 500 and all(inked)


def test_the_question_is_that_of_ocr(face: str) -> None:
    line = Line(Box(0, 0, 40, 20), (Word(Box(0, 0, 40, 20)),), 10.0, 18)
    page = Page(1, 100, 100, (Region("text", line.box, (line,)),))
    request = PageRequest(FrameRef(0, 100, 100), 1)
    [prompt] = PageReading(request, page, PieceSize(TILE, NANO_X_HEIGHT)).prompts()
    assert pieces.lesson(rng(1), False).prompt.turns[0].parts[-1] == prompt.turns[0].parts[-1]


def test_lessons_follow_from_the_seed(face: str) -> None:
    first, again, other = (pieces.lessons(rng(seed), False, 12) for seed in (4, 4, 5))
    assert len(first) == len(other) == 12
    assert [lesson.answer for lesson in first] == [lesson.answer for lesson in again]
    assert all(np.array_equal(a.tiles, b.tiles) for a, b in zip(first, again, strict=True))
    assert [lesson.answer for lesson in first] != [lesson.answer for lesson in other]


def test_faces_of_held_out_families_are_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = {"LiberationSerif-Italic", "Carlito-Bold", "DejaVuSans-Bold", "DejaVuSans-BoldOblique"}
    trained = {"LiberationSans-BoldItalic", "DejaVuSans-Oblique", "Go-Smallcaps", "PTC55F"}
    for name in (*held_out, *trained, "Lato-Thin", "B612-Regular", "DejaVuSansCondensed-Bold"):
        (tmp_path / f"{name}.ttf").touch()
    monkeypatch.setattr(fonts, "FONT_ROOT", tmp_path)
    fonts.faces.cache_clear()
    names = [{Path(path).stem for path in fonts.faces(is_held_out)} for is_held_out in (False, True)]
    fonts.faces.cache_clear()
    assert names == [trained, held_out]


def test_accented_letters_and_signs_are_cells_and_tokens() -> None:
    chars = ACCENTED + SIGNS
    assert len(set(chars)) == len(chars)
    assert {CELL_CLASS[char] for char in chars}.isdisjoint({0}) and len({CELL_CLASS[char] for char in chars}) == len(
        chars
    )
    assert tokenizer().decode(tokenizer().encode(chars).ids) == chars
    printed_in_capitals = {capital for char in chars for capital in char.upper()}
    assert printed_in_capitals <= CELL_CLASS.keys()
