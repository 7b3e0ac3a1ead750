"""The text of a page as the operators of a PDF that draw it invisibly, each word as wide as its box.

    Page -> lines -> words with boxes -> BT ... ET, in pixels of the upright page, from its lower left corner

What programs that search PDFs need (https://github.com/ocrmypdf/OCRmyPDF, issues 1391, 1632, 1635 and 1655): one text
object a line, a space after each word but none in scripts without spaces, and words that are read from the right with
their characters from the left. On a skewed page each word is flat, so that no program divides it, and the words of a
line stand on a straight slope.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from smolcli.inputs.page import Line, Page, Word
from smolcli.tasks.page_forms.join import CJK
from smolcli.tasks.page_forms.words import is_right_to_left, words_of

INVISIBLE = 3  # the text rendering mode that neither fills nor strokes (ISO 32000, 9.3.6)
FONT = "/F0"
WIDTH = 0.5  # of a character, in font sizes, as glyphless_font.py makes it
X_HEIGHT = 0.5  # of a small letter, in font sizes, as in most fonts for text
# How much a line may rise or fall from its one end to the other, in font sizes. Poppler takes what is over half a font
# size higher than the first word for another line (TextOutputDev.cc, maxIntraLineDelta), so a line of a page that is
# more skewed is drawn flatter than it is printed, through its middle.
MAX_RISE = 0.45
MIN_GAP = 0.2  # font sizes between two words; pdftotext -raw takes words without it for one, whatever space is there
MIN_ADVANCE = 0.3  # font sizes from character to character, on an average; narrower print gets a smaller font size
MIN_STRETCH, MAX_STRETCH = 1.0, 10_000.0  # per cent


def layer(page: Page, encode: Callable[[str], str], skew: float) -> str:
    """Return the operators that draw the text of a page; `encode` gives the codes of a text in the font in hex.

    `skew` is the slope in degrees that lines will have on the original, counterclockwise.
    """
    return "".join(_text_object(line, page.height, encode, skew) for line in page.lines if line.text.strip())


def _text_object(line: Line, height: int, encode: Callable[[str], str], skew: float) -> str:
    """Return BT ... ET of one line; its baseline is straight."""
    words = sorted(words_of(line), key=lambda word: word.box.left)
    start, width = words[0].box.left, max(1, words[-1].box.right - words[0].box.left)
    size = max(1.0, line.x_height / X_HEIGHT or line.box.bottom - line.box.top)
    size = min(size, width / (MIN_ADVANCE * len(line.text)))
    most = math.degrees(math.atan(MAX_RISE * size / width))
    slope = math.radians(min(max(skew, -most), most))
    x = start + width / 2 * (1 - math.cos(slope - math.radians(skew)))  # turned about its middle
    y = height - line.baseline - width / 2 * math.sin(slope - math.radians(skew))
    cos, sin = math.cos(math.radians(skew)), -math.sin(math.radians(skew))  # words are flat on the original
    matrix = " ".join(f"{number:.5f}".rstrip("0").rstrip(".") for number in (cos, sin, -sin, cos, x, y))
    operators = [f"BT {INVISIBLE} Tr {FONT} {size:.3f} Tf {matrix} Tm"]
    for before, word, following in zip([None, *words], words, [*words[1:], None], strict=False):
        if before is not None:
            step = word.box.left - before.box.left
            operators.append(f"{step * math.cos(slope):.2f} {step * math.sin(slope):.2f} Td")
        stretch = 100 * _drawn_width(word, following, size) / (len(word.text) * WIDTH * size)
        codes = encode(_drawn(word.text) + " " * _has_space(word, following))
        operators.append(f"{min(max(stretch, MIN_STRETCH), MAX_STRETCH):.2f} Tz <{codes}> Tj")
    return " ".join([*operators, "ET\n"])


def _drawn_width(word: Word, following: Word | None, size: float) -> float:
    """Return the width of a word, so that the gap after it says what is there: a space, or none in some scripts."""
    left, right = word.box.left, float(word.box.right)
    if following is not None:
        widest = following.box.left - MIN_GAP * size
        right = min(right, max(widest, (left + right) / 2)) if _has_space(word, following) else following.box.left
    return max(1.0, right - left)


def _has_space(word: Word, following: Word | None) -> bool:
    return following is None or not (CJK.match(word.text[-1]) and CJK.match(following.text[0]))


def _drawn(text: str) -> str:
    """Return the characters of a word from the left to the right."""
    return text[::-1] if is_right_to_left(text) else text
