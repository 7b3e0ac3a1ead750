"""Builds HTML; every string that is not Html already is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

NOT_ALLOWED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
VOID = {"meta", "img", "wbr"}


class Html(str):
    """A string of HTML, which only `tag` and `join` make, from escaped strings."""


def tag(name: str, /, *inside: str, **attributes: str | float) -> Html:
    """An element. Strings that are not Html are escaped; `class_` is class, `text_anchor` is text-anchor.

    >>> tag("p", "a < b ", tag("b", "c"), class_='"x"')
    '<p class="&quot;x&quot;">a &lt; b <b>c</b></p>'
    """
    items = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    opening = "".join(f' {key}="{_escaped(str(value))}"' for key, value in items)
    return Html(f"<{name}{opening}>" if name in VOID else f"<{name}{opening}>{join(inside)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """The parts one after the other; those that are not Html are escaped."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def _escaped(text: str) -> str:
    r"""The text escaped for HTML, with characters that HTML does not allow as \x.. or \u...."""
    allowed = NOT_ALLOWED.sub(lambda match: match[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))
    return html.escape(allowed)
