"""Listings of programs among the text of a page: their lines stay lines, with their indents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from statistics import median, median_low

from smolcli.inputs.page import Line

MIN_LINES = 3
MIN_SHARE = 0.6  # of the lines end or begin as those of programs do
MIN_SYMBOLS = 0.4  # of the lines have what prose has not; paragraphs of laws also end in semicolons
LINE = re.compile(
    r"[;{}]\s*\Z"
    r"|\A\s*(?:def|class|import|from|return|if|for|while|try|else|elif|except|with|var|let|const|func|fn|use|public|"
    r"private|static|void|int|end|print|#include|#define)\b"
    r"|\A\s*(?://|/\*|\*/|#|@\w|\$ |>>> )"
    r"|\w\(.*\)\s*\Z|\w\s*(?:[-+*/|&]?=|:=|=>|->)\s*\S"
)
SYMBOL = re.compile(
    r"\w\(|[{}]|[=!<>]=|->|=>|:=|::|&&|\|\||\w\s*[-+*/|&]?=\s*\S|\w\[\w|#include|[)\]];\Z|\A\s*(?:return|import)\b"
)


def is_code(lines: Sequence[Line]) -> bool:
    """Whether the lines of a region look like a program rather than like prose."""
    if len(lines) < MIN_LINES:
        return False
    texts = [line.text.strip() for line in lines]
    share = sum(LINE.search(text) is not None for text in texts) / len(texts)
    return share >= MIN_SHARE and sum(SYMBOL.search(text) is not None for text in texts) >= MIN_SYMBOLS * len(texts)


def code_text(lines: Sequence[Line]) -> str:
    """Return the lines with the spaces before them, in characters of their usual width, and with empty lines."""
    widths = [(line.box.right - line.box.left) / len(line.text.strip()) for line in lines]
    width, left = max(1.0, median(widths)), min(line.box.left for line in lines)
    pitches = [b.baseline - a.baseline for a, b in pairwise(lines) if b.baseline > a.baseline]
    pitch = max(1, median_low(pitches)) if pitches else 1
    result = ""
    for number, line in enumerate(lines):
        if number:
            has_gap = line.baseline - lines[number - 1].baseline > 1.5 * pitch
            result += "\n\n" if has_gap else "\n"
        result += " " * round((line.box.left - left) / width) + line.text.strip()
    return result
