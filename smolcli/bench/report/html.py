"""HTML as text, in which nothing that it did not make itself is more than text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

NO_CHARACTER = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
VOID = {"meta", "img", "wbr"}


class Html(str):
    """Text that is HTML already: only `tag` and `join` make it, of texts they have escaped."""


def tag(name: str, /, *inside: str, **attributes: str | float) -> Html:
    """An element; whatever is not Html is escaped. `class_` is class, `text_anchor` is text-anchor.

    >>> tag("p", "a < b ", tag("b", "c"), class_='"x"')
    '<p class="&quot;x&quot;">a &lt; b <b>c</b></p>'
    """
    named = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    opening = "".join(f' {key}="{_escaped(str(value))}"' for key, value in named)
    return Html(f"<{name}{opening}>" if name in VOID else f"<{name}{opening}>{join(inside)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """One after the other, escaped as by `tag`."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def _escaped(text: str) -> str:
    """What is no character in HTML is written out."""
    shown = NO_CHARACTER.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))
    return html.escape(shown)
