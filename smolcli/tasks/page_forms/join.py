r"""Lines of print to running text: which hyphens at the ends of lines stay.

    ["The exam-", "ple of n-", "tridecanal"] -> "The example of n-tridecanal"

Whether a hyphen at the end of a line belongs to the word cannot be seen there. It is kept where the same word has it
inside a line of the document, and where joining is known to spoil words (https://github.com/docling-project/docling
issues 4151, 4180 and 3886: n-tridecanal became ntridecanal).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from smolcli.inputs.page import Line, Page

SOFT_HYPHEN = "\u00ad"
HYPHENS = "\u2010\u2011\u2043-"  # hyphen, non-breaking hyphen, hyphen bullet, hyphen-minus; no dash
# After a hyphen that stands for the rest of a word, as in "Vor- und Nachteile", "pre- or postwar".
CONJUNCTIONS = frozenset(
    ("und", "oder", "bis", "sowie", "bzw", "and", "or", "nor", "to", "et", "ou", "y", "e", "o", "en", "of", "og", "och")
)
WITHOUT_SPACE_AFTER = "/\u2014"  # a slash or an em dash that has no space before it has none after it
COMPOUND = re.compile(rf"\w+(?:[{HYPHENS}]\w+)+")
LAST_PART = re.compile(rf"[\w{HYPHENS}]*[{HYPHENS}]\Z")  # the last word of a line that ends in a hyphen
FIRST_PART = re.compile(rf"\w+(?:[{HYPHENS}]\w+)*")
# Scripts that are written without spaces: kana, CJK ideographs and their punctuation, full-width forms.
CJK = re.compile(
    "[\u2e80-\u2fdf\u3000-\u30ff\u3130-\u318f\u31c0-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)


class Joint(NamedTuple):
    """How two lines become one: `dropped` characters go from the end of the first, `separator` comes between them."""

    dropped: int
    separator: str

    @property
    def joins_word(self) -> bool:
        """Whether the last word of the first line and the first of the second are one word."""
        return not self.separator


SPACE = Joint(0, " ")
TOGETHER = Joint(0, "")
WITHOUT_HYPHEN = Joint(1, "")


def compounds(pages: Iterable[Page]) -> frozenset[str]:
    """Return the words that have a hyphen inside a line of the pages, in lower case, and each two neighbouring parts.

    state-of-the-art has the parts state-of, of-the and the-art.
    """
    words: set[str] = set()
    for page in pages:
        for line in page.lines:
            for match in COMPOUND.finditer(line.text):
                parts = _plain(match[0]).split("-")
                words.add("-".join(parts))
                words.update(map("-".join, pairwise(parts)))
    return frozenset(words)


def joint(first: str, second: str, known: Collection[str] = ()) -> Joint:
    """Return how a line goes on in the next. `known` are the words that have a hyphen, as `compounds` returns them.

    >>> joint("exam-", "ple"), joint("n-", "tridecanal"), joint("Vor-", "und Nachteile")
    (Joint(dropped=1, separator=''), Joint(dropped=0, separator=''), Joint(dropped=0, separator=' '))
    """
    first, second = first.rstrip(), second.lstrip()
    if not first or not second:
        return TOGETHER
    last = first[-1]
    if last == SOFT_HYPHEN:
        return WITHOUT_HYPHEN
    before = first[-2:-1]
    if last in HYPHENS and before.isalnum() and second[0].isalnum():
        return _hyphen_joint(first, second, known)
    if last in WITHOUT_SPACE_AFTER and before.strip():
        return TOGETHER
    return TOGETHER if CJK.match(last) and CJK.match(second) else SPACE


def _hyphen_joint(first: str, second: str, known: Collection[str]) -> Joint:
    """Return how a line that ends in a letter or digit and a hyphen goes on in one that begins with one."""
    head, tail = LAST_PART.search(first), FIRST_PART.match(second)
    if head is None or tail is None:  # a combining mark, say, is no \w
        return SPACE
    if tail[0].lower() in CONJUNCTIONS:
        return SPACE
    parts = _plain(head[0]).rstrip("-").split("-")
    if not (first[-2].isalpha() and second[0].islower()):
        return TOGETHER
    rest = _plain(tail[0])
    is_known = "-".join([*parts, rest]) in known or f"{parts[-1]}-{rest.split('-')[0]}" in known
    return TOGETHER if is_known or len(parts[-1]) == 1 else WITHOUT_HYPHEN


def _plain(word: str) -> str:
    """Return a word in lower case with hyphen-minus for every hyphen."""
    return re.sub(f"[{HYPHENS}]", "-", word).lower()


def joined(texts: Iterable[str], known: Collection[str] = ()) -> str:
    """Return texts of lines as one line.

    >>> joined(["a well-known exam-", "ple, well-", "known"], {"well-known"})
    'a well-known example, well-known'
    """
    result = ""
    for text in map(str.strip, texts):
        dropped, separator = joint(result, text, known)
        result = result[: len(result) - dropped] + separator + text
    return result


def flow(lines: Sequence[Line], known: Collection[str] | None) -> str:
    """Return the text of a paragraph: with `known` on one line without hyphens at line ends, else as it is printed."""
    texts = [line.text.strip() for line in lines if line.text.strip()]
    return "\n".join(texts) if known is None else joined(texts, known)
