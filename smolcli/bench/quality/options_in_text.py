r"""Finds the options of a multiple-choice question that stand in its own text, as in MMStar's parquet.

    Which animal is it?\nOptions: A: a cat, B: a dog
    Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\nQuestion:
    How many are there?\nChoices:\n(A) 10\n(B) 15

Most questions of MMStar have the first form, those that it took from MathVista the second.
"""

from __future__ import annotations

import re
from string import ascii_uppercase

# What stands before the first option: a heading, or the line on which the first option in brackets begins.
_HEADING = re.compile(r"(?:^|\s)(?:Options|Choices):\s*|\n\s*(?=\(A\))")
_LETTER = re.compile(r"(?:^|[,\n])\s*(?:\(([A-Z])\)|([A-Z]):)")
# Where a question of MMStar has fewer than four options, "nan" stands for the others. VLMEvalKit leaves them out, since
# its table reader, pandas, takes this word for a missing value.
_NO_OPTION = "nan"


def options_in(question: str) -> tuple[tuple[str, str], ...]:
    r"""The letters and texts of the options in a question; () if it has none.

    The letters are A, B, C ... in this order; a text ends where the next letter begins.

    >>> options_in("Which animal is it?\nOptions: A: a cat, black, B: a dog, C: nan")
    (('A', 'a cat, black'), ('B', 'a dog'))
    >>> options_in("How many are there?\nChoices:\n(A) 10\n(B) 15")
    (('A', '10'), ('B', '15'))
    """
    *before, text = _HEADING.split(question)
    if not before:
        return ()
    starts: list[re.Match[str]] = []
    for match in _LETTER.finditer(text):
        if len(starts) < len(ascii_uppercase) and ascii_uppercase[len(starts)] in match.groups():
            starts.append(match)
    if len(starts) < 2 or starts[0].start() > 0:
        return ()
    ends = [match.start() for match in starts[1:]] + [len(text)]
    texts = [text[match.end() : end].strip() for match, end in zip(starts, ends, strict=True)]
    options = zip(ascii_uppercase, texts, strict=False)
    return tuple((letter, text) for letter, text in options if text.lower() not in ("", _NO_OPTION))
