"""Shell patterns for the names and the paths of inputs, as regular expressions."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable


def name_matcher(patterns: Iterable[str]) -> Callable[[str, str], bool]:
    """Make a function that says whether a name, or the path below the directory walked, matches one of the patterns.

    Upper and lower case are the same.
    """
    patterns = tuple(patterns)
    names = [re.compile(fnmatch.translate(pattern), re.IGNORECASE) for pattern in patterns if "/" not in pattern]
    paths = [re.compile(fnmatch.translate(pattern.strip("/")), re.IGNORECASE) for pattern in patterns if "/" in pattern]
    return lambda name, below: any(regex.match(name) for regex in names) or any(regex.match(below) for regex in paths)


def path_regex(pattern: str) -> re.Pattern[str]:
    """Translate a shell pattern for paths: `*`, `?` and `[ab]` match within a name, `**` matches any folders."""
    wildcards = {"**/": "(?:[^/]+/)*", "**": ".+", "*": "[^/]*", "?": "[^/]"}
    translated = ""
    # Every other part is a wildcard or a class of characters, which may have a bracket as its first one.
    for number, part in enumerate(re.split(r"(\*\*/|\*\*|\*|\?|\[(?:[!^].|[^!^])[^]]*\])", pattern, flags=re.DOTALL)):
        is_literal = number % 2 == 0
        translated += re.escape(part) if is_literal else wildcards.get(part) or _character_class(part[1:-1])
    return re.compile(translated, re.DOTALL)


def _character_class(members: str) -> str:
    """Translate what stands in brackets; a range that runs backwards, as z-a, has no characters."""
    is_negated = members[0] in "!^"
    ranges = [
        re.escape(single) if single else f"{re.escape(first)}-{re.escape(last)}"
        for first, last, single in re.findall("(?s)(.)-(.)|(.)", members[is_negated:])
        if single or first <= last
    ]
    if not ranges:
        return "[^/]" if is_negated else "(?!)"
    return f"(?!/)[{'^' * is_negated}{''.join(ranges)}]"
