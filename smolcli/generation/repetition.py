"""Small models get stuck: tells where a text has begun to repeat itself without end.

A loop is the same unit again and again up to the end of the text. What documents repeat in good faith stays: dot
leaders, table rules, ruled lines and rows of zeros have no letter and are short; lists count; refrains come thrice.
"""

from __future__ import annotations

import re

TIMES = 4  # a unit so often in a row
LONGEST_UNIT = 400  # characters; a detector that looks back less than a loop's length never sees it
SPAN = 200  # characters that the repeats fill
SPAN_WITHOUT_LETTERS = 400  # the same where the unit is digits, dots, dashes ...: the rule of a wide table has 240
WHITE_SPACE = 64  # characters of white space in a row
TAIL = 2000  # characters looked at; more than TIMES * LONGEST_UNIT
EVERY = 32  # new characters from one look to the next

_ENDS = tuple(map(re.compile, (r"\n", r"(?<=[.!?])\s|(?<=\u3002)", r"\s")))  # of a line, a sentence, a word
_LETTER = re.compile(r"[^\W\d_]")


def find_loop(text: str) -> int | None:
    """Where to cut a text that ends in a loop, so that the unit is left once; None for any other text.

    The unit of a loop has no beginning of its own; it is taken to end where a line does, else a sentence, else a word.

    >>> text = "A cat sat. " + "It sat on the mat. " * 20
    >>> text[:find_loop(text)]
    'A cat sat. It sat on the mat.'
    >>> find_loop("Chapter 1 " + "." * 100) is None
    True
    """
    if len(text) - len(text.rstrip()) >= WHITE_SPACE:
        return len(text.rstrip()) + 1
    tail = text[-TAIL:]
    unit = _unit(tail)
    if unit is None:
        return None
    start = len(text) - TIMES * unit
    while start > 0 and text[start - 1] == text[start - 1 + unit]:
        start -= 1
    first = start + unit
    ends = (end.search(text, first - 1, first - 1 + unit) for end in _ENDS)  # one before: white space is no loss
    return next((end.start() for end in ends if end), first)


class RepetitionGuard:
    """Watches one reply as it grows; `text` is all of it, `cut` where its loop is cut, None while there is none."""

    def __init__(self) -> None:
        self.text = ""
        self.cut: int | None = None
        self._seen = 0  # characters at the last look

    def add(self, text: str) -> bool:
        """Whether the reply, with `text` at its end, loops; once it does it does for good."""
        self.text += text
        if len(self.text) - self._seen >= EVERY:
            self.look()
        return self.cut is not None

    def look(self) -> None:
        """Looks now, however little is new."""
        self._seen = len(self.text)
        if self.cut is None:
            self.cut = find_loop(self.text)


def _unit(tail: str) -> int | None:
    """The length of the unit that `tail` repeats at its end; of several loops that of the longest span.

    The smallest period of a text is its length less that of its longest border (a beginning that is also an end); the
    prefix function of Knuth, Morris and Pratt gives the longest border of every beginning in one pass. Read from its
    end, the tail's beginnings are its ends.
    """
    back = tail[::-1]
    border = [0] * len(back)
    found = None
    length = 0
    for at in range(1, len(back)):
        while length and back[at] != back[length]:
            length = border[length - 1]
        length += back[at] == back[length]
        border[at] = length
        span, unit = at + 1, at + 1 - length
        if span >= max(SPAN, TIMES * unit) and unit <= LONGEST_UNIT and span >= _least(back[:unit]):
            found = unit
    return found


def _least(unit: str) -> int:
    return SPAN if _LETTER.search(unit) else SPAN_WITHOUT_LETTERS
