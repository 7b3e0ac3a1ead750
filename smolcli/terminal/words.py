"""Words for people: lists in sentences, and one guess for a typing error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

CLOSE = 0.75  # difflib's ratio of two words, from which on one may be a typing error of the other


def enumerate_words(words: Sequence[str]) -> str:
    """Join words for a sentence.

    >>> enumerate_words(["text", "json", "csv"])
    'text, json or csv'
    """
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` is most likely a typing error of, or None where all are too different.

    >>> closest("captoin", ["caption", "ask"])
    'caption'
    >>> closest("cap", ["caption", "ask"])
    """
    from difflib import get_close_matches  # for errors alone

    matches = get_close_matches(word, known, n=1, cutoff=CLOSE)
    return matches[0] if matches else None
