"""What makes a reply of nano right: rules on its words and on the pixels of the picture, and the names nano thinks of.

says_right_colours(case, "a photograph, mostly green and blue")   # -> whether the pixels agree
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from smolcli.nano import kinds, photographs
from smolcli.nano.colours import NAMES, colour_shares
from smolcli.nano.dataset import BLANK
from smolcli.nano.suites import Case
from smolcli.nano.synthetic_images import COLOURS, NUMBERS, SHAPES
from smolcli.nano.thing_names import with_article

# How the captions of each kind begin; all others that name a background are of drawings.
_BEGINNINGS = {
    kinds.PHOTOGRAPH: ("a photograph", "a black and white photograph"),
    kinds.SCREENSHOT: ("a screenshot", "a dialog", "an error message"),
    kinds.PAGE: ("a page", 'the text "'),
    kinds.CHART: ("a bar chart with", "a line chart with", "a pie chart with", "a chart"),
    kinds.BLANK: (BLANK, "a blank"),
    kinds.NOISE: ("noise", "coloured noise"),
    kinds.PATTERN: ("a pattern",),
}
# All words that captions and tags of photographs are made of.
PHOTOGRAPH_WORDS = frozenset(
    (*NAMES, *photographs.OPPOSITE, "a", "photograph", "black", "and", "white", "mostly", "brighter", "at", "the")
)
COLOUR_MARGIN = 0.05  # of a picture's pixels: shares so near to a decision are right either way
SECOND_COLOUR = 0.2  # the least share of a colour that is named second


def kind_said(text: str) -> str:
    """The kind of picture that a caption says; "" if it says none.

    >>> kind_said("a dialog with two buttons"), kind_said("two cats on a white background")
    ('a screenshot', 'a drawing')
    """
    for kind, beginnings in _BEGINNINGS.items():
        if text.startswith(beginnings):
            return kind
    return kinds.DRAWING if text.startswith("a drawing") or text.endswith(" background") else ""


def says_kind(case: Case, text: str) -> bool:
    """Whether a caption is of the case's kind."""
    return kind_said(text) == case.answer


def is_equal(case: Case, text: str) -> bool:
    """Whether a reply is the right answer to the letter."""
    return text == case.answer


def contains_answer(case: Case, text: str) -> bool:
    """Whether the right answer is a part of the reply."""
    return case.answer in text


def names_same_shapes(case: Case, text: str) -> bool:
    """Whether a caption names the same shapes as the right one, as many of each, wherever it says that they are.

    Replies to other questions must be equal to the right answer.
    """
    named, wanted = shapes_named(text), shapes_named(case.answer)
    return named == wanted if wanted else text == case.answer


def shapes_named(text: str) -> Counter[str]:
    """How many of each shape a caption names.

    >>> shapes_named("two red crosses and one blue ring on a white background")
    Counter({'red cross': 2, 'blue ring': 1})
    """
    words = "|".join
    found = re.findall(rf"\b(an?|{words(NUMBERS)}) ({words(COLOURS)}) ({words(SHAPES)})", text)
    counts = Counter[str]()
    for number, colour, shape in found:
        counts[f"{colour} {shape}"] += NUMBERS.index(number) if number in NUMBERS else 1
    return counts


def says_unknown(case: Case, text: str) -> bool:
    """Whether a caption says "a drawing" and no more than its colours."""
    return text.startswith("a drawing")


def invents_nothing(case: Case, text: str) -> bool:
    """Whether every word of a caption or of tags may be said of a photograph, and there is one.

    >>> from PIL import Image
    >>> from smolcli.types import Prompt
    >>> case = Case(Prompt.user("What is it?"), "", Image.new("RGB", (1, 1)))
    >>> invents_nothing(case, "a photograph, mostly blue"), invents_nothing(case, "a blue house")
    (True, False)
    """
    words = re.findall(r"[^\s,]+", text)
    return bool(words) and PHOTOGRAPH_WORDS.issuperset(words)


def says_right_colours(case: Case, text: str) -> bool:
    """Whether a caption or tags name the main colours of the picture, or "black and white" where it has none.

    Right are, within COLOUR_MARGIN, the largest share first and a second colour of at least SECOND_COLOUR.
    """
    pixels = np.asarray(case.picture)
    if "black and white" in text:
        return photographs.is_gray(pixels)
    shares = colour_shares(pixels)
    named = [name for name in re.findall(r"[a-z]+", text) if name in NAMES]
    sizes = [shares.get(name, 0.0) for name in named]
    if not 1 <= len(named) <= 2 or len(set(named)) < len(named) or photographs.is_gray(pixels):
        return False
    others = [share for name, share in shares.items() if name not in named]
    if sizes[0] < max(shares.values()) - COLOUR_MARGIN:
        return False
    if len(named) == 1:
        return max(others, default=0.0) <= SECOND_COLOUR + COLOUR_MARGIN
    is_second = sizes[1] >= max(others, default=0.0) - COLOUR_MARGIN
    return is_second and sizes[1] >= SECOND_COLOUR - COLOUR_MARGIN


def character_error_rate(cases: Sequence[Case], texts: Sequence[str]) -> float:
    """Insertions, deletions and substitutions of characters in all replies, per character of the right answers."""
    distance = sum(Levenshtein.distance(case.answer, text) for case, text in zip(cases, texts, strict=True))
    return distance / sum(len(case.answer) for case in cases)


# ---- names -----------------------------------------------------------------------------------------


def beginning(name: str) -> str:
    """How the caption of one thing of this name begins, up to where no other name's begins alike."""
    return f"{with_article(name)} on"


def name_said(text: str, names: Iterable[str]) -> str:
    """Which of `names` a caption of one thing says; "" if none."""
    return next((name for name in names if text.startswith(f"{beginning(name)} ")), "")


def likely_names(
    next_logits: Callable[[tuple[int, ...]], np.ndarray[Any, Any]], tokens: Mapping[str, tuple[int, ...]], count: int
) -> list[str]:
    """The `count` names whose `tokens` are the most probable, the most probable first.

    `next_logits` gives the logits (vocabulary,) after some tokens. The search is exact: it always goes on from the most
    probable beginning, so that it looks at few.
    """
    children: dict[tuple[int, ...], set[int]] = {}
    names = {ids: name for name, ids in tokens.items()}
    for ids in names:
        for length in range(len(ids)):
            children.setdefault(ids[:length], set()).add(ids[length])
    found: list[str] = []
    beginnings: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # by improbability: minus the log-probability
    while beginnings and len(found) < count:
        improbability, ids = heapq.heappop(beginnings)
        if ids in names:
            found.append(names[ids])
            continue
        logits = next_logits(ids).astype(np.float64)
        total = np.logaddexp.reduce(logits)
        for token in children[ids]:
            heapq.heappush(beginnings, (improbability + float(total - logits[token]), (*ids, token)))
    return found
