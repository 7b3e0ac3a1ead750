"""Words for people: lists in sentences, durations and rates, and one guess for a typing error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

LEAST_LETTERS = 3  # of the beginning of a word
CLOSE = 0.75  # difflib's ratio of two words, from which on one may be a typing error of the other


def enumerate_words(words: Sequence[str]) -> str:
    """Join words for a sentence.

    >>> enumerate_words(["text", "json", "csv"])
    'text, json or csv'
    """
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def format_duration(seconds: float) -> str:
    """Return hours, minutes and seconds.

    >>> format_duration(29.4)
    '0:00:29'
    """
    return str(timedelta(seconds=round(seconds)))


def format_rate(count: int, seconds: float, noun: str) -> str:
    """Return how fast `count` things called `noun` were done: how many a second, or below one the seconds of each.

    >>> format_rate(30, 12, "picture"), format_rate(3, 12, "picture")
    ('2.5 pictures/s', '4.0 s a picture')
    """
    return f"{count / seconds:.1f} {noun}s/s" if count >= seconds else f"{seconds / count:.1f} s a {noun}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` is most likely a typing error or the beginning of, in any case.

    None where all are too different.

    >>> closest("captoin", ["caption", "ask"]), closest("--vision", ["--vision-engine", "--mmproj"])
    ('caption', '--vision-engine')
    >>> closest("c", ["caption", "ask"])
    """
    from difflib import get_close_matches  # for errors alone

    word, names = word.lower(), list(known)
    begun = [name for name in names if name.startswith(word)]
    if len(begun) == 1 and len(word.lstrip("-")) >= LEAST_LETTERS:
        return begun[0]
    matches = get_close_matches(word, names, n=1, cutoff=CLOSE)
    return matches[0] if matches else None
