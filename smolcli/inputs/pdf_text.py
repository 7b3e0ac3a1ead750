"""The text layer of a PDF's page: the words that it holds as text, with their boxes, if they are sound.

    characters of PDFium -> words -> lines -> regions, in reading order

PDFium gives the characters in the order in which the file draws them, with line ends and spaces where it finds gaps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from ctypes import c_double
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

from smolcli.inputs.page import Line, Page, Region, Word
from smolcli.inputs.pdf_content import Matrix, PageContent, multiply
from smolcli.types import Box

# Limits of MinerU's test for a text layer, in parts of the page's characters: those without a known letter, and control
# characters, private ones and U+FFFD. A page of pictures needs MIN_CHARACTERS.
MAX_UNMAPPED, MAX_UNREADABLE = 0.04, 0.03
MIN_CHARACTERS = 50
MIN_ALPHANUMERIC = 0.3  # marker's limit; dots and lines that lead to a number do not count
MAX_SWAPPED = 0.5  # of the characters; those of a file that has swapped the bytes of UTF-16 end with a zero byte
MAX_CHARACTERS = 300_000  # of a page; more are no text for people
MAX_OUTLINES = 200  # paths beside a few characters: the other text may be outlines
MIN_HEIGHT = 0.25  # of a page's height, over which visible text on a scan must spread; else it is a stamp
LEADERS = "._-*=~\u00b7\u2010\u2011\u2012\u2013\u2014\u2015\u2022\u2026\u22c5"
LETTERS = {  # a hyphen at the end of a line, for PDFium, and ligatures
    0x02: "-",
    0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st",
}  # fmt: skip
SMALL_LETTERS = frozenset("acemnorsuvwxz")  # as high as an x
X_HEIGHT = 0.5  # of the font size, where there are no small letters
HEADING = 1.2  # times the usual x-height of the page
MAX_HEADING_LINES = 3
USUAL_PITCH, MAX_PITCH = 3.0, 6.0  # x-heights from a line to the next one: where nothing is known, and at most
MAX_STEP = 1.3  # times the usual pitch, within a paragraph


class Character(NamedTuple):
    """A character with its box in pixels, and the y of its baseline."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    baseline: float


class TextLayer(NamedTuple):
    """The text of a page. `is_invisible` says that it lies unseen over a picture: somebody has read that by OCR."""

    page: Page
    is_invisible: bool


def read(page: pypdfium2.PdfPage, content: PageContent, width: int, height: int) -> TextLayer | None:
    """Return the text layer of an open page, in pixels of its picture of `width` x `height`; None if it is not sound.

    The page has no number and no dpi yet.
    """
    with closing(page.get_textpage()) as text_page:
        count = pdfium.FPDFText_CountChars(text_page)
        if not 0 < count <= MAX_CHARACTERS:
            return None
        turn = _turn_of(text_page, count, page.get_rotation())
        matrix, size = _turned(_to_pixels(page, width, height), turn, width, height)
        lines = list(_lines(text_page, count, matrix, size))
        share_unmapped = _share_unmapped(text_page, count)
    is_invisible = content.is_picture and content.invisible_texts > content.visible_texts
    if share_unmapped >= MAX_UNMAPPED or not _is_sound(lines, content, is_invisible, size):
        return None
    regions = _in_reading_order(_regions(_join_lines(lines)))
    return TextLayer(Page(1, *size, tuple(regions), turn=turn, has_text_layer=True), is_invisible)


def _to_pixels(page: pypdfium2.PdfPage, width: int, height: int) -> Matrix:
    """The matrix from the page's coordinates to pixels: it knows of the crop box, the rotation and the origin."""
    corners = []
    x, y = c_double(), c_double()
    for column, row in ((0, 0), (width, 0), (0, height)):
        pdfium.FPDF_DeviceToPage(page, 0, 0, width, height, 0, column, row, x, y)
        corners.append((x.value, y.value))
    (e, f), (right_x, right_y), (down_x, down_y) = corners
    a, b, c, d = (right_x - e) / width, (right_y - f) / width, (down_x - e) / height, (down_y - f) / height
    determinant = a * d - b * c or 1e-9
    p, q, r, s = d / determinant, -b / determinant, -c / determinant, a / determinant
    return p, q, r, s, -(e * p + f * r), -(e * q + f * s)


def _turned(matrix: Matrix, turn: int, width: int, height: int) -> tuple[Matrix, tuple[int, int]]:
    """The matrix to the pixels of the page turned clockwise by `turn` degrees, and its size then."""
    if turn == 90:
        return multiply(matrix, (0, 1, -1, 0, height, 0)), (height, width)
    if turn == 180:
        return multiply(matrix, (-1, 0, 0, -1, width, height)), (width, height)
    if turn == 270:
        return multiply(matrix, (0, -1, 1, 0, 0, width)), (height, width)
    return matrix, (width, height)


def _turn_of(text_page: pypdfium2.PdfTextPage, count: int, rotation: int) -> int:
    """How many degrees the page must be turned clockwise for most of its characters to be upright."""
    quarters: Counter[int] = Counter()
    for index in range(0, count, max(1, count // 200)):
        angle = pdfium.FPDFText_GetCharAngle(text_page, index)  # clockwise, in radians
        if angle >= 0 and pdfium.FPDFText_IsGenerated(text_page, index) != 1:
            quarters[round(math.degrees(angle) / 90) % 4] += 1
    return -(quarters.most_common(1)[0][0] * 90 + rotation) % 360 if quarters else 0


# ---- characters to lines -----------------------------------------------------------------------------------


def _lines(
    text_page: pypdfium2.PdfTextPage, count: int, matrix: Matrix, size: tuple[int, int]
) -> Iterator[list[list[Character]]]:
    """Yield the words of each line, in the order of the file; what lies outside the page is left out."""
    words: list[list[Character]] = []
    word: list[Character] = []
    for text, index in _texts(text_page, count):
        if text.isspace():
            words, word = [*words, word] if word else words, []
            if text in "\r\n" and words:
                yield words
                words = []
            continue
        character = _character(text_page, index, text, matrix)
        if word and _is_on_next_line(word[-1], character):
            yield [*words, word]
            words, word = [], []
        x, y = (character.left + character.right) / 2, (character.top + character.bottom) / 2
        if 0 <= x < size[0] and 0 <= y < size[1]:
            word.append(character)
    if word:
        words.append(word)
    if words:
        yield words


def _is_on_next_line(before: Character, character: Character) -> bool:
    """Whether a line has ended between two characters, which PDFium does not say after a hyphen."""
    return character.left < before.left and character.top >= before.baseline


def _texts(text_page: pypdfium2.PdfTextPage, count: int) -> Iterator[tuple[str, int]]:
    """Yield the characters with their index; one beyond U+FFFF is two for PDFium on some systems."""
    high = 0
    for index in range(count):
        code = pdfium.FPDFText_GetUnicode(text_page, index)
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000 and high:
            code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)
        high = 0
        yield LETTERS.get(code) or chr(code), index


def _character(text_page: pypdfium2.PdfTextPage, index: int, text: str, matrix: Matrix) -> Character:
    """The box of a character: that of its ink, or of its font where the ink has none."""
    left, right, bottom, top = c_double(), c_double(), c_double(), c_double()
    pdfium.FPDFText_GetCharBox(text_page, index, left, right, bottom, top)
    if right.value > left.value and top.value > bottom.value:
        first, second = (left.value, bottom.value), (right.value, top.value)
    else:
        loose = pdfium.FS_RECTF()
        pdfium.FPDFText_GetLooseCharBox(text_page, index, loose)
        first, second = (loose.left, loose.bottom), (loose.right, loose.top)
    pdfium.FPDFText_GetCharOrigin(text_page, index, left, bottom)
    baseline = _apply(matrix, left.value, bottom.value)[1]
    (x, y), (other_x, other_y) = _apply(matrix, *first), _apply(matrix, *second)  # the page is turned by quarters alone
    return Character(text, min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y), baseline)


def _apply(matrix: Matrix, x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = matrix
    return a * x + c * y + e, b * x + d * y + f


def _share_unmapped(text_page: Any, count: int) -> float:
    """The part of the characters whose letter the file does not say."""
    step = max(1, count // 1000)
    asked = [index for index in range(0, count, step) if pdfium.FPDFText_IsGenerated(text_page, index) != 1]
    unmapped = [index for index in asked if pdfium.FPDFText_HasUnicodeMapError(text_page, index) == 1]
    return len(unmapped) / max(1, len(asked))


def _is_sound(
    lines: Sequence[list[list[Character]]], content: PageContent, is_invisible: bool, size: tuple[int, int]
) -> bool:
    """Whether what was found is the text of the page, and not a part of it or letters without a meaning."""
    characters = [character for line in lines for word in line for character in word]
    text = "".join(character.text for character in characters)
    if not text:
        return False
    if not has_meaning(text):
        return False
    if len(text) < MIN_CHARACTERS and (content.is_picture or content.paths > MAX_OUTLINES):
        return False
    if content.is_picture and not is_invisible:
        spread = max(character.bottom for character in characters) - min(character.top for character in characters)
        return spread >= MIN_HEIGHT * size[1]
    return True


def has_meaning(text: str) -> bool:
    r"""Whether a text is made of letters that mean something, as far as they alone can tell.

    >>> has_meaning("Invoice 12"), has_meaning("\ue012\ue044"), has_meaning("䴀甀氀琀椀")
    (True, False, False)
    """
    if sum(not is_readable(letter) for letter in text) >= MAX_UNREADABLE * len(text):
        return False
    if sum(ord(letter) > 0xFF and not ord(letter) & 0xFF for letter in text) > MAX_SWAPPED * len(text):
        return False
    counted = [letter for letter in text if letter not in LEADERS]
    return sum(map(str.isalnum, counted)) >= MIN_ALPHANUMERIC * len(counted)


def is_readable(letter: str) -> bool:
    """Whether a character stands for something: it is no control character, private one, surrogate or U+FFFD."""
    code = ord(letter)
    is_private = 0xE000 <= code < 0xF900 or code >= 0xF0000
    return not (
        code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000 or code in (0xFFFD, 0xFFFE, 0xFFFF) or is_private
    )


# ---- lines to regions --------------------------------------------------------------------------------------


def _join_lines(lines: Sequence[list[list[Character]]]) -> list[Line]:
    """Make the lines; what stands on the line before, right after it, is a part of that."""
    made: list[Line] = []
    for words in lines:
        line = _line(words)
        if made and _goes_on(made[-1], line):
            made[-1] = _joined(made[-1], line)
        else:
            made.append(line)
    return made


def _line(words: list[list[Character]]) -> Line:
    characters = [character for word in words for character in word]
    made = tuple(Word(_box(word), "".join(character.text for character in word)) for word in words)
    small = [character.bottom - character.top for character in characters if character.text in SMALL_LETTERS]
    heights = [character.bottom - character.top for character in characters]
    x_height = median(small) if small else max(heights) * X_HEIGHT / 0.7  # 0.7 of the size: a capital or digit
    baseline = round(median(character.baseline for character in characters))
    return Line(_box(characters), made, max(1.0, x_height), baseline, " ".join(word.text for word in made))


def _box(characters: Sequence[Character]) -> Box:
    left, top = (math.floor(min(values)) for values in ([c.left for c in characters], [c.top for c in characters]))
    right, bottom = (
        math.ceil(max(values)) for values in ([c.right for c in characters], [c.bottom for c in characters])
    )
    return Box(max(0, left), max(0, top), max(right, left + 1), max(bottom, top + 1))


def _goes_on(before: Line, line: Line) -> bool:
    """Whether a line is the rest of the one before it, which PDFium has cut where the font changes."""
    shared = min(before.box.bottom, line.box.bottom) - max(before.box.top, line.box.top)
    lower = min(before.box.bottom - before.box.top, line.box.bottom - line.box.top)
    gap = line.box.left - before.box.right
    return shared > lower / 2 and -line.x_height < gap < 2 * max(before.x_height, line.x_height)


def _joined(before: Line, line: Line) -> Line:
    longer = before if len(before.text) >= len(line.text) else line
    return replace(
        longer,
        box=_hull([before.box, line.box]),
        words=(*before.words, *line.words),
        text=f"{before.text} {line.text}",
    )


def _hull(boxes: Sequence[Box]) -> Box:
    return Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )


def _regions(lines: Sequence[Line]) -> list[Region]:
    """Group lines that follow one another without a gap, one below the other and of one size."""
    usual = _usual_pitch(lines)
    groups: list[list[Line]] = []
    for line in lines:
        if groups and _is_below(groups[-1][-1], line, usual):
            groups[-1].append(line)
        else:
            groups.append([line])
    x_height = median(line.x_height for line in lines for _ in line.words)
    return [_region(group, x_height) for group in groups]


def _usual_pitch(lines: Sequence[Line]) -> float:
    """The usual distance of two baselines in x-heights; it is 2.3 to 3.5 in books."""
    pitches = [(line.baseline - before.baseline) / line.x_height for before, line in pairwise(lines)]
    close = [pitch for pitch in pitches if 1 < pitch < MAX_PITCH]
    return median(close) if close else USUAL_PITCH


def _is_below(before: Line, line: Line, usual: float) -> bool:
    """Whether a line goes on with the region of the one before it."""
    x_height = max(before.x_height, line.x_height)
    overlaps = min(before.box.right, line.box.right) > max(before.box.left, line.box.left)
    is_of_its_size = x_height < HEADING * min(before.x_height, line.x_height)
    return overlaps and is_of_its_size and 0 < line.baseline - before.baseline <= MAX_STEP * usual * x_height


def _region(lines: Sequence[Line], usual: float) -> Region:
    is_heading = len(lines) <= MAX_HEADING_LINES and min(line.x_height for line in lines) >= HEADING * usual
    box = _hull([line.box for line in lines])
    return Region("heading" if is_heading else "text", box, tuple(lines), level=1 if is_heading else 0)


def _in_reading_order(regions: Sequence[Region]) -> list[Region]:
    """Put each region behind those that lie above it; else the order of the file stays.

    Many files draw the header and the footer of a page first.
    """
    above = [{other for other in range(len(regions)) if _is_above(regions[other], region)} for region in regions]
    ordered: list[int] = []
    waiting = list(range(len(regions)))
    while waiting:
        done = set(ordered)
        following = next((index for index in waiting if above[index] <= done), waiting[0])
        ordered.append(following)
        waiting.remove(following)
    return [regions[index] for index in ordered]


def _is_above(region: Region, other: Region) -> bool:
    """Whether a region lies above another one and shares columns of pixels with it."""
    overlaps = min(region.box.right, other.box.right) > max(region.box.left, other.box.left)
    return overlaps and region is not other and region.box.bottom <= other.box.top
