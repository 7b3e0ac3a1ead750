"""Detects replies that repeat themselves without end, as those of small models do.

A loop is a unit of text that is repeated again and again up to the end of the text. Some repetition is legitimate in
documents and is not a loop: dot leaders, table rules, ruled lines and rows of zeros have no letters and are short;
items of a list are counted; refrains come three times.
"""

from __future__ import annotations

import re

MIN_REPEATS = 4  # of a unit in a row
MAX_UNIT = 400  # characters; a detector that looks back less than a loop's length never sees the loop
MIN_SPAN = 200  # characters that the repeats cover
MIN_SPAN_WITHOUT_LETTERS = 400  # the same if the unit is digits, dots, dashes ...: the rule of a wide table has 240
MAX_WHITE_SPACE = 64  # characters of white space in a row
TAIL = 2000  # characters searched; more than MIN_REPEATS * MAX_UNIT
CHECK_INTERVAL = 32  # new characters between two searches

_ENDS = tuple(map(re.compile, (r"\n", r"(?<=[.!?])\s|(?<=\u3002)", r"\s")))  # of a line, a sentence, a word
_LETTER = re.compile(r"[^\W\d_]")


def find_loop(text: str) -> int | None:
    """Return where to cut off a text that ends in a loop, so that its unit is left once; None if there is no loop.

    The unit of a loop has no start of its own. It is taken to end at the end of a line, otherwise of a sentence,
    otherwise of a word.

    >>> text = "A cat sat. " + "It sat on the mat. " * 20
    >>> text[:find_loop(text)]
    'A cat sat. It sat on the mat.'
    >>> find_loop("Chapter 1 " + "." * 100) is None
    True
    """
    if len(text) - len(text.rstrip()) >= MAX_WHITE_SPACE:
        return len(text.rstrip()) + 1
    unit = _unit_length(text[-TAIL:])
    if unit is None:
        return None
    start = len(text) - MIN_REPEATS * unit
    while start > 0 and text[start - 1] == text[start - 1 + unit]:
        start -= 1
    first_end = start + unit
    matches = (end.search(text, first_end - 1, first_end - 1 + unit) for end in _ENDS)  # white space may be cut too
    return next((match.start() for match in matches if match), first_end)


class RepetitionGuard:
    """Watches one reply as it grows.

    `text` is the reply so far, `cut` where its loop is cut off; None if there is no loop.
    """

    def __init__(self) -> None:
        self.text = ""
        self.cut: int | None = None
        self._checked = 0  # characters at the last check

    def add(self, text: str) -> bool:
        """Append `text`; return whether the reply loops. Once it does, the answer stays True."""
        self.text += text
        if len(self.text) - self._checked >= CHECK_INTERVAL:
            self.check()
        return self.cut is not None

    def check(self) -> None:
        """Search for a loop now, however little text is new."""
        self._checked = len(self.text)
        if self.cut is None:
            self.cut = find_loop(self.text)


def _unit_length(tail: str) -> int | None:
    """Return the length of the unit that `tail` repeats at its end; of several loops, that of the longest span.

    The smallest period of a text is its length minus the length of its longest border (a prefix that is also a
    suffix). The prefix function of Knuth, Morris and Pratt gives the longest border of every prefix in one pass. It
    runs over the reversed tail, whose prefixes are the ends of the tail.
    """
    if len(tail) < MIN_SPAN:
        return None
    back = tail[::-1]
    borders = [0] * len(back)
    unit_length = None
    border = 0
    for position in range(1, len(back)):
        while border and back[position] != back[border]:
            border = borders[border - 1]
        border += back[position] == back[border]
        borders[position] = border
        span, period = position + 1, position + 1 - border
        if span >= max(MIN_SPAN, MIN_REPEATS * period) and period <= MAX_UNIT and span >= _min_span(back[:period]):
            unit_length = period
    return unit_length


def _min_span(unit: str) -> int:
    return MIN_SPAN if _LETTER.search(unit) else MIN_SPAN_WITHOUT_LETTERS
