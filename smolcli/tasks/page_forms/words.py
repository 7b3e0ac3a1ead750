"""The words of a line with their boxes, also where the reply has another number of words than the layout found.

Line (text of n words, boxes of m words) -> n words with boxes
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from smolcli.inputs.page import Line, Word
from smolcli.types import Box

WIDE_GAP = 2.0  # x-heights: no space between two words of a sentence is as wide as an em; between columns it is wider
MAX_STEPS = 200_000  # of dividing the words of one line among its parts; more are a line in damaged data


def words_of(line: Line) -> list[Word]:
    """Return the words of the text of a line, each with a box; their texts, joined by spaces, are its text.

    Where the line has a box for each word, they are its own. Otherwise the words are divided among the parts of the
    line between wide gaps, so that their widths fit best, and laid over the print of each in proportion to their
    letters. Boxes run from the left to the right; words of a text that is read from the right begin at the last box.
    """
    texts = line.text.split()
    if [word.text for word in line.words] == texts:
        return list(line.words)
    if is_right_to_left(line.text):
        return _in_boxes(line, texts[::-1])[::-1]
    return _in_boxes(line, texts)


def is_right_to_left(text: str) -> bool:
    """Whether the first letter of a text is of Hebrew, Arabic or another script that is read from the right."""
    kinds = map(unicodedata.bidirectional, text)
    return next((kind != "L" for kind in kinds if kind in ("L", "R", "AL")), False)


def _in_boxes(line: Line, texts: Sequence[str]) -> list[Word]:
    """Return words with boxes of a line, from the left to the right."""
    if len(line.words) == len(texts):
        return [Word(word.box, text) for word, text in zip(line.words, texts, strict=True)]
    parts = _parts([word.box for word in line.words] or [line.box], WIDE_GAP * line.x_height)
    counts = _divided(list(map(len, texts)), [_width(part) for part in parts])
    ends = list(accumulate(counts, initial=0))
    return [
        word
        for part, (first, stop) in zip(parts, pairwise(ends), strict=True)
        for word in _laid_out(texts[first:stop], part)
    ]


def _parts(boxes: Sequence[Box], wide: float) -> list[list[Box]]:
    """Return the boxes of a line, divided at its wide gaps."""
    parts = [[boxes[0]]]
    for before, box in pairwise(boxes):
        if box.left - before.right > max(1.0, wide):
            parts.append([box])
        else:
            parts[-1].append(box)
    return parts


def _width(boxes: Sequence[Box]) -> int:
    """Return the width of the print in boxes that follow one another."""
    return sum(max(0, box.right - box.left) for box in boxes)


def _divided(letters: Sequence[int], widths: Sequence[int]) -> list[int]:
    """Return how many of the words with so many letters, in order, belong to each part of a line.

    The sum of the squares of the differences between the width of a part and that of its words is the least.
    """
    count, total = len(letters), max(1, sum(widths))
    if len(widths) == 1 or len(widths) * count * count > MAX_STEPS:
        return [count] + [0] * (len(widths) - 1)
    ends = list(accumulate(letters, initial=0))
    wanted = [width * ends[-1] / total for width in widths]
    # costs[i]: the least for the first i words in the parts so far; chosen[part][i]: where the part then begins
    costs = [0.0] + [float("inf")] * count
    chosen: list[list[int]] = []
    for letters_wanted in wanted:
        options = [
            [costs[first] + (ends[stop] - ends[first] - letters_wanted) ** 2 for first in range(stop + 1)]
            for stop in range(count + 1)
        ]
        chosen.append([min(range(len(option)), key=option.__getitem__) for option in options])
        costs = [min(option) for option in options]
    counts, stop = [], count
    for starts in reversed(chosen):
        counts.append(stop - starts[stop])
        stop = starts[stop]
    return counts[::-1]


def _laid_out(texts: Sequence[str], boxes: Sequence[Box]) -> list[Word]:
    """Return words laid in order over the boxes, from the left edge of the first to the right edge of the last."""
    letters = list(accumulate(map(len, texts), initial=0))
    edges = list(accumulate((max(0, box.right - box.left) for box in boxes), initial=0))  # in the print without gaps
    places = [round(count * edges[-1] / max(1, letters[-1])) for count in letters]
    return [Word(_part(boxes, edges, *place), text) for text, place in zip(texts, pairwise(places), strict=True)]


def _part(boxes: Sequence[Box], edges: Sequence[int], start: int, end: int) -> Box:
    """Return the box around the print from `start` to `end`, where box number i begins at edges[i]."""
    first = min(bisect_right(edges, start), len(boxes)) - 1
    last = max(first, min(bisect_left(edges, end), len(boxes)) - 1)
    left, right = boxes[first].left + start - edges[first], boxes[last].left + end - edges[last]
    touched = boxes[first : last + 1]
    return Box(left, min(box.top for box in touched), max(left, right), max(box.bottom for box in touched))
