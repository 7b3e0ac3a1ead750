"""The kinds of picture that nano tells apart, the questions about them, and the words of its answers."""

from __future__ import annotations

from smolcli.nano.synthetic_images import Rng, pick

PHOTOGRAPH, DRAWING, SCREENSHOT, PAGE, CHART, BLANK, NOISE, PATTERN = (
    "a photograph", "a drawing", "a screenshot", "a page of text", "a chart", "a blank picture", "noise",
    "a pattern",
)  # fmt: skip
KINDS = (PHOTOGRAPH, DRAWING, SCREENSHOT, PAGE, CHART, BLANK, NOISE, PATTERN)
KIND_QUESTIONS = (
    "What kind of picture is this?",
    "What kind of image is this?",
    "What type of picture is it?",
    "Is this a photograph or a drawing?",
)
CANNOT_TELL = "I cannot tell"


def about_kind(rng: Rng, kind: str) -> tuple[str, str]:
    """A question about the kind of a picture and its answer."""
    if rng.random() < 0.5:
        return pick(rng, KIND_QUESTIONS), kind
    asked = pick(rng, KINDS)
    if rng.random() < 0.4:
        asked = kind
    return f"Is this {asked}?", "yes" if asked == kind else "no"


def in_colours(colours: tuple[str, ...]) -> str:
    """The words for one or two main colours.

    >>> in_colours(("green", "blue"))
    'mostly green and blue'
    """
    return f"mostly {' and '.join(colours)}"
